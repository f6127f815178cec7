//! Snapshots, archive, retention, compaction, going back: on the real disk, through the facade.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Digest, Error, Event, Lsn, Moment, PersistenceConfig, Task};
use ecsdb_tests::reconfigure;

use crate::components::{Counter, Name, Position};

/// A database that keeps everything, in small segments, and does nothing by itself.
fn manual(dir: &Path) -> Database {
    Database::builder(dir).config(by_hand).open().unwrap()
}

pub(crate) fn by_hand(config: &mut PersistenceConfig) {
    config.wal.segment_bytes_first = ByteSize(64 << 10);
    config.wal.segment_bytes_max = ByteSize(64 << 10);
    config.manual();
}

pub(crate) fn archiving(config: &mut PersistenceConfig) {
    by_hand(config);
    config.archive.enabled = Some(true);
    config.retention.snapshots_max = 100;
}

/// Where a database has come to.
pub(crate) type State = (Lsn, Digest);

pub(crate) fn state(db: &Database) -> State {
    (db.lsn(), digest(db))
}

/// More than half a segment. Gives the state after it.
pub(crate) fn large(db: &Database, value: u64) -> State {
    db.write(|tx| Ok(tx.spawn((Counter(value), Name("x".repeat(40_000)))))).unwrap();
    state(db)
}

fn digest(db: &Database) -> Digest {
    db.view().unwrap().digest().unwrap()
}

/// Some history: about 40 KiB of log in each round. Gives the digest after each transaction.
fn history(db: &Database, rounds: u64) -> Vec<(Lsn, Digest)> {
    let mut notes = Vec::new();
    for i in 0..rounds {
        let ticket = db
            .submit(|tx| {
                let mut random = fastrand::Rng::with_seed(i);
                let ids =
                    tx.spawn_batch((0..10).map(|k| (Counter(k), Name("x".repeat(random.usize(..8000))))));
                if i % 3 == 2 {
                    let gone: Vec<Entity> =
                        tx.query::<(Entity, &Counter)>().map(|(e, _)| e).take(5).collect();
                    gone.into_iter().try_for_each(|entity| tx.despawn(entity))?;
                }
                tx.query::<&mut Counter>().for_each(|counter| counter.0 += 1);
                tx.insert(ids[0], Position { x: i as f32, y: 0.0 })?;
                Ok(())
            })
            .unwrap();
        notes.push((ticket.lsn(), digest(db)));
        ticket.wait().unwrap();
    }
    notes
}

/// What is written, archived, deleted and merged meanwhile is no fault; what is damaged is one.
#[test]
fn a_running_database_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let config = |config: &mut PersistenceConfig| {
        archiving(config);
        config.retention.snapshots_max = 2;
    };
    let db = Database::builder(dir.path()).config(config).open().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let goes_on = || !is_over.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // On a busy machine checking takes longer than writing as much again: it has to come to an end.
            for _ in (0..1_000).take_while(|_| goes_on()) {
                db.write(|tx| Ok(drop(tx.spawn_batch((0..4).map(|k| (Counter(k), Name("x".repeat(3000))))))))
                    .unwrap();
            }
        });
        scope.spawn(|| {
            while goes_on() {
                db.snapshot().unwrap().wait().unwrap();
                db.compact().unwrap().wait().unwrap();
            }
        });
        let faults: Vec<String> = (0..15).flat_map(|_| db.verify(|_| {}).unwrap().faults).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(faults.is_empty(), "{faults:?}");
    });
    db.snapshot().unwrap().wait().unwrap();
    let newest = db.snapshots().unwrap().pop().unwrap();
    let files = std::fs::read_dir(dir.path().join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let faults = db.verify(|_| {}).unwrap().faults;
    assert!(!faults.is_empty(), "{newest:?}");
}

