//! An archive that takes nothing, or gives nothing up: what else there is to do with the past is done all the same (CKP-7, REC-14), and nothing is lost
//! for it (CKP-3, CKP-11).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use ecsdb::{Around, Event, FileOp, Hooks, IoError, PersistenceConfig, Task, Vfs};
use ecsdb_io::sync::atomic::{AtomicU64, Ordering};
use ecsdb_sim::{Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};
use ecsdb_tests::reconfigure;

use crate::away::manifest;
use crate::lifecycle::{State, archiving, by_hand, large};
use crate::past::every_moment_is_there;

fn bare(config: &mut PersistenceConfig) {
    archiving(config);
    config.archive.compression_level = 0;
    config.snapshot.chain_max = 1;
}

fn in_archive(path: &Path) -> bool {
    path.to_string_lossy().contains("/archive/")
}

fn archived(disk: &SimDisk) -> Vec<PathBuf> {
    files(disk, ".seg").into_iter().filter(|path| in_archive(path)).collect()
}

fn logged(disk: &SimDisk) -> usize {
    files(disk, ".seg").into_iter().filter(|path| !in_archive(path)).count()
}

/// Two transactions in a segment each, and a snapshot of the second one.
fn round(db: &Database, value: u64) -> [State; 2] {
    let states = [large(db, value), large(db, value + 100)];
    db.snapshot().unwrap().wait().unwrap();
    states
}

/// The archive is on a disk of its own, of so many bytes.
struct Quota {
    disk: SimDisk,
    bytes: AtomicU64,
}

impl Hooks for Quota {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let is_taking = in_archive(path) && op == FileOp::Write;
        let taken =
            || self.disk.files().iter().filter(|(path, _)| in_archive(path)).map(|(_, len)| len).sum();
        if is_taking && u64::max(taken(), 1) > self.bytes.load(Ordering::Relaxed) {
            return Err(IoError::new(op, path, std::io::Error::from_raw_os_error(28)));
        }
        Ok(())
    }
}

struct Life {
    disk: SimDisk,
    archive: Arc<Around<Quota>>,
    db: Database,
}

impl Life {
    fn begin() -> Life {
        let disk = crashed::disk(1);
        let quota = Quota { disk: disk.clone(), bytes: AtomicU64::new(u64::MAX) };
        let archive = Arc::new(Around::new(disk.vfs(), quota));
        let vfs: Arc<dyn Vfs> = archive.clone();
        let db = builder(&disk, bare).vfs(vfs).open().unwrap();
        Life { disk, archive, db }
    }

    fn set_room(&self, bytes: u64) {
        self.archive.hooks.bytes.store(bytes, Ordering::Relaxed);
    }

    fn keep(&self, snapshots: usize) {
        reconfigure(&self.db, |config| config.retention.snapshots_max = snapshots).unwrap();
    }
}

/// What is configured to be given up makes room for what comes, on a disk that is full of it.
#[test]
fn a_full_archive_is_freed_by_a_lower_limit() {
    let life = Life::begin();
    let mut states: Vec<State> = (0..6).flat_map(|value| round(&life.db, value)).collect();
    let full = archived(&life.disk).len();
    assert!(full > 6, "{full}");
    life.set_room(1);
    states.extend((6..9).flat_map(|value| round(&life.db, value)));
    assert!(archived(&life.disk).len() == full && logged(&life.disk) > 6);
    life.keep(3);
    // It still takes nothing: what is given up goes.
    states.extend(round(&life.db, 9));
    assert!(archived(&life.disk).len() < full, "{:?}", archived(&life.disk));
    assert_eq!(files(&life.disk, ".snap").len(), 3);
    life.set_room(u64::MAX);
    states.extend(round(&life.db, 10));
    assert!(logged(&life.disk) <= 4, "{:?}", files(&life.disk, ".seg"));
    life.db.close().unwrap();
    every_moment_is_there(&life.disk, &states[states.len() - 5..], "of the last snapshots");
}

