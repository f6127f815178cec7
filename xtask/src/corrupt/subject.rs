//! What is damaged: small databases that have lived, as they lay on the disk when they were closed or killed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ecsdb::{Database, Digest, PersistenceConfig, RecoveryReport};
use ecsdb_io::{FileKind, Layout};
use ecsdb_sim::{Journal, SimDisk};
use ecsdb_snapshot::Manifest;
use ecsdb_tests::crashed::{self, DIR, Event};
use ecsdb_tests::scripts;
use ecsdb_wal::SegmentReader;

/// A database before the damage.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) disk: SimDisk,
    pub(super) settings: fn(&mut PersistenceConfig),
    pub(super) files: Vec<File>,
    /// The digest after each transaction; of the empty world, too.
    pub(super) history: BTreeMap<u64, Digest>,
    /// The last transaction; it was acknowledged.
    pub(super) last: u64,
    pub(super) proofs: Vec<Proof>,
    /// What an opening finds without any damage.
    pub(super) findings: String,
}

pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) class: Class,
    pub(super) bytes: Vec<u8>,
    /// What was under this name earlier.
    pub(super) older: Vec<Vec<u8>>,
    /// What another database has under this name.
    pub(super) foreign: Option<Vec<u8>>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Manifest,
    Log,
    Snapshot,
    Archive,
    /// The lock, and the reports of recoveries.
    Other,
}

/// Bytes which, as long as nobody touches them, prove that everything up to `lsn` had been durable.
pub(super) struct Proof {
    pub(super) lsn: u64,
    pub(super) file: usize,
    pub(super) bytes: Range<usize>,
}

/// How a database came to its end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Closed,
    Killed,
    /// With the next segment of the log prepared, as a thread does it.
    KilledPrepared,
}

/// A few transactions in one segment, without any snapshot.
fn few(disk: &SimDisk, journal: &Journal<Event>) -> ecsdb::Result<Database> {
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    let db = crashed::open_with(disk, plain)?;
    scripts::first(&db, journal)?;
    for _ in 0..4 {
        scripts::step(&db, journal, true)?;
    }
    Ok(db)
}

fn plain(_: &mut PersistenceConfig) {}

/// An archive that is not compressed, compressed snapshots, and full ones only.
fn other_way_round(config: &mut PersistenceConfig) {
    config.snapshot.chain_max = 1;
    config.snapshot.compression_level = 1;
    config.archive.enabled = Some(true);
    config.archive.compression_level = 0;
    config.retention.snapshots_max = 5;
}

type Script = fn(&SimDisk, &Journal<Event>) -> ecsdb::Result<Database>;
type Settings = fn(&mut PersistenceConfig);

const SUBJECTS: &[(&str, Script, Settings, End)] = &[
    ("few transactions, closed", few, plain, End::Closed),
    ("few transactions, killed", few, plain, End::Killed),
    (
        "tour, closed",
        |disk, journal| scripts::tour(disk, journal, scripts::keeping),
        scripts::keeping,
        End::Closed,
    ),
    (
        "tour, killed with the next segment prepared",
        |disk, journal| scripts::tour(disk, journal, scripts::keeping),
        scripts::keeping,
        End::KilledPrepared,
    ),
    (
        "tour the other way round, killed",
        |disk, journal| scripts::tour(disk, journal, other_way_round),
        other_way_round,
        End::Killed,
    ),
];

/// All of them; the same in every run.
pub(super) fn subjects() -> anyhow::Result<Vec<Subject>> {
    let made = SUBJECTS.iter().map(|&(name, script, settings, end)| {
        Subject::new(name, script, settings, end).with_context(|| format!("making “{name}”"))
    });
    made.collect()
}

const SEED: u64 = 1;
const FOREIGN_SEED: u64 = 2;
/// Moments of its life at which older generations of its files are looked for.
const MOMENTS: u64 = 12;

