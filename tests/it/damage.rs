//! Damage to the log's files as a whole: headers, lengths, files that are gone. What had been acknowledged is never given up without a
//! word (REC-2).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, Error, PersistenceConfig, Policy, RecoveryError};

use crate::components::{Counter, Name};
use crate::golden::copy_dir;
use crate::lifecycle::by_hand;
use crate::regressions::until;

/// Six durable transactions in one segment of a database that was not closed; what it looks like after a crash.
fn crashed() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().join("live")).unwrap();
    for i in 0..6 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
    }
    // Once the next segment is prepared, nothing changes any more while it is copied.
    let log = dir.path().join("live/log");
    let prepared =
        |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path().ends_with("0000000000000002.seg");
    while !std::fs::read_dir(&log).unwrap().any(prepared) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let copy = dir.path().join("crashed");
    copy_dir(&dir.path().join("live"), &copy);
    let segment = newest_segment(&copy);
    (dir, segment)
}

/// The same, of a database that was closed.
fn closed() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    for i in 0..6 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
    }
    db.close().unwrap();
    let segment = newest_segment(dir.path());
    (dir, segment)
}

/// The segment with the transactions: not the one that is prepared ahead.
fn newest_segment(dir: &Path) -> PathBuf {
    let entries = std::fs::read_dir(dir.join("log")).unwrap();
    let mut used: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    used.retain(|path| std::fs::read(path).unwrap().starts_with(b"ECSDBLOG"));
    used.sort();
    used.pop().unwrap()
}

fn open(segment: &Path, policy: Policy) -> ecsdb::Result<Database> {
    let dir = segment.parent().unwrap().parent().unwrap();
    Database::builder(dir).policy(policy).open()
}

fn spoil(segment: &Path, f: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(segment).unwrap();
    f(&mut bytes);
    std::fs::write(segment, bytes).unwrap();
}

fn refused_then_salvaged(segment: &Path) {
    match open(segment, Policy::TruncateTail) {
        Err(Error::Recovery(RecoveryError::Corrupt { first_lost: 1, what, .. })) => {
            assert!(what.contains(".seg"), "{what}");
        }
        other => panic!("expected corruption, got {other:?}"),
    }
    let db = open(segment, Policy::Salvage).unwrap();
    assert_eq!(db.recovery_report().unwrap().data_loss, DataLoss::Acknowledged);
    db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
    db.close().unwrap();
    // And never again in the way.
    assert_eq!(open(segment, Policy::TruncateTail).unwrap().view().unwrap().len(), 1);
}

#[test]
fn a_flipped_bit_in_a_segment_header_is_corruption_when_a_frame_behind_it_proves_durability() {
    let (_dir, segment) = crashed();
    spoil(&segment, |bytes| bytes[110] ^= 4);
    refused_then_salvaged(&segment);
}

#[test]
fn a_segment_that_the_manifest_knows_of_and_that_is_gone_is_corruption() {
    let (_dir, segment) = crashed();
    std::fs::remove_file(&segment).unwrap();
    let prepared = std::fs::read_dir(segment.parent().unwrap()).unwrap();
    prepared.for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    refused_then_salvaged(&segment);
}

/// All segments from one on, of a process that was killed: no header, no successor and no close says that they were there.
#[test]
fn what_is_left_of_a_log_that_lost_its_end_is_corruption_as_far_as_a_segment_or_two() {
    let dir = tempfile::tempdir().unwrap();
    let (world, killed) = (dir.path().join("world"), dir.path().join("killed"));
    let db = Database::builder(&world).config(by_hand).open().unwrap();
    for i in 0..12 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(40_000)))))).unwrap();
    }
    let noted = || {
        let layout = ecsdb_io::Layout::new(&world);
        let newest =
            *ecsdb_snapshot::Manifest::generations(&ecsdb_io::Disk, &layout).unwrap().last().unwrap();
        let path = layout.file(ecsdb_io::FileKind::Manifest, newest);
        ecsdb_snapshot::Manifest::read(&ecsdb_io::Disk, &path).map_or(0, |manifest| manifest.durable_lsn)
    };
    until("the manifest to know of the log", || noted() >= 9);
    copy_dir(&world, &killed);
    for segment in (3..20).rev() {
        drop(std::fs::remove_file(killed.join(format!("log/{segment:016}.seg"))));
        if segment <= 9 {
            let refused = Database::builder(&killed).config(by_hand).open().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
        }
    }
}

