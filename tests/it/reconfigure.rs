//! Each setting that is live, changed while the database runs and seen in what it does; and changes that are refused.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ecsdb::config::{Applies, settings};
use ecsdb::prelude::*;
use ecsdb::{ByteSize, Describe, Error, Event, LogError, PersistenceConfig, Task};
use ecsdb_core::describe::{Shape, TooDeep, Types, Visitor};
use ecsdb_io::{Disk, FileKind, Layout};
use ecsdb_snapshot::{Kept, Manifest};

use crate::components::{Counter, Name};
use crate::lifecycle::by_hand;

const LONG: Duration = Duration::from_secs(3600);

/// A database in which nothing happens by itself, in segments of 64 KiB.
fn open(dir: &tempfile::TempDir, change: impl FnOnce(&mut PersistenceConfig)) -> Database {
    Database::builder(dir.path()).config(by_hand).config(change).open().unwrap()
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn set(db: &Database, change: impl FnMut(&mut PersistenceConfig)) {
    drop(db.reconfigure_with(change).unwrap());
}

/// Commits about so many KiB of text that does not compress away to nothing.
fn write(db: &Database, kib: usize) {
    let mut random = fastrand::Rng::new();
    let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(kib << 10).collect();
    db.write(|tx| Ok(tx.spawn(Name(text)))).unwrap();
}

fn snapshot(db: &Database) -> u64 {
    write(db, 1);
    db.snapshot().unwrap().wait().unwrap().bytes
}

fn store(db: &Database) -> ecsdb::StoreStats {
    db.stats().unwrap().store.unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn until_snapshot(db: &Database) {
    let lsn = db.lsn();
    until("a snapshot", || store(db).snapshot_lsn >= lsn);
}

/// Whether a compaction came by itself once the setting was changed, and none did before.
fn until_compacted(db: &Database, change: impl FnMut(&mut PersistenceConfig)) {
    let mut events = db.events();
    let mut compacted =
        || std::iter::from_fn(|| events.try_next()).any(|event| matches!(event, Event::Compacted(_)));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!compacted());
    set(db, change);
    until("a compaction", compacted);
}

fn files(dir: &Path, ending: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(ending)).count()
}

/// The tests below, by their names.
#[test]
fn every_live_setting_has_its_test() {
    let tests = include_str!("reconfigure.rs");
    for setting in settings().iter().filter(|setting| setting.applies == Applies::Live) {
        let name = setting.key.replace('.', "_");
        assert!(tests.contains(&format!("#[test]\nfn {name}()")), "no test of {}", setting.key);
    }
}

#[test]
fn wal_segment_bytes_max() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let segments = || db.stats().unwrap().log.unwrap().segments;
    let write_mib = || {
        let before = segments();
        (0..32).for_each(|_| write(&db, 32));
        segments() - before
    };
    let small = write_mib();
    set(&db, |config| config.wal.segment_bytes_max = ByteSize::mib(4));
    (0..3).for_each(|_| _ = write_mib());
    let large = write_mib();
    set(&db, |config| config.wal.segment_bytes_max = ByteSize::kib(64));
    let small_again = write_mib();
    assert!(small >= 16 && large <= 2 && small_again >= 16, "{small} {large} {small_again} segments");
}

#[test]
fn wal_flush_interval() {
    let dir = dir();
    let db = open(&dir, |config| config.wal.flush_interval = LONG);
    db.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(1)))).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(db.durable_lsn() < db.lsn());
    set(&db, |config| config.wal.flush_interval = Duration::from_millis(1));
    until("a flush", || db.durable_lsn() == db.lsn());
}

#[test]
fn wal_queue_bytes_max() {
    let dir = dir();
    let db = open(&dir, |config| {
        config.wal.flush_interval = LONG;
        config.wal.queue_bytes_max = ByteSize::kib(64);
    });
    let waits_after = |db: &Database| {
        for _ in 0..2 {
            db.write_with(Durability::Buffered, |tx| Ok(tx.spawn(Name("x".repeat(100 << 10))))).unwrap();
        }
        let waits = db.stats().unwrap().log.unwrap().admission_waits;
        db.sync().unwrap();
        waits
    };
    let before = waits_after(&db);
    assert!(before > 0, "the second has to wait");
    set(&db, |config| config.wal.queue_bytes_max = ByteSize::mib(1));
    assert_eq!(waits_after(&db), before);
    set(&db, |config| config.wal.queue_bytes_max = ByteSize::kib(64));
    assert!(waits_after(&db) > before);
}

