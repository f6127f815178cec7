//! `ecsdb info`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ecsdb::{Lsn, Moment};
use ecsdb_io::FileKind;
use ecsdb_recovery::{History, archive_away, earliest, lacks_manifest, missing_files, unlisted_archive};
use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::segment_files;
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value as Json, json};

use super::verify::LACKS_MANIFEST;
use super::watch;
use crate::output::{self, Output, many};
use crate::place::{Look, Place, Seen};
use crate::times;

/// Options of `info`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// A live view in the terminal, until `q` or Ctrl-C; with `--json` a line each second.
    #[arg(long)]
    watch: bool,
}

/// Files of one kind.
pub(crate) struct Files {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Files {
    /// The segments in a directory.
    pub(crate) fn of(look: &Look<'_>, dir: &Path) -> Result<Files> {
        let mut all = Files { count: 0, bytes: 0 };
        for file in segment_files(look.vfs(), &[dir.into()])? {
            all.count += 1;
            all.bytes += look.vfs().file_len(&file.path)?.unwrap_or(0);
        }
        Ok(all)
    }
}

/// A retained snapshot.
struct Entry {
    number: u64,
    lsn: u64,
    unix_ns: u64,
    bytes: u64,
    parent: u64,
}

impl Entry {
    fn json(&self) -> Json {
        json!({
            "number": self.number, "lsn": self.lsn, "time": times::json(self.unix_ns), "bytes": self.bytes,
            "increment_of": (self.parent > 0).then_some(self.parent),
        })
    }
}

/// The snapshots that are there, and that everything is there of which they need.
fn entries(look: &Look<'_>, missing: &[PathBuf]) -> Vec<Entry> {
    let entry = |entry: &SnapshotEntry| Entry {
        number: entry.sequence,
        lsn: entry.lsn,
        unix_ns: entry.created_unix_ns,
        bytes: entry.bytes,
        parent: entry.parent,
    };
    whole(look, missing).iter().map(entry).collect()
}

fn whole(look: &Look<'_>, missing: &[PathBuf]) -> Vec<SnapshotEntry> {
    let is_missing = |number| missing.contains(&look.layout.file(FileKind::Snapshot, number));
    let named = &look.manifest.snapshots;
    let lacks = |entry: &SnapshotEntry| {
        named.iter().any(|other| entry.uses(other.sequence) && is_missing(other.sequence))
    };
    named.iter().filter(|entry| !lacks(entry)).copied().collect()
}

/// What a database has, told from its files.
pub(crate) struct Info {
    pub(crate) seen: Seen,
    pub(crate) log: Files,
    pub(crate) archive: Files,
    pub(crate) quarantined: u64,
    snapshots: Vec<Entry>,
    /// First and last moment that can be gone back to: LSN and time.
    range: Option<((u64, u64), (u64, u64))>,
    incarnation: u64,
    lost: Option<(u64, String)>,
    /// Files that are not where they should be.
    away: Vec<PathBuf>,
    /// Snapshots and segments of the log that are gone.
    missing: Vec<PathBuf>,
    lacks_manifest: bool,
}

impl Info {
    pub(crate) fn of(look: &Look<'_>) -> Result<Info> {
        let history = look.history()?;
        let seen = look.see_by(&history, Moment::Latest)?;
        let none = || Files { count: 0, bytes: 0 };
        let mut info = Info {
            seen,
            log: none(),
            archive: none(),
            quarantined: 0,
            snapshots: Vec::new(),
            range: None,
            incarnation: 0,
            lost: None,
            away: Vec::new(),
            missing: Vec::new(),
            lacks_manifest: false,
        };
        info.refresh(look, &history)?;
        Ok(info)
    }

    /// Reads all but the state once more.
    pub(crate) fn refresh(&mut self, look: &Look<'_>, history: &History<'_>) -> Result<()> {
        self.log = Files::of(look, look.layout.log_dir())?;
        let is_unlisted = unlisted_archive(look.vfs(), look.layout).is_some();
        self.archive = match is_unlisted {
            true => Files { count: 0, bytes: 0 },
            false => Files::of(look, look.layout.archive_dir())?,
        };
        self.quarantined = match look.vfs().read_dir(&look.layout.quarantine_dir()) {
            Ok(entries) => entries.len() as u64,
            Err(e) if e.is_not_found() => 0,
            Err(e) => return Err(e.into()),
        };
        self.missing = missing_files(look.vfs(), look.layout, look.manifest)?;
        self.lacks_manifest = lacks_manifest(look.vfs(), look.layout, look.manifest)?;
        self.snapshots = entries(look, &self.missing);
        // The state may be of a moment ago, and further on than what was looked at before it.
        let (lsn, unix_ns) = (self.seen.view.lsn().0, self.seen.unix_ns);
        let last = |(last, at): (Lsn, u64)| if last.0 < lsn { (lsn, at.max(unix_ns)) } else { (last.0, at) };
        // A snapshot that is gone is nothing to go back to, nor from.
        let there = Manifest { snapshots: whole(look, &self.missing), ..look.manifest.clone() };
        let first = match self.missing.is_empty() {
            true => None,
            false => earliest(look.vfs(), look.layout, &there)?,
        };
        self.range = history.range().map(|(named, end)| {
            let (first, at) = first.filter(|first| first.0 > named.0).unwrap_or(named);
            ((first.0, at), last(end))
        });
        self.incarnation = look.manifest.incarnation;
        let away = look.manifest.away.iter();
        self.away = away.map(|entry| look.layout.file(FileKind::Snapshot, entry.sequence)).collect();
        self.away.extend(archive_away(look.vfs(), look.layout, look.manifest)?);
        let archive = look.layout.archive_dir();
        if is_unlisted && look.manifest.kept.archive != 0 && self.away.iter().all(|path| path != archive) {
            self.away.push(archive.into());
        }
        self.lost = history.lost().map(|(first, what)| (first.0, what.to_string()));
        Ok(())
    }