/// What changes is small, and always the same: each increment takes the place of the one before. The chain ends all the same, and so does the
/// log that it needs.
#[test]
fn the_log_is_bounded_however_few_files_a_snapshot_lies_in() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    db.write(|tx| Ok(tx.spawn_batch((0..2_000).map(|i| (Position { x: i as f32, y: 0.0 },))))).unwrap();
    let hot = db.write(|tx| Ok(tx.spawn((Counter(0), Name("x".repeat(30_000)))))).unwrap();
    for i in 0..30 {
        db.write(|tx| Ok(tx.insert(hot, Name(i.to_string().repeat(15_000)))?)).unwrap();
        db.snapshot().unwrap().wait().unwrap();
    }
    let store = db.stats().unwrap().store.unwrap();
    assert!(store.segments < 20 && store.snapshots <= 9, "{store:?}");
}

fn files(dir: &Path, ending: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

#[test]
fn increments_chain_up_to_the_limit_and_each_opens() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    reconfigure(&db, |config| config.snapshot.chain_max = 3).unwrap();
    db.write(|tx| Ok(tx.spawn_batch((0..50_000).map(|i| (Counter(i), Position::default()))))).unwrap();
    let full = db.snapshot().unwrap().wait().unwrap();
    let mut parents = vec![full.parent];
    for i in 0..4 {
        let entity = db.view().unwrap().query::<Entity>().unwrap().nth(i * 9_000).unwrap();
        db.write(|tx| Ok(tx.get_mut::<Counter>(entity)?.0 += 1)).unwrap();
        let info = db.snapshot().unwrap().wait().unwrap();
        parents.push(info.parent);
        if info.parent > 0 {
            assert!(info.bytes < full.bytes / 10, "{} of {}", info.bytes, full.bytes);
            assert!(info.blocks_written < 3, "{info:?}");
        }
        let before = digest(&db);
        drop(db.clone());
        assert_eq!(digest(&db), before);
    }
    assert_eq!(parents, [0, 1, 2, 0, 4], "two increments follow a full one");
    let expected = digest(&db);
    db.close().unwrap();
    let db = manual(dir.path());
    assert_eq!(digest(&db), expected);
    assert_eq!(db.recovery_report().unwrap().transactions, 0);
    // Nothing is new: the newest snapshot is the answer.
    let again = db.snapshot().unwrap().wait().unwrap();
    assert_eq!((again.sequence, again.duration), (5, Duration::ZERO));
}

#[test]
fn the_log_is_cut_behind_the_second_newest_snapshot_and_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    history(&db, 8);
    let first = || files(&dir.path().join("log"), ".seg").remove(0);
    let segments = files(&dir.path().join("log"), ".seg").len();
    assert!(segments >= 4, "{segments}");
    db.snapshot().unwrap().wait().unwrap();
    assert_eq!(first(), "0000000000000001.seg", "one snapshot is none to fall back to");
    history(&db, 8);
    db.snapshot().unwrap().wait().unwrap();
    let stats = db.stats().unwrap().store.unwrap();
    assert!(first().as_str() > "0000000000000003.seg" && stats.segments < segments + 3, "{stats:?}");
    assert_eq!((stats.snapshots, stats.garbage_bytes), (2, 0));

    // The newest snapshot is spoiled: the older one and the log behind it bring everything back.
    let expected = digest(&db);
    db.close().unwrap();
    let newest =
        dir.path().join("snapshots").join(files(&dir.path().join("snapshots"), ".snap").pop().unwrap());
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let db = manual(dir.path());
    assert_eq!(digest(&db), expected);
    let report = db.recovery_report().unwrap();
    assert_eq!((report.rejected.len(), report.transactions), (1, 8), "{report}");
}