#[test]
fn wal_transaction_bytes_max() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let large = || db.write(|tx| Ok(tx.spawn(Name("x".repeat(100 << 10)))));
    large().unwrap();
    set(&db, |config| config.wal.transaction_bytes_max = ByteSize::kib(64));
    let refused = large().unwrap_err();
    assert!(matches!(refused, Error::Log(LogError::TransactionTooLarge { limit: 65_536, .. })), "{refused}");
    set(&db, |config| config.wal.transaction_bytes_max = ByteSize::mib(1));
    large().unwrap();
}

#[test]
fn wal_segment_age_max() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let segments = || db.stats().unwrap().log.unwrap().segments;
    write(&db, 1);
    std::thread::sleep(Duration::from_millis(20));
    let before = segments();
    set(&db, |config| config.wal.segment_age_max = Duration::from_millis(1));
    until("the end of the segment under way", || segments() > before);
    write(&db, 1);
    until("the end of the next one", || segments() > before + 1);
}

#[test]
fn wal_compression_level() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let large = || {
        let before = db.stats().unwrap().log.unwrap().bytes_written;
        db.write(|tx| Ok(tx.spawn(Name("x".repeat(1 << 20))))).unwrap();
        db.sync().unwrap();
        db.stats().unwrap().log.unwrap().bytes_written - before
    };
    let plain = large();
    set(&db, |config| config.wal.compression_level = 1);
    let compressed = large();
    assert!(compressed * 10 < plain, "{plain} and {compressed} bytes");
}

#[test]
fn snapshot_compression_level() {
    let dir = dir();
    let db = open(&dir, |config| {
        config.snapshot.chain_max = 1;
        config.snapshot.compression_level = 0;
    });
    db.write(|tx| Ok(tx.spawn(Name("x".repeat(1 << 20))))).unwrap();
    let plain = snapshot(&db);
    set(&db, |config| config.snapshot.compression_level = 3);
    let compressed = snapshot(&db);
    assert!(compressed * 10 < plain, "{plain} and {compressed} bytes");
}

/// Names of the threads that encoded a value.
static ENCODED_BY: Mutex<Vec<Option<String>>> = Mutex::new(Vec::new());

#[derive(Clone, rkyv::Archive, rkyv::Deserialize)]
struct Watched(u8);

impl<S: rkyv::rancor::Fallible + ?Sized> rkyv::Serialize<S> for Watched {
    fn serialize(&self, _: &mut S) -> Result<Self::Resolver, S::Error> {
        ENCODED_BY.lock().unwrap().push(std::thread::current().name().map(String::from));
        Ok(WatchedResolver(()))
    }
}

impl Describe for Watched {
    fn shape(types: &mut Types) -> Shape {
        Shape::Struct(vec![types.opaque_field::<u8>("it", 0, ("it", 1), (1, 1))])
    }

    fn layout(_: ecsdb_core::__private::Stored) -> (usize, usize) {
        (1, 1)
    }

    fn visit(&self, _: &mut Visitor) -> Result<(), TooDeep> {
        Ok(())
    }
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "test.watched", archived)]
struct Encoded(Watched);

/// One thread is that of the work itself; several are its own, which have no name.
#[test]
fn snapshot_threads() {
    let dir = dir();
    let db = open(&dir, |config| {
        config.snapshot.chain_max = 1;
        config.snapshot.threads = 1;
    });
    db.write(|tx| Ok(tx.spawn(Encoded(Watched(1))))).unwrap();
    let encoded_by = || {
        ENCODED_BY.lock().unwrap().clear();
        snapshot(&db);
        std::mem::take(&mut *ENCODED_BY.lock().unwrap())
    };
    assert_eq!(encoded_by(), [Some("ecsdb-snapshot".into())]);
    set(&db, |config| config.snapshot.threads = 3);
    assert_eq!(encoded_by(), [None]);
}