/// There is less room than what waits for it in the log: what fits goes on, and is given up in its turn.
#[test]
fn what_fits_into_an_archive_leaves_the_log() {
    let life = Life::begin();
    life.set_room(0);
    let mut states: Vec<State> = (0..8).flat_map(|value| round(&life.db, value)).collect();
    let waiting = logged(&life.disk);
    assert!(archived(&life.disk).is_empty() && waiting > 12, "{waiting}");
    life.set_room(150_000);
    states.extend(round(&life.db, 8));
    let taken = archived(&life.disk).len();
    assert!(taken > 0 && logged(&life.disk) < waiting, "{:?}", files(&life.disk, ".seg"));
    every_moment_is_there_when_it_is_closed(&life, &states);
    life.keep(2);
    for value in 9..20 {
        states.extend(round(&life.db, value));
    }
    assert!(logged(&life.disk) <= 4, "{:?}", files(&life.disk, ".seg"));
    life.db.close().unwrap();
    every_moment_is_there(&life.disk, &states[states.len() - 3..], "of the last snapshots");
}

/// In a copy, which nobody has open.
fn every_moment_is_there_when_it_is_closed(life: &Life, states: &[State]) {
    let copy = life.disk.crash(ecsdb_sim::CrashVariant::KEPT);
    builder(&copy, bare).open().unwrap().close().unwrap();
    every_moment_is_there(&copy, states, "half of it archived");
}

/// What can be listed is kept to its limits, whatever the archive does not do; what belongs there stays in the log.
#[test]
fn snapshots_do_not_pile_up_while_the_archive_refuses() {
    let ways =
        [FileOp::ReadDir, FileOp::Write, FileOp::Rename, FileOp::SyncDir, FileOp::Open, FileOp::Create];
    for (way, is_fresh) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let disk = crashed::disk(1);
        let few = |config: &mut PersistenceConfig| {
            bare(config);
            config.retention.snapshots_max = 3;
        };
        let first = builder(&disk, few).open().unwrap();
        let mut states: Vec<State> = (0..4).flat_map(|value| round(&first, value)).collect();
        let first = (!is_fresh).then_some(first);
        disk.inject(Fault::on(way).of_names_containing("world/archive").times(u64::MAX));
        let db = first.unwrap_or_else(|| builder(&disk, few).open().unwrap());
        let before = logged(&disk);
        for value in 4..10 {
            states.extend(round(&db, value));
            assert!(files(&disk, ".snap").len() <= 4, "{way:?}, {is_fresh}: {:?}", files(&disk, ".snap"));
        }
        assert!(logged(&disk) >= before + 10, "{way:?}, {is_fresh}: {:?}", files(&disk, ".seg"));
        let failures = db.stats().unwrap().store.unwrap().failures;
        assert!(failures.iter().any(|failure| failure.task == Task::Retention), "{way:?}: {failures:?}");
        disk.clear_faults();
        states.extend(round(&db, 10));
        assert!(logged(&disk) <= 4, "{way:?}, {is_fresh}: {:?}", files(&disk, ".seg"));
        db.close().unwrap();
        drop(db);
        every_moment_is_there(&disk, &states[states.len() - 5..], &format!("{way:?}, {is_fresh}"));
    }
}

/// The directory is away: nothing of it is given up for that, and nothing of the log goes without a copy.
#[test]
fn snapshots_do_not_pile_up_while_the_archive_is_away() {
    let disk = crashed::disk(1);
    let few = |config: &mut PersistenceConfig| {
        bare(config);
        config.retention.snapshots_max = 4;
    };
    let db = builder(&disk, few).open().unwrap();
    let mut states: Vec<State> = (0..4).flat_map(|value| round(&db, value)).collect();
    db.close().unwrap();
    drop(db);
    let all = disk.files().into_iter().map(|(path, _)| path).filter(|path| in_archive(path));
    let there: Vec<(PathBuf, Vec<u8>)> = all.map(|path| (path.clone(), disk.read(&path).unwrap())).collect();
    there.iter().for_each(|(path, _)| disk.erase(path).unwrap());
    let end = manifest(&disk).unwrap().archive_end;
    let db = builder(&disk, few).open().unwrap();
    states.extend((4..7).flat_map(|value| round(&db, value)));
    assert_eq!(files(&disk, ".snap").len(), 4);
    db.close().unwrap();
    drop(db);
    assert!(manifest(&disk).unwrap().first_segment <= end);
    there.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap());
    let db = builder(&disk, few).open().unwrap();
    states.extend(round(&db, 7));
    assert!(logged(&disk) <= 4, "{:?}", files(&disk, ".seg"));
    db.close().unwrap();
    every_moment_is_there(&disk, &states[states.len() - 7..], "it is back");
}