#[test]
fn every_moment_within_the_archive_can_be_gone_back_to() {
    for compression in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let world = dir.path().join("world");
        let config = |config: &mut PersistenceConfig| {
            archiving(config);
            config.archive.compression_level = compression;
        };
        let db = Database::builder(&world).config(config).open().unwrap();
        let mut notes = vec![(Lsn(0), Database::in_memory().view().unwrap().digest().unwrap())];
        for _ in 0..4 {
            notes.extend(history(&db, 6));
            db.snapshot().unwrap().wait().unwrap();
        }
        let stats = db.stats().unwrap().store.unwrap();
        assert!(stats.archived_lsn > Lsn(5) && stats.archive_bytes > 0, "{stats:?}");
        let ending = if compression == 0 { ".seg" } else { ".seg.zst" };
        assert!(!files(&world.join("archive"), ending).is_empty());
        assert!(files(&world.join("log"), ".seg")[0].as_str() > "0000000000000001.seg");

        // Online, into a directory; and of a closed database.
        for &(lsn, expected) in notes.iter().step_by(4) {
            let copy = dir.path().join(format!("copy-{lsn}"));
            db.restore_to(&copy, Moment::Lsn(lsn)).unwrap().wait().unwrap();
            let opened = Database::open(&copy).unwrap();
            assert_eq!((digest(&opened), opened.lsn()), (expected, lsn));
            opened.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
        }
        let beyond = db.restore_to(dir.path().join("no"), Moment::Lsn(Lsn(99))).unwrap().wait().unwrap_err();
        assert!(
            beyond.to_string().contains("LSN 0 (") && beyond.to_string().contains("LSN 24 ("),
            "{beyond}"
        );
        db.close().unwrap();
        let mut closed = PersistenceConfig::new(&world);
        config(&mut closed);
        let (lsn, expected) = notes[13];
        let copy = dir.path().join("closed");
        ecsdb::restore_copy(&closed, &copy, Moment::Lsn(lsn), |_| {}).unwrap();
        assert_eq!(digest(&Database::open(&copy).unwrap()), expected);
        let taken = ecsdb::restore_copy(&closed, &copy, Moment::Latest, |_| {}).unwrap_err();
        assert!(taken.to_string().contains("not empty"), "{taken}");
    }
}

#[test]
fn a_moment_is_also_a_time_or_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let early = SystemTime::now();
    std::thread::sleep(Duration::from_millis(20));
    let db = Database::builder(dir.path().join("world")).config(archiving).open().unwrap();
    let first = history(&db, 3).pop().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let between = SystemTime::now();
    std::thread::sleep(Duration::from_millis(20));
    history(&db, 3);
    let snapshot = db.snapshot().unwrap().wait().unwrap();
    let at_snapshot = digest(&db);
    history(&db, 3);
    db.restore_to(dir.path().join("time"), Moment::Time(between)).unwrap().wait().unwrap();
    assert_eq!(digest(&Database::open(dir.path().join("time")).unwrap()), first.1);
    db.restore_to(dir.path().join("snap"), Moment::Snapshot(snapshot.sequence)).unwrap().wait().unwrap();
    assert_eq!(digest(&Database::open(dir.path().join("snap")).unwrap()), at_snapshot);
    let none = db.restore_to(dir.path().join("no"), Moment::Snapshot(77)).unwrap().wait().unwrap_err();
    assert!(none.to_string().contains("the snapshot 1"), "{none}");
    // Before the log began there was no database.
    let before = db.restore_to(dir.path().join("no"), Moment::Time(early)).unwrap().wait().unwrap_err();
    assert!(before.to_string().contains("is not among what is retained: LSN 0 ("), "{before}");
}

#[test]
fn retention_gives_up_the_far_end_by_count_by_bytes_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(archiving).open().unwrap();
    reconfigure(&db, |config| config.snapshot.chain_max = 1).unwrap();
    for _ in 0..6 {
        history(&db, 3);
        db.snapshot().unwrap().wait().unwrap();
    }
    let store = || db.stats().unwrap().store.unwrap();
    assert_eq!(store().snapshots, 6);
    let archive = store().archive_bytes;
    reconfigure(&db, |config| config.retention.snapshots_max = 4).unwrap();
    history(&db, 3);
    db.snapshot().unwrap().wait().unwrap();
    assert_eq!((store().snapshots, store().garbage_bytes), (4, 0));
    assert!(store().archive_bytes < archive);
    assert_eq!(files(&dir.path().join("snapshots"), ".snap").len(), 4);

    reconfigure(&db, |config| config.retention.bytes_max = ByteSize(1)).unwrap();
    history(&db, 3);
    db.snapshot().unwrap().wait().unwrap();
    assert_eq!(store().snapshots, 2, "two always stay");

    reconfigure(&db, |config| {
        config.retention.bytes_max = ByteSize(0);
        config.retention.snapshots_max = 0;
        config.retention.age_max = Duration::from_millis(1);
    })
    .unwrap();
    for _ in 0..20 {
        history(&db, 1);
        std::thread::sleep(Duration::from_millis(1));
        db.snapshot().unwrap().wait().unwrap();
    }
    // Of each interval an eighth of the age counts.
    assert!((2..=11).contains(&store().snapshots), "{}", store().snapshots);
    let gone = db.restore_to(dir.path().join("no"), Moment::Lsn(Lsn(1))).unwrap().wait().unwrap_err();
    assert!(gone.to_string().contains("not among what is retained"), "{gone}");
}