#[test]
fn snapshot_chain_max() {
    let dir = dir();
    let db = open(&dir, |config| config.snapshot.chain_max = 1);
    // Something that an increment need not write again.
    db.write(|tx| Ok(tx.spawn_batch((0..10_000).map(Counter)))).unwrap();
    let chain = || {
        snapshot(&db);
        store(&db).chain_files
    };
    assert_eq!([chain(), chain()], [1, 1]);
    set(&db, |config| config.snapshot.chain_max = 3);
    assert_eq!(chain(), 2);
    set(&db, |config| config.snapshot.chain_max = 1);
    assert_eq!(chain(), 1);
}

#[test]
fn snapshot_after_transactions() {
    let dir = dir();
    let db = open(&dir, |_| {});
    (0..5).for_each(|_| write(&db, 1));
    set(&db, |config| config.snapshot.after_transactions = 5);
    until_snapshot(&db);
}

#[test]
fn snapshot_after_log_bytes() {
    let dir = dir();
    let db = open(&dir, |_| {});
    write(&db, 100);
    set(&db, |config| config.snapshot.after_log_bytes = ByteSize::kib(90));
    until_snapshot(&db);
}

#[test]
fn snapshot_after_segments() {
    let dir = dir();
    let db = open(&dir, |_| {});
    for _ in 0..3 {
        write(&db, 1);
        db.rotate_log().unwrap();
    }
    set(&db, |config| config.snapshot.after_segments = 3);
    until_snapshot(&db);
}

#[test]
fn snapshot_interval() {
    let dir = dir();
    let db = open(&dir, |config| config.snapshot.interval = LONG);
    write(&db, 1);
    set(&db, |config| config.snapshot.interval = Duration::from_millis(1));
    until_snapshot(&db);
}

/// At the rate that it begins with it would take an hour.
#[test]
fn snapshot_bytes_per_second_max() {
    let dir = dir();
    let db = open(&dir, |config| config.snapshot.bytes_per_second_max = ByteSize::kib(1));
    write(&db, 4 << 10);
    let job = db.snapshot().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!job.is_finished());
    set(&db, |config| config.snapshot.bytes_per_second_max = ByteSize(0));
    job.wait().unwrap();
}

#[test]
fn archive_enabled() {
    let dir = dir();
    let archive = dir.path().join("archive");
    let db = open(&dir, |config| config.retention.snapshots_max = 100);
    let pass = || {
        for _ in 0..3 {
            db.rotate_log().unwrap();
            snapshot(&db);
        }
        files(&archive, ".zst")
    };
    set(&db, |config| config.snapshot.chain_max = 1);
    assert_eq!(pass(), 0);
    set(&db, |config| config.archive.enabled = Some(true));
    assert!(pass() > 0);
    // At once, and not with the next snapshot.
    set(&db, |config| config.archive.enabled = Some(false));
    until("the archive is given up", || files(&archive, ".zst") == 0);
}

#[test]
fn archive_compression_level() {
    let dir = dir();
    let archive = dir.path().join("archive");
    let db = open(&dir, |config| {
        config.snapshot.chain_max = 1;
        config.archive.enabled = Some(true);
        config.archive.compression_level = 0;
        config.retention.snapshots_max = 100;
    });
    let pass = || {
        for _ in 0..3 {
            db.rotate_log().unwrap();
            snapshot(&db);
        }
        (files(&archive, ".seg") > 0, files(&archive, ".seg.zst") > 0)
    };
    assert_eq!(pass(), (true, false));
    set(&db, |config| config.archive.compression_level = 1);
    assert_eq!(pass(), (true, true));
}

/// A database with so many full snapshots that are all kept.
fn with_snapshots(dir: &tempfile::TempDir, count: usize) -> Database {
    let db = open(dir, |config| {
        config.snapshot.chain_max = 1;
        config.archive.enabled = Some(true);
        config.retention.snapshots_max = 100;
    });
    for _ in 0..count {
        snapshot(&db);
    }
    assert_eq!(store(&db).snapshots, count);
    db
}

#[test]
fn retention_snapshots_max() {
    let dir = dir();
    let db = with_snapshots(&dir, 6);
    set(&db, |config| config.retention.snapshots_max = 4);
    until("two are given up", || store(&db).snapshots == 4);
}

#[test]
fn retention_age_max() {
    let dir = dir();
    let db = with_snapshots(&dir, 14);
    set(&db, |config| config.retention.age_max = LONG);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(store(&db).snapshots, 14);
    set(&db, |config| config.retention.age_max = Duration::from_nanos(8));
    until("the old ones are given up", || store(&db).snapshots < 14);
}