/// What was given up stays in an archive that is read-only, and nothing waits for it.
#[test]
fn what_cannot_be_removed_from_the_archive_keeps_nothing_else() {
    let disk = crashed::disk(1);
    let few = |config: &mut PersistenceConfig| {
        bare(config);
        config.retention.snapshots_max = 3;
    };
    let db = builder(&disk, few).open().unwrap();
    let mut states: Vec<State> = (0..5).flat_map(|value| round(&db, value)).collect();
    disk.inject(Fault::on(FileOp::Remove).of_names_containing("world/archive").times(u64::MAX));
    for value in 5..10 {
        states.extend(round(&db, value));
        assert_eq!(files(&disk, ".snap").len(), 3);
        assert!(logged(&disk) <= 4, "{:?}", files(&disk, ".seg"));
    }
    let garbage = || db.stats().unwrap().store.unwrap().garbage_bytes;
    assert!(garbage() > 0);
    let failures = db.stats().unwrap().store.unwrap().failures;
    assert!(failures.iter().any(|failure| failure.task == Task::Retention), "{failures:?}");
    // Those that are gone are forgotten.
    assert!(manifest(&disk).unwrap().gone.len() <= 2, "{:?}", manifest(&disk).unwrap().gone);
    disk.clear_faults();
    states.extend(round(&db, 10));
    assert_eq!(garbage(), 0);
    db.close().unwrap();
    every_moment_is_there(&disk, &states[states.len() - 5..], "removed");
}

/// A snapshot's file that cannot be removed is still given up when it can be.
#[test]
fn one_file_that_cannot_be_removed_keeps_no_other() {
    let disk = crashed::disk(1);
    let few = |config: &mut PersistenceConfig| {
        bare(config);
        config.retention.snapshots_max = 3;
    };
    let db = builder(&disk, few).open().unwrap();
    disk.inject(Fault::on(FileOp::Remove).of_names_ending("01.snap").times(u64::MAX));
    for value in 0..8 {
        round(&db, value);
        assert!(files(&disk, ".snap").len() <= 4, "{:?}", files(&disk, ".snap"));
        assert!(logged(&disk) <= 4, "{:?}", files(&disk, ".seg"));
    }
    disk.clear_faults();
    round(&db, 8);
    assert_eq!(files(&disk, ".snap").len(), 3, "{:?}", files(&disk, ".snap"));
}

/// Each failure of what comes after a compaction had all of it done again: a full rewrite a minute.
#[test]
fn an_automatic_compaction_is_done_though_the_archive_refuses() {
    let disk = crashed::disk(1);
    disk.inject(Fault::on(FileOp::ReadDir).of_names_containing("world/archive").times(u64::MAX));
    let due = |config: &mut PersistenceConfig| {
        by_hand(config);
        config.archive.enabled = Some(true);
        config.compaction.interval = Duration::from_millis(1);
    };
    let db = Database::builder(DIR).vfs(disk.vfs()).config(due).open().unwrap();
    let mut events = db.events();
    let (last, _) = large(&db, 1);
    let began = Instant::now();
    let mut compacted = Vec::new();
    let mut failed = 0;
    // The trim is tried again and again; the compaction is done.
    while failed < 3 && began.elapsed() < Duration::from_secs(60) {
        match events.try_next() {
            Some(Event::Compacted(info)) => compacted.push(info.lsn),
            Some(Event::Failed { task: Task::Retention, .. }) => failed += 1,
            Some(Event::Failed { task, error, .. }) => panic!("{task}: {error}"),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    assert_eq!((failed, &compacted[..]), (3, &[last][..]));
    // By hand, it is told that what it covers is still there.
    assert!(db.compact().unwrap().wait().is_err());
}