impl Subject {
    fn new(name: &'static str, script: Script, settings: Settings, end: End) -> anyhow::Result<Subject> {
        let (disk, journal) = (SimDisk::new(SEED), Journal::new());
        let db = script(&disk, &journal)?;
        let log = newest_segment(&disk)?;
        let before = disk.read(&log)?;
        scripts::step(&db, &journal, true)?;
        let last_group = appended(&before, &disk.read(&log)?);
        let last = db.lsn().0;
        let disk = match end {
            End::Closed => {
                db.close()?;
                disk
            }
            End::Killed | End::KilledPrepared => disk.crash(ecsdb_sim::CrashVariant::KEPT),
        };
        if end == End::KilledPrepared {
            let number: u64 = log.file_stem().and_then(|stem| stem.to_str()).context("a number")?.parse()?;
            disk.put(log.with_file_name(FileKind::Segment.name(number + 1)), &[0; 64 << 10])?;
        }

        // Their text says when and how fast: the images would have other numbers in each run.
        for (path, _) in disk.files() {
            if path.ends_with("LOCK") || path.extension().is_some_and(|ending| ending == "txt") {
                disk.put(&path, b"a process, a time; or what a recovery found\n")?;
            }
        }

        let mut history = BTreeMap::from([(0, crashed::EMPTY)]);
        history.extend(journal.take().into_iter().filter_map(|event| match event {
            Event::Committed(lsn, digest) => Some((lsn.0, digest)),
            _ => None,
        }));
        let foreign = SimDisk::new(FOREIGN_SEED);
        script(&foreign, &Journal::new())?.close()?;
        let mut files = Vec::new();
        for (path, _) in disk.files() {
            let (bytes, class) = (disk.read(&path)?, Class::of(&path));
            files.push(File { foreign: foreign.read(&path).ok(), path, class, bytes, older: Vec::new() });
        }
        for moment in 1..MOMENTS {
            let earlier = SimDisk::new(SEED);
            earlier.stop_before(disk_operations(script)? * moment / MOMENTS);
            drop(script(&earlier, &Journal::new()));
            for file in files.iter_mut().filter(|file| file.class != Class::Other) {
                let Ok(bytes) = earlier.read(&file.path) else { continue };
                if bytes != file.bytes && !file.older.contains(&bytes) {
                    file.older.push(bytes);
                }
            }
        }
        let (proofs, findings) = (Vec::new(), String::new());
        let mut subject = Subject { name, disk, settings, files, history, last, proofs, findings };
        subject.find_proofs(&log, last_group, last)?;
        subject.check()?;
        Ok(subject)
    }

    fn find_proofs(&mut self, log: &Path, last_group: Range<usize>, last: u64) -> anyhow::Result<()> {
        let mut proofs = Vec::new();
        for (file, File { path, class, bytes, .. }) in self.files.iter().enumerate() {
            match class {
                Class::Manifest => {
                    let lsn = Manifest::read(&self.disk, path)?.durable_lsn;
                    proofs.push(Proof { lsn, file, bytes: 0..bytes.len() });
                }
                Class::Log => {
                    if let Some(reader) = SegmentReader::open(&self.disk, path)? {
                        let lsn = reader.header().previous.last_lsn.0;
                        proofs.push(Proof { lsn, file, bytes: 0..4096 });
                    }
                    // What is written last proves all that came before.
                    if path == log {
                        proofs.push(Proof { lsn: last - 1, file, bytes: last_group.clone() });
                    }
                }
                _ => {}
            }
        }
        self.proofs = proofs;
        Ok(())
    }

    /// That it has what it is for.
    fn check(&mut self) -> anyhow::Result<()> {
        let classes: BTreeSet<Class> = self.files.iter().map(|file| file.class).collect();
        let all = if self.name.starts_with("few") { 3 } else { 5 };
        ensure!(classes.len() >= all, "it has {classes:?} only: {:?}", self.disk.files());
        let whole = crashed::open_with(&self.disk.crash(ecsdb_sim::CrashVariant::KEPT), self.settings)?;
        ensure!(whole.lsn().0 == self.last, "it ends with LSN {}, not {}", whole.lsn(), self.last);
        self.findings = whole.recovery_report().map(findings).unwrap_or_default();
        Ok(())
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::new(PathBuf::from(DIR))
    }
}

/// What an opening found and did, and no figures.
pub(super) fn findings(report: &RecoveryReport) -> String {
    let RecoveryReport { rejected, removed, set_aside, tail, lost, data_loss, .. } = report;
    format!("{rejected:?} {removed:?} {set_aside:?} {tail:?} {lost:?} {data_loss:?}")
}

impl Class {
    pub(super) fn of(path: &Path) -> Class {
        let within = |dir| path.parent().is_some_and(|parent| parent.ends_with(dir));
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("seg") if within("log") => Class::Log,
            Some("snap") => Class::Snapshot,
            Some("seg" | "zst") => Class::Archive,
            Some("manifest") => Class::Manifest,
            _ => Class::Other,
        }
    }
}

fn disk_operations(script: Script) -> anyhow::Result<u64> {
    let disk = SimDisk::new(SEED);
    drop(script(&disk, &Journal::new())?);
    Ok(disk.operations())
}

fn newest_segment(disk: &SimDisk) -> anyhow::Result<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    files.filter(|path| Class::of(path) == Class::Log).max().context("there is no log")
}

/// Where bytes were added.
fn appended(before: &[u8], after: &[u8]) -> Range<usize> {
    let from = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let to = after.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    from..to.max(from)
}