/// What a database is before the damage.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    /// Its process was killed, with the next segment prepared.
    Killed,
    /// The same, without it.
    KilledEarly,
    /// Closed.
    Closed,
}

/// The kinds of loss of a whole segment: however much of it is gone, it is never taken for a write that was not finished (REC-13).
#[test]
fn a_segment_that_lost_its_header_its_records_or_its_length_is_corruption() {
    type Spoil = (&'static str, fn(&mut Vec<u8>));
    let kinds: [Spoil; 9] = [
        ("a flipped bit in the header", |bytes| bytes[110] ^= 4),
        ("a flipped bit in what checksums start from", |bytes| bytes[20] ^= 4),
        ("a zeroed sector", |bytes| bytes[..512].fill(0)),
        ("a zeroed page", |bytes| bytes[..4096].fill(0)),
        ("cut to nothing", Vec::clear),
        ("cut within the header", |bytes| bytes.truncate(100)),
        ("cut within the header's page", |bytes| bytes.truncate(2_000)),
        ("cut to the header", |bytes| bytes.truncate(4096)),
        ("cut within the records", |bytes| bytes.truncate(4096 + 100)),
    ];
    let kinds_closed: [Spoil; 2] =
        [("zeroed behind the header", |bytes| bytes[4096..].fill(0)), ("zeroed", |bytes| bytes.fill(0))];
    for before in [Before::Killed, Before::KilledEarly, Before::Closed] {
        let more = if before == Before::Closed { &kinds_closed[..] } else { &[] };
        for (what, spoil_it) in kinds.iter().chain(more) {
            println!("{before:?}: {what}");
            let (_dir, segment) = if before == Before::Closed { closed() } else { crashed() };
            let dir = segment.parent().unwrap().parent().unwrap();
            if before == Before::KilledEarly {
                std::fs::remove_file(dir.join("log/0000000000000002.seg")).unwrap();
            }
            spoil(&segment, spoil_it);
            let verified = ecsdb::verify(&PersistenceConfig::new(dir), |_| {}).unwrap();
            assert!(!verified.faults.is_empty(), "{verified:?}");
            for policy in [Policy::Strict, Policy::TruncateTail] {
                match open(&segment, policy) {
                    Err(Error::Recovery(RecoveryError::Corrupt { .. })) => {}
                    other => panic!("{other:?}"),
                }
            }
            let db = open(&segment, Policy::Salvage).unwrap();
            assert_eq!(db.recovery_report().unwrap().data_loss, DataLoss::Acknowledged);
            db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
            let digest = db.view().unwrap().digest().unwrap();
            db.close().unwrap();
            // And never again in the way.
            let again = open(&segment, Policy::Strict).unwrap();
            assert_eq!(again.view().unwrap().digest().unwrap(), digest);
        }
    }
}

/// A prepared segment is most of a small database's bytes, and nothing in it counts: a bit that flips there costs nothing but the word.
#[test]
fn a_flipped_bit_in_the_segment_that_is_prepared_loses_nothing() {
    for at in [0, 110, 4096, 4096 + 4, 4096 + 16, 5000, 60_000] {
        let (_dir, segment) = crashed();
        let prepared = segment.with_file_name("0000000000000002.seg");
        spoil(&prepared, |bytes| bytes[at] ^= 4);
        let db = open(&segment, Policy::TruncateTail).unwrap();
        assert_eq!((db.view().unwrap().len(), db.lsn().0), (6, 6), "byte {at}");
        assert_ne!(db.recovery_report().unwrap().data_loss, DataLoss::Acknowledged);
        db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
        db.close().unwrap();
        assert_eq!(open(&segment, Policy::Strict).unwrap().view().unwrap().len(), 7);
    }
}