#[test]
fn compaction_leaves_one_full_snapshot_with_the_same_digest_and_fewer_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    reconfigure(&db, |config| config.snapshot.chain_max = 100).unwrap();
    db.write(|tx| Ok(tx.spawn_batch((0..40_000).map(|i| (Counter(i), Position::default()))))).unwrap();
    for i in 0..6 {
        db.write(|tx| {
            let mut random = fastrand::Rng::with_seed(i);
            tx.query::<&mut Counter>().filter(|_| random.u8(..) < 8).for_each(|counter| counter.0 += 1);
            Ok(())
        })
        .unwrap();
        db.snapshot().unwrap().wait().unwrap();
    }
    history(&db, 5);
    let expected = digest(&db);
    let before = db.stats().unwrap().store.unwrap();
    assert!(before.chain_files > 1 && before.dead_bytes > 0, "{before:?}");
    let mut events = db.events();
    let info = db.compact().unwrap().wait().unwrap();
    assert!(info.bytes_after < info.bytes_before * 2 / 3, "{info:?}");
    let after = db.stats().unwrap().store.unwrap();
    assert_eq!((after.chain_files, after.snapshots, after.garbage_bytes), (1, 1, 0));
    assert!(after.dead_fraction() < 0.05, "{after:?}");
    assert_eq!(digest(&db), expected);
    let seen: Vec<Event> = std::iter::from_fn(|| events.try_next()).collect();
    assert!(matches!(seen[0], Event::Started(Task::Compaction)), "{seen:?}");
    assert!(seen.iter().any(|event| matches!(event, Event::Compacted(done) if *done == info)), "{seen:?}");
    db.close().unwrap();
    let db = manual(dir.path());
    assert_eq!((digest(&db), db.recovery_report().unwrap().transactions), (expected, 0));
    history(&db, 2);
    db.snapshot().unwrap().wait().unwrap();
}

#[test]
fn sparse_chunks_are_merged_in_memory_after_a_mass_despawn() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..100_000).map(Counter)))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    db.write(|tx| {
        for (i, &id) in ids.iter().enumerate() {
            if i % 20 != 0 {
                tx.despawn(id)?;
            }
        }
        Ok(())
    })
    .unwrap();
    let (before, expected) = (db.stats().unwrap(), digest(&db));
    assert!(before.sparse_fraction > 0.5, "{before:?}");
    let old = db.view().unwrap();
    db.compact().unwrap().wait().unwrap();
    assert_eq!((digest(&db), old.digest().unwrap()), (expected, expected));
    drop(old);
    let after = db.stats().unwrap();
    assert!(after.sparse_fraction < 0.1 && after.memory_bytes < before.memory_bytes, "{after:?}");
    db.write(|tx| Ok(tx.get_mut::<Counter>(ids[40])?.0 = 7)).unwrap();
    let expected = digest(&db);
    db.close().unwrap();
    assert_eq!(digest(&manual(dir.path())), expected);
}

#[test]
fn the_running_world_goes_back_and_forth_as_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path().join("world")).config(archiving).open().unwrap();
    let first = history(&db, 6)[4];
    db.snapshot().unwrap().wait().unwrap();
    let kept = db.view().unwrap();
    let (before, last) = (digest(&db), history(&db, 4).pop().unwrap());
    let lsn = db.restore(Moment::Lsn(first.0)).unwrap().wait().unwrap();
    assert_eq!((lsn, db.durable_lsn()), (Lsn(last.0.0 + 1), lsn));
    assert_eq!(digest(&db), first.1);
    assert_eq!(kept.digest().unwrap(), before, "a view taken before is what it was");
    // What was undone is still there to be gone back to.
    db.restore(Moment::Lsn(last.0)).unwrap().wait().unwrap();
    assert_eq!(digest(&db), last.1);
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    let expected = digest(&db);
    db.close().unwrap();
    let db = Database::builder(dir.path().join("world")).config(archiving).open().unwrap();
    assert_eq!(digest(&db), expected);
}

