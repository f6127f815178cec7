//! Damage to the log's files as a whole: headers, lengths, files that are gone. What had been acknowledged is never given up without a
//! word (REC-2).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, Error, Policy, RecoveryError};

use crate::components::Counter;
use crate::golden::copy_dir;

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
        Err(Error::Recovery(RecoveryError::Corrupt { first_lost: 1, what })) => {
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

#[test]
fn what_nothing_proves_to_have_been_durable_is_set_aside_and_reported_as_unacknowledged() {
    for cut in [true, false] {
        let (_dir, segment) = crashed();
        spoil(&segment, |bytes| if cut { bytes.truncate(2_000) } else { bytes[..4096].fill(0) });
        let db = open(&segment, Policy::TruncateTail).unwrap();
        let report = db.recovery_report().unwrap();
        assert_eq!(report.data_loss, DataLoss::Unacknowledged, "{report}");
        assert!(report.tail.is_some(), "{report}");
        assert_eq!(report.set_aside.is_empty(), cut, "{report}");
    }
}