#[test]
fn retention_bytes_max() {
    let dir = dir();
    let db = with_snapshots(&dir, 6);
    set(&db, |config| config.retention.bytes_max = ByteSize(1));
    until("all that recovery does not need is given up", || store(&db).snapshots == 2);
}

#[test]
fn retention_unlimited() {
    let dir = dir();
    let db = with_snapshots(&dir, 3);
    set(&db, |config| config.retention.snapshots_max = 1);
    until("what recovery does not need is given up", || store(&db).snapshots == 2);
    set(&db, |config| {
        config.retention.snapshots_max = 0;
        config.retention.unlimited = true;
    });
    (0..6).for_each(|_| _ = snapshot(&db));
    assert_eq!(store(&db).snapshots, 8);
}

#[test]
fn compaction_interval() {
    let dir = dir();
    let db = open(&dir, |config| config.compaction.interval = LONG);
    write(&db, 1);
    until_compacted(&db, |config| config.compaction.interval = Duration::from_millis(1));
}

#[test]
fn compaction_log_bytes_max() {
    let dir = dir();
    let db = open(&dir, |_| {});
    (0..20).for_each(|_| write(&db, 32));
    until_compacted(&db, |config| config.compaction.log_bytes_max = ByteSize::kib(256));
}

/// A database whose newest snapshot lies in two files.
fn with_chain(dir: &tempfile::TempDir) -> Database {
    let db = open(dir, |config| {
        config.snapshot.chain_max = 100;
        config.snapshot.compression_level = 0;
    });
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..200_000).map(Counter)))).unwrap();
    snapshot(&db);
    // Nearly all of the first file is dead then.
    db.write(|tx| Ok(tx.query::<&mut Counter>().for_each(|counter| counter.0 += 1))).unwrap();
    snapshot(&db);
    db.write(|tx| Ok(tx.get_mut::<Counter>(ids[0])?.0 += 1)).unwrap();
    snapshot(&db);
    assert!(store(&db).chain_files > 1);
    db
}

#[test]
fn compaction_snapshot_age_max() {
    let dir = dir();
    let db = with_chain(&dir);
    until_compacted(&db, |config| config.compaction.snapshot_age_max = Duration::from_millis(1));
}

#[test]
fn compaction_dead_fraction_max() {
    let dir = dir();
    let db = with_chain(&dir);
    let dead = store(&db).dead_fraction();
    assert!(dead > 0.1, "{dead}");
    until_compacted(&db, |config| config.compaction.dead_fraction_max = dead / 2.0);
}

#[test]
fn compaction_sparse_fraction_max() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..100_000).map(Counter)))).unwrap();
    let gone = ids.into_iter().enumerate().filter(|(i, _)| i % 4 != 0);
    db.write(|tx| Ok(gone.clone().try_for_each(|(_, entity)| tx.despawn(entity))?)).unwrap();
    let sparse = || db.stats().unwrap().sparse_fraction;
    assert!(sparse() > 0.5, "{}", sparse());
    set(&db, |config| config.compaction.sparse_fraction_max = 0.1);
    until("the chunks are merged", || sparse() <= 0.1);
}

#[test]
fn what_is_for_the_next_opening_is_said_and_changes_nothing_now() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let before = db.config().unwrap();
    let mut config = before.clone();
    config.wal.dir = Some(dir.path().join("elsewhere"));
    config.recovery.threads = 7;
    config.snapshot.chain_max = 9;
    let changes = db.reconfigure(config.clone()).unwrap();
    assert_eq!(changes.live, ["snapshot.chain_max"]);
    assert_eq!(changes.at_next_opening, ["wal.dir", "recovery.threads"]);
    // What is given again is no change; what is for the next opening still is.
    let changes = db.reconfigure(config.clone()).unwrap();
    assert_eq!((changes.live.len(), changes.at_next_opening.len()), (0, 2));
    assert_eq!(db.config().unwrap(), config);
    write(&db, 1);
    assert!(!dir.path().join("elsewhere").exists());
    // Another name of the same directory is none.
    let mut config = before;
    config.wal.dir = Some(dir.path().join("log"));
    let changes = db.reconfigure(config.clone()).unwrap();
    assert_eq!((changes.live, changes.at_next_opening.len()), (vec!["snapshot.chain_max"], 0));
}

