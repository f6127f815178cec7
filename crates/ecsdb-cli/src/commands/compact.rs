//! `ecsdb compact`

use anyhow::Result;
use clap::Args;
use ecsdb_compactor::Archiving;
use ecsdb_io::{FileKind, numbered_files};
use indicatif::HumanBytes;
use serde_json::json;

use super::info::Info;
use super::past::{GivenUp, Past, warn_of_failures};
use crate::interrupt;
use crate::output::{Output, many};
use crate::place::{Look, Place, follow};

/// Options of `compact`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Say what there is to merge and what the settings would let go, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    if options.dry_run {
        return dry_run(&options.place, out);
    }
    interrupt::hold();
    let settled = options.place.settle()?;
    let (before, past) = (settled.look(Taken::by)?, settled.look(Past::of)?);
    let db = settled.open(None)?;
    let mut events = db.events();
    interrupt::check()?;
    let digest = db.view()?.digest()?;
    let info = follow(db.compact()?)?;
    anyhow::ensure!(db.view()?.digest()? == digest, "the digest has changed; this is a bug of ecsdb");
    db.close()?;
    warn_of_failures(&mut events);
    let given_up = settled.look(|look| past.lost_to(look))?;
    let after = settled.look(Taken::by)?;
    let written = after.snapshot != before.snapshot;
    if out.is_json() {
        return out.json(&json!({
            "lsn": info.lsn.0, "bytes_before": before.bytes, "bytes_after": after.bytes,
            "digest": digest.to_string(), "written": written, "given_up": given_up.json(),
        }));
    }
    let what = match written {
        true => format!("compacted at LSN {}", info.lsn),
        false => nothing_to_merge(info.sequence, info.lsn.0),
    };
    let (before, after) = (HumanBytes(before.bytes), HumanBytes(after.bytes));
    out.line(format_args!("{what}: {before} before, {after} after, digest {digest} as before"))?;
    out.line(given_up.line(true))
}

fn nothing_to_merge(number: u64, lsn: u64) -> String {
    format!("snapshot {number} is full and has everything already, up to LSN {lsn}")
}

/// What a closed database takes: while it is open it has segments with room for what is to come.
struct Taken {
    /// Of snapshots, log and archive.
    bytes: u64,
    /// The newest snapshot.
    snapshot: Option<u64>,
}

impl Taken {
    fn by(look: &Look<'_>) -> Result<Taken> {
        let kinds = [FileKind::Snapshot, FileKind::Segment, FileKind::CompressedSegment];
        let mut bytes = 0;
        for dir in look.layout.data_dirs() {
            match numbered_files(look.vfs(), dir, &kinds) {
                Ok(files) => bytes += files.iter().map(|file| file.bytes).sum::<u64>(),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Taken { bytes, snapshot: look.manifest.snapshots.last().map(|newest| newest.sequence) })
    }
}

fn dry_run(place: &Place, out: &mut Output) -> Result<()> {
    let settled = place.settle()?;
    let settings = settled.store_settings();
    let (info, newest, merged, given_up) = settled.look(|look| {
        let snapshots = &look.manifest.snapshots;
        let (newest, merged) = (snapshots.last().copied(), snapshots.iter().map(|entry| entry.bytes).sum());
        let info = Info::of(look)?;
        let given_up = GivenUp::foreseen(look, &settings, info.seen.view.lsn(), true)?;
        Ok((info, newest, merged, given_up))
    })?;
    given_up.warn();
    let keeps_all = settings.retention.is_none() && settings.archive == Archiving::AsBefore;
    let lsn = info.seen.view.lsn();
    if out.is_json() {
        return out.json(&json!({
            "lsn": lsn.0, "snapshot_bytes": merged, "log_bytes": info.log.bytes, "keeps_all": keeps_all,
            "written": false, "would_write": given_up.writes, "given_up": given_up.json(),
        }));
    }
    if let Some(newest) = newest.filter(|_| !given_up.writes) {
        out.line(nothing_to_merge(newest.sequence, newest.lsn))?;
        return out.line(given_up.line(false));
    }
    let log = many(info.log.count, "log segment", "log segments");
    let (snapshots, bytes) = (HumanBytes(merged), HumanBytes(info.log.bytes));
    out.line(format_args!(
        "{log} ({bytes}) and {snapshots} of snapshots would become one full snapshot at LSN {lsn}"
    ))?;
    out.line(given_up.line(false))
}