#[test]
fn a_backup_opens_by_itself_and_can_be_restored_from() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(&dir.path().join("world"));
    history(&db, 3);
    let backup = dir.path().join("backup");
    db.backup_to(&backup).unwrap().wait().unwrap();
    let at_backup = digest(&db);
    history(&db, 3);
    assert!(db.backup_to(&backup).unwrap().wait().unwrap_err().to_string().contains("not empty"));
    let within = db.backup_to(dir.path().join("world/log/sub")).unwrap().wait().unwrap_err();
    assert!(within.to_string().contains("within the database itself"), "{within}");
    db.restore_from(&backup, Moment::Latest).unwrap().wait().unwrap();
    assert_eq!(digest(&db), at_backup);
    let copy = manual(&backup);
    assert_eq!((digest(&copy), copy.lsn()), (at_backup, Lsn(3)));
    history(&copy, 1);
    // A database that is open elsewhere is not read behind its back.
    assert!(
        db.restore_from(&backup, Moment::Latest).unwrap().wait().unwrap_err().to_string().contains("locked")
    );
}

#[test]
fn snapshots_come_by_themselves_by_number_bytes_and_time() {
    let wait_for = |db: &Database, what: &str, done: &dyn Fn(u64) -> bool| {
        let started = Instant::now();
        while !done(db.stats().unwrap().store.unwrap().snapshot_lsn.0) {
            assert!(started.elapsed() < Duration::from_secs(30), "no snapshot by {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    reconfigure(&db, |config| config.snapshot.after_transactions = 5).unwrap();
    for _ in 0..5 {
        db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    }
    wait_for(&db, "number", &|lsn| lsn >= 5);
    reconfigure(&db, |config| {
        config.snapshot.after_transactions = 0;
        config.snapshot.after_log_bytes = ByteSize(100_000);
    })
    .unwrap();
    let last = db.lsn().0;
    db.write(|tx| Ok(tx.spawn(Name("x".repeat(100_000))))).unwrap();
    wait_for(&db, "bytes", &|lsn| lsn > last);
    reconfigure(&db, |config| {
        config.snapshot.after_log_bytes = ByteSize(0);
        config.snapshot.interval = Duration::from_millis(10);
    })
    .unwrap();
    let last = db.lsn().0;
    db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap();
    wait_for(&db, "time", &|lsn| lsn > last);
    db.pause_background();
    let last = db.write(|tx| Ok(tx.spawn(Counter(3)))).map(|_| db.lsn().0).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(db.stats().unwrap().store.unwrap().snapshot_lsn.0 < last, "paused");
    db.resume_background();
    wait_for(&db, "time after a pause", &|lsn| lsn >= last);
    let refused = reconfigure(&db, |config| config.snapshot.compression_level = 50).unwrap_err();
    assert!(matches!(refused, Error::Config(_)), "{refused}");
}

#[test]
fn compactions_come_by_themselves_when_much_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    reconfigure(&db, |config| {
        config.snapshot.chain_max = 100;
        config.snapshot.compression_level = 0;
        config.compaction.dead_fraction_max = 0.4;
    })
    .unwrap();
    // It comes when the whole chain is there.
    db.pause_background();
    let mut events = db.events();
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..100_000).map(Counter)))).unwrap();
    for i in 0..3u64 {
        db.snapshot().unwrap().wait().unwrap();
        db.write(|tx| Ok(tx.query::<&mut Counter>().for_each(|counter| counter.0 ^= i * 7 + 1))).unwrap();
        db.write(|tx| Ok(tx.get_mut::<Counter>(ids[0])?.0 += 1)).unwrap();
    }
    db.snapshot().unwrap().wait().unwrap();
    db.resume_background();
    while !matches!(events.blocking_next().unwrap(), Event::Compacted(_)) {}
    assert_eq!(db.stats().unwrap().store.unwrap().chain_files, 1);
}

