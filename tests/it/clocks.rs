//! Clocks that are wrong: set back, or a year ahead for a moment (IO-2, CKP-11).

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use ecsdb::prelude::*;
use ecsdb::{ByteSize, PersistenceConfig};
use ecsdb_sim::SimDisk;

use crate::components::Counter;
use ecsdb_tests::crashed::{DIR, open_with};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const YEAR: u64 = 8760 * HOUR;
const BEGIN: u64 = 1_700_000_000 * SECOND;

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put_dir("/data").unwrap();
    disk.set_clock(BEGIN);
    disk
}

fn archiving(config: &mut PersistenceConfig) {
    config.snapshot.chain_max = 1;
    config.archive.enabled = Some(true);
    config.retention.age_max = Duration::from_secs(24 * 3600);
}

fn open(disk: &SimDisk) -> Database {
    open_with(disk, archiving).unwrap()
}

fn write(db: &Database) {
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    db.rotate_log().unwrap();
}

/// How many entities there were at a time; each transaction makes one.
fn entities_at(db: &Database, disk: &SimDisk, unix_ns: u64) -> Result<usize, ecsdb::Error> {
    let to = Path::new("/data").join(format!("copy{}", disk.operations()));
    db.restore_to(&to, Moment::Time(UNIX_EPOCH + Duration::from_nanos(unix_ns)))?.wait()?;
    let copy = Database::builder(to).vfs(disk.vfs()).without_threads().open()?;
    Ok(copy.view()?.len())
}

/// The clock was set back across a restart: a snapshot taken then was said to be older than the transactions in it.
#[test]
fn a_moment_in_time_is_the_same_before_and_after_a_snapshot() {
    let disk = disk();
    let db = open(&disk);
    for minute in 0..4 {
        disk.set_clock(BEGIN + minute * 60 * SECOND);
        write(&db);
    }
    db.close().unwrap();
    disk.set_clock(BEGIN - HOUR);
    let db = open(&disk);
    for _ in 0..4 {
        disk.advance(Duration::from_secs(60));
        write(&db);
    }
    let times: Vec<u64> = (0..30).map(|i| BEGIN + i * 20 * SECOND + SECOND).collect();
    let answers = || -> Vec<usize> { times.iter().map(|t| entities_at(&db, &disk, *t).unwrap()).collect() };
    let before = answers();
    assert!(before.is_sorted() && before.first() == Some(&1) && before.last() == Some(&8), "{before:?}");
    db.snapshot().unwrap().wait().unwrap();
    assert_eq!(answers(), before);
    write(&db);
    db.snapshot().unwrap().wait().unwrap();
    // But for what is after the new one.
    assert_eq!(answers()[..14], before[..14]);
}

/// One snapshot taken with a clock a year ahead threw away all history, and then nothing was given up for a year.
#[test]
fn one_wrong_clock_neither_gives_up_history_nor_keeps_it_for_ever() {
    for restart in [false, true] {
        let disk = disk();
        let mut db = open(&disk);
        let mut real = BEGIN;
        // A day of history, a snapshot each hour.
        for _ in 0..24 {
            disk.set_clock(real);
            write(&db);
            db.snapshot().unwrap().wait().unwrap();
            real += HOUR;
        }
        let again = |db: Database| -> Database {
            db.close().unwrap();
            open(&disk)
        };
        disk.set_clock(real + YEAR);
        if restart {
            db = again(db);
        }
        write(&db);
        db.snapshot().unwrap().wait().unwrap();
        disk.set_clock(real);
        if restart {
            db = again(db);
        }
        write(&db);
        db.snapshot().unwrap().wait().unwrap();
        // Nothing of the day is gone.
        assert_eq!(entities_at(&db, &disk, BEGIN + SECOND).unwrap(), 1);
        // And with as much time as the log's clock takes for two days it is, though the machine's is still behind it.
        for _ in 0..96 {
            disk.advance(Duration::from_secs(3600));
            write(&db);
            db.snapshot().unwrap().wait().unwrap();
        }
        let gone = entities_at(&db, &disk, BEGIN + SECOND).unwrap_err();
        assert!(gone.to_string().contains("is not among what is retained"), "{gone}");
        let kept = db.stats().unwrap().store.unwrap().snapshots;
        assert!((20..70).contains(&kept), "{kept} snapshots");
    }
}

fn boundless(config: &mut PersistenceConfig) {
    config.wal.segment_age_max = Duration::MAX;
    config.wal.queue_bytes_max = ByteSize(1 << 60);
    config.wal.transaction_bytes_max = ByteSize(1 << 60);
    config.snapshot.after_log_bytes = ByteSize(1 << 60);
    config.snapshot.after_transactions = u64::MAX;
    config.snapshot.after_segments = u64::MAX;
    config.snapshot.interval = Duration::MAX;
    config.snapshot.bytes_per_second_max = ByteSize(1 << 60);
    config.retention.age_max = Duration::MAX;
    config.retention.bytes_max = ByteSize(1 << 60);
    config.retention.snapshots_max = usize::MAX;
    config.compaction.interval = Duration::MAX;
    config.compaction.log_bytes_max = ByteSize(1 << 60);
    config.compaction.snapshot_age_max = Duration::MAX;
    config.archive.enabled = Some(true);
}

/// Limits that mean “none” to whoever sets them.
#[test]
fn the_largest_values_of_settings_are_kept_or_refused_and_never_overflow() {
    let disk = disk();
    let db = open_with(&disk, boundless).unwrap();
    for _ in 0..3 {
        write(&db);
        db.snapshot().unwrap().wait().unwrap();
    }
    assert_eq!(db.stats().unwrap().store.unwrap().snapshots, 3);
    db.close().unwrap();
    // The same with the thread that goes by them.
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder(dir.path()).config(boundless).open().unwrap();
    write(&db);
    db.snapshot().unwrap().wait().unwrap();
    write(&db);
    db.close().unwrap();
    let refused = |change: fn(&mut PersistenceConfig)| {
        Database::builder(Path::new(DIR)).vfs(disk.vfs()).config(change).open().unwrap_err().kind()
    };
    assert_eq!(refused(|config| config.wal.segment_bytes_max = ByteSize(u64::MAX)), ErrorKind::Config);
    assert_eq!(refused(|config| config.wal.flush_interval = Duration::MAX), ErrorKind::Config);
    assert_eq!(refused(|config| config.snapshot.chain_max = usize::MAX), ErrorKind::Config);
    assert_eq!(refused(|config| config.snapshot.threads = usize::MAX), ErrorKind::Config);
    assert_eq!(refused(|config| config.recovery.threads = usize::MAX), ErrorKind::Config);
}