/// Each thread counts one setting up by one, and one of them asks the database for its settings, and changes others, on the way.
#[test]
fn what_several_change_at_once_is_all_changed() {
    const CHANGES: u64 = 2_000;
    let dir = dir();
    let db = open(&dir, |config| config.snapshot.after_transactions = 1_000_000);
    let settings: [fn(&mut PersistenceConfig) -> &mut u64; 3] = [
        |config| &mut config.snapshot.after_log_bytes.0,
        |config| &mut config.snapshot.after_transactions,
        |config| &mut config.compaction.log_bytes_max.0,
    ];
    for setting in settings {
        set(&db, |config| *setting(config) = 1_000_000_000);
    }
    std::thread::scope(|scope| {
        for (i, setting) in settings.into_iter().enumerate() {
            let db = &db;
            scope.spawn(move || {
                for n in 0..CHANGES {
                    if i == 0 && n % 100 == 0 {
                        // It is called again for what it changes itself.
                        let mut is_first = true;
                        set(db, |config| {
                            if std::mem::take(&mut is_first) {
                                drop(db.config().unwrap());
                                set(db, |config| config.snapshot.threads = (n / 100) as usize % 7);
                            }
                            config.recovery.threads = (n / 100) as usize % 5;
                        });
                    }
                    set(db, |config| *setting(config) += 1);
                }
            });
        }
    });
    let mut config = db.config().unwrap();
    assert_eq!(settings.map(|setting| *setting(&mut config)), [1_000_000_000 + CHANGES; 3]);
    assert_eq!((config.snapshot.threads, config.recovery.threads), (19 % 7, 19 % 5));
}

#[test]
fn a_change_that_is_refused_leaves_everything_as_it_was_and_is_told() {
    let dir = dir();
    let db = open(&dir, |_| {});
    let mut events = db.events();
    let before = db.config().unwrap();
    let mut config = before.clone();
    config.wal.flush_interval = LONG * 2;
    config.snapshot.chain_max = 0;
    config.snapshot.compression_level = 9;
    let refused = db.reconfigure(config.clone()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    let text = "wal.flush_interval is \"2h\", but has to be a time from 100us to 1h, such as \"10ms\"\n\
                snapshot.chain_max is 0, but has to be a whole number from 1 to 128, such as 4";
    assert_eq!(refused.to_string(), text);
    assert_eq!(db.config().unwrap(), before);
    match events.try_next() {
        Some(Event::Failed { task: Task::Reconfigure, error, retry_in: None }) => assert_eq!(error, text),
        other => panic!("{other:?}"),
    }
    let failures = store(&db).failures;
    assert_eq!((failures[0].task, &*failures[0].error, failures[0].times), (Task::Reconfigure, text, 1));
    let db = Database::in_memory();
    assert!(matches!(db.config().unwrap_err(), Error::InMemory(_)));
}

/// What the manifest says of what is to be kept.
fn noted(dir: &Path) -> Kept {
    let layout = Layout::new(dir);
    let newest = Manifest::generations(&Disk, &layout).unwrap().into_iter().max().unwrap();
    Manifest::read(&Disk, &layout.file(FileKind::Manifest, newest)).unwrap().kept
}

#[test]
fn an_archive_is_bounded_unless_it_is_said_to_be_unlimited() {
    let dir = dir();
    let session = |change: fn(&mut PersistenceConfig)| {
        let db = open(&dir, |config| {
            config.snapshot.chain_max = 1;
            change(config);
        });
        for _ in 0..3 {
            db.rotate_log().unwrap();
            snapshot(&db);
        }
        let snapshots = store(&db).snapshots;
        db.close().unwrap();
        (noted(dir.path()).bytes_max, snapshots)
    };
    assert_eq!(session(|_| {}), (0, 2), "without an archive there is what recovery needs");
    assert_eq!(session(|config| config.archive.enabled = Some(true)), (10 << 30, 5));
    assert_eq!(session(|_| {}), (10 << 30, 8), "what was said goes on to hold");
    assert_eq!(session(|config| config.retention.unlimited = true), (0, 11));
    assert_eq!(session(|config| config.archive.enabled = Some(true)), (0, 14), "and so does that");
    assert_eq!(session(|config| config.retention.bytes_max = ByteSize(1)), (1, 2));
}