/// A view captured earlier used to be written after a later one, as the newest snapshot, with the log behind it gone.
#[test]
fn snapshots_that_are_asked_for_at_once_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    std::thread::scope(|scope| {
        for i in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for k in 0..10 {
                    db.write(|tx| Ok(tx.spawn((Counter(i * 100 + k), Name("x".repeat(9_000)))))).unwrap();
                    let job = db.snapshot().unwrap();
                    let asked = db.lsn();
                    let info = if k % 2 == 0 { job.wait().unwrap() } else { continue };
                    assert!(info.lsn.0 + 40 > asked.0);
                }
            });
        }
    });
    let expected = digest(&db);
    let waiting: Vec<_> = (0..4).map(|_| db.snapshot().unwrap()).collect();
    let lsns: Vec<Lsn> = waiting.into_iter().map(|job| job.wait().unwrap().lsn).collect();
    assert_eq!(lsns, [db.lsn(); 4]);
    db.close().unwrap();
    let db = manual(dir.path());
    assert_eq!((digest(&db), db.view().unwrap().len()), (expected, 40));
}

#[test]
fn a_job_is_paused_resumed_and_cancelled_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = manual(dir.path());
    db.write(|tx| Ok(tx.spawn_batch((0..300_000).map(|i| (Counter(i), Position::default()))))).unwrap();
    reconfigure(&db, |config| config.snapshot.bytes_per_second_max = ByteSize(4 << 20)).unwrap();
    let job = db.snapshot().unwrap();
    job.pause();
    std::thread::sleep(Duration::from_millis(30));
    assert!(!job.is_finished());
    job.cancel();
    assert!(job.wait().unwrap_err().is_cancelled());
    for ending in [".snap", ".tmp"] {
        assert!(files(&dir.path().join("snapshots"), ending).is_empty(), "nothing of it remains");
    }
    reconfigure(&db, |config| config.snapshot.bytes_per_second_max = ByteSize(0)).unwrap();
    let job = db.snapshot().unwrap();
    job.pause();
    job.resume();
    let info = job.wait().unwrap();
    assert_eq!(info.lsn, Lsn(1));
    let io = db.stats().unwrap().io.unwrap();
    assert!(io[ecsdb::Priority::Snapshot].bytes_written >= info.bytes);
}

#[test]
fn jobs_and_events_work_inside_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let db = manual(dir.path());
        let mut events = db.events();
        db.write_async(|tx| Ok(tx.spawn(Counter(1)))).await.unwrap();
        assert_eq!(db.snapshot().unwrap().await.unwrap().lsn, Lsn(1));
        assert!(matches!(events.next().await.unwrap(), Event::Started(Task::Snapshot)));
        drop(db);
        while events.next().await.is_some() {}
    });
}

/// Every moment that the statistics say can be gone back to can be looked at, and none before.
#[test]
fn a_view_of_an_earlier_moment_is_what_was_committed_then() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(by_hand).open().unwrap();
    let mut notes = history(&db, 3);
    for _ in 0..3 {
        db.snapshot().unwrap().wait().unwrap();
        notes.extend(history(&db, 2));
    }
    let (earliest, _) = db.stats().unwrap().earliest.unwrap();
    assert!(earliest > Lsn::ZERO);
    let (lost, kept): (Vec<_>, Vec<_>) = notes.into_iter().partition(|(lsn, _)| *lsn < earliest);
    for (lsn, digest) in kept {
        let past = db.view_at(Moment::Lsn(lsn)).unwrap().wait().unwrap();
        assert_eq!(past.digest().unwrap(), digest, "{lsn}");
        // With the program's own types.
        assert!(past.query::<&Counter>().unwrap().next().is_some());
    }
    for (lsn, _) in lost {
        let refused = db.view_at(Moment::Lsn(lsn)).unwrap().wait().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{lsn}: {refused}");
    }
}