    pub(crate) fn json(&self) -> Json {
        let moment = |(lsn, at): (u64, u64)| json!({ "lsn": lsn, "time": times::json(at) });
        let snapshots: Vec<Json> = self.snapshots.iter().map(Entry::json).collect();
        json!({
            "state": self.seen.json(),
            "entities": self.seen.view.len(),
            "memory_bytes": self.seen.view.live_bytes(),
            "openings": self.incarnation,
            "snapshots": snapshots,
            "log": { "segments": self.log.count, "bytes": self.log.bytes },
            "archive": { "segments": self.archive.count, "bytes": self.archive.bytes },
            "moments": self.range.map(|(first, last)| json!({ "first": moment(first), "last": moment(last) })),
            "quarantined": self.quarantined,
            "lost": self.lost.as_ref().map(|(lsn, what)| json!({ "from_lsn": lsn, "what": what })),
            "torn_tail": self.seen.report.tail,
            "away": paths(&self.away),
            "missing": paths(&self.missing),
            "lacks_manifest": self.lacks_manifest,
        })
    }

    /// Name and value of each line that is shown.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, value: String| vec![name.to_string(), value];
        let files = |files: &Files| {
            format!("{}, {}", many(files.count, "segment", "segments"), HumanBytes(files.bytes))
        };
        let bytes: u64 = self.snapshots.iter().map(|entry| entry.bytes).sum();
        let mut rows = vec![
            row("state", self.seen.line()),
            row("entities", HumanCount(self.seen.view.len() as u64).to_string()),
            row("bytes in memory", HumanBytes(self.seen.view.live_bytes()).to_string()),
            row(
                "snapshots",
                match self.snapshots.last() {
                    Some(newest) => {
                        format!(
                            "{} of {} in all, the newest at LSN {}",
                            self.snapshots.len(),
                            HumanBytes(bytes),
                            newest.lsn
                        )
                    }
                    None => "none".into(),
                },
            ),
            row("log", files(&self.log)),
            row("archive", files(&self.archive)),
        ];
        match self.range {
            Some(((first, from), (last, to))) => {
                let (from, to) = (times::local(from), times::local(to));
                rows.push(row("can go back to", format!("any moment from LSN {first} to {last}, or")));
                // Both on one line are more than a live view has room for.
                rows.extend([row("", format!("from {from}")), row("", format!("to {to}"))]);
            }
            None => rows.push(row("can go back to", "nothing was committed yet".into())),
        }
        rows.push(row("opened", many(self.incarnation, "time", "times")));
        if self.quarantined > 0 {
            rows.push(row(
                "set aside",
                format!("{} in quarantine", many(self.quarantined, "entry", "entries")),
            ));
        }
        for path in &self.away {
            let what = "is not there; moments that need it are out of reach until it is back";
            rows.push(row("AWAY", format!("{} {what}", path.display())));
        }
        for path in &self.missing {
            rows.push(row("MISSING", format!("{}; `ecsdb verify` says what needs it", path.display())));
        }
        if self.lacks_manifest {
            rows.push(row("MISSING", format!("a manifest: {LACKS_MANIFEST}")));
        }
        if let Some((lsn, what)) = &self.lost {
            rows.push(row("LOST", format!("from LSN {lsn} on: {what}")));
        }
        if let Some(tail) = &self.seen.report.tail {
            rows.push(row("torn tail", tail.clone()));
        }
        rows
    }

    pub(crate) fn print(&self, out: &mut Output) -> Result<()> {
        out.table(&[], self.rows())?;
        snapshots(&self.snapshots, out)
    }
}

fn paths(files: &[PathBuf]) -> Vec<Json> {
    files.iter().map(|file| output::path(file)).collect()
}

fn snapshots(entries: &[Entry], out: &mut Output) -> Result<()> {
    let rows = entries.iter().map(|entry| {
        vec![
            entry.number.to_string(),
            entry.lsn.to_string(),
            times::local(entry.unix_ns),
            HumanBytes(entry.bytes).to_string(),
            if entry.parent > 0 { format!("increment of {}", entry.parent) } else { "full".into() },
        ]
    });
    out.table(&["snapshot", "LSN", "taken", "bytes", "kind"], rows.collect())
}

/// `ecsdb snapshot --list`
pub(crate) fn list_snapshots(place: &Place, out: &mut Output) -> Result<()> {
    let listed = |look: &Look<'_>| {
        let mut missing = missing_files(look.vfs(), look.layout, look.manifest)?;
        missing.retain(|path| path.starts_with(look.layout.snapshot_dir()));
        Ok((entries(look, &missing), missing))
    };
    let (entries, missing) = place.settle()?.look_closely(listed, |(_, missing)| missing.clone())?;
    if out.is_json() {
        let all: Vec<Json> = entries.iter().map(Entry::json).collect();
        return out.json(&json!({ "snapshots": all, "missing": paths(&missing) }));
    }
    if entries.is_empty() {
        out.line("no snapshots")?;
    }
    snapshots(&entries, out)?;
    missing.iter().try_for_each(|path| out.line(format_args!("MISSING {}", path.display())))
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let settled = options.place.settle()?;
    if options.watch {
        return watch::run(&settled, out);
    }
    let doubts = |info: &Info| (info.away.clone(), info.missing.clone(), info.lacks_manifest);
    let info = settled.look_closely(Info::of, doubts)?;
    if out.is_json() { out.json(&info.json()) } else { info.print(out) }
}
