//! The part of the log that snapshots cover: nobody needs it, it goes as soon as it may, and whatever becomes of it is in nobody's way (CKP-3,
//! CKP-9, REC-7, REC-13, REC-17).

use ecsdb::prelude::*;
use ecsdb::{DataLoss, PersistenceConfig, Policy};
use ecsdb_io::{FileKind, Layout};
use ecsdb_recovery::verify;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::away::manifest;
use crate::components::Counter;
use crate::lifecycle::{archiving, by_hand, large, state};
use crate::two_lives::copy;

fn open(disk: &SimDisk, settings: fn(&mut PersistenceConfig), policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, settings).config(|config| config.snapshot.chain_max = 1).policy(policy).open()
}

fn write(db: &Database, value: u64) {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
}

fn snapshot(db: &Database) {
    db.snapshot().unwrap().wait().unwrap();
}

/// REC-7, REC-13: one sector of the newest segment reads as zeros. Another one took its place and its number, and the manifest went on vouching for
/// the one before.
#[test]
fn a_covered_segment_that_reads_as_empty_does_not_close_the_database() {
    for (commits, closes) in [(false, false), (false, true), (true, false)] {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        write(&db, 1);
        snapshot(&db);
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        disk.corrupt(Layout::new(DIR).file(FileKind::Segment, 1), 4096, &[0; 512]).unwrap();
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        if commits {
            write(&db, 2);
        }
        let (_, last) = state(&db);
        if closes {
            db.close().unwrap();
        } else {
            disk.power_off();
            drop(db);
        }
        let disk = disk.crash(CrashVariant::KEPT);
        for policy in [Policy::TruncateTail, Policy::Salvage] {
            let db = open(&disk, by_hand, policy).unwrap();
            assert_eq!(
                state(&db).1,
                last,
                "{commits} {closes} {policy:?}: {}",
                db.recovery_report().unwrap()
            );
        }
    }
}

/// REC-2, REC-13: a segment that the manifest knows is gone, and nothing followed it but what a snapshot holds. What is committed from then on is not missed for it.
#[test]
fn what_follows_a_covered_segment_that_is_gone_is_whole() {
    let disk = crashed::disk(1);
    let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
    write(&db, 1);
    snapshot(&db);
    db.close().unwrap();
    drop(db);
    open(&disk, by_hand, Policy::TruncateTail).unwrap().close().unwrap();
    disk.erase(Layout::new(DIR).file(FileKind::Segment, 1)).unwrap();
    let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
    write(&db, 2);
    let last = state(&db);
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    assert_eq!(state(&open(&disk, by_hand, Policy::TruncateTail).unwrap()), last);
}

/// REC-2, REC-13: the newest manifest, which has let go of the segment that the one before it knows, is gone.
#[test]
fn with_the_newest_manifest_gone_what_follows_a_compaction_is_whole() {
    let disk = crashed::disk(1);
    let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
    write(&db, 1);
    db.close().unwrap();
    drop(db);
    let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
    db.compact().unwrap().wait().unwrap();
    write(&db, 2);
    let last = state(&db);
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    disk.erase(files(&disk, ".manifest").pop().unwrap()).unwrap();
    assert_eq!(state(&open(&disk, by_hand, Policy::TruncateTail).unwrap()), last);
}

/// CKP-9, REC-17: nothing of what was archived before leads to what there is, and the archive waited for it. It never had anything here.
#[test]
fn after_a_salvage_an_archiving_database_archives_and_trims() {
    for erased in [false, true] {
        let disk = crashed::disk(1);
        let db = open(&disk, archiving, Policy::TruncateTail).unwrap();
        write(&db, 1);
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let segment = Layout::new(DIR).file(FileKind::Segment, 1);
        if erased {
            disk.erase(&segment).unwrap();
        } else {
            disk.corrupt(&segment, 0, &[9; 64]).unwrap();
        }
        let db = open(&disk, archiving, Policy::Salvage).unwrap();
        assert!(!db.recovery_report().unwrap().lost.is_empty());
        for value in 0..10 {
            large(&db, value);
            snapshot(&db);
        }
        db.compact().unwrap().wait().unwrap();
        drop(db);
        open(&disk, archiving, Policy::TruncateTail).unwrap().compact().unwrap().wait().unwrap();
        let log = Layout::new(DIR).log_dir().to_owned();
        let left = files(&disk, ".seg").into_iter().filter(|path| path.starts_with(&log)).count();
        assert!(left <= 3, "erased {erased}: {left} segments in the log");
    }
}

/// CKP-3: a snapshot that is away holds the log for as long as it is the one to fall back to, and no longer.
#[test]
fn the_log_is_trimmed_again_once_the_fallback_is_whole_or_passed() {
    for comes_back in [false, true] {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        for value in 0..3 {
            large(&db, value);
            snapshot(&db);
        }
        drop(db);
        let newest = snapshot_file(manifest(&disk).unwrap().snapshots.last().unwrap().sequence);
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        let bytes = disk.read(&newest).unwrap();
        disk.erase(&newest).unwrap();
        for value in 0..5 {
            large(&db, value);
            snapshot(&db);
            if comes_back && value == 0 {
                disk.put(&newest, &bytes).unwrap();
            }
        }
        let (_, last) = state(&db);
        let left = files(&disk, ".seg").len();
        assert!(left <= 5, "comes back {comes_back}: {left} segments");
        drop(db);
        assert_eq!(state(&open(&disk, by_hand, Policy::Strict).unwrap()).1, last);
    }
}

/// REC-2: the log ends before what a snapshot says to have been in it. That is not lost, and what came after it may be: nobody calls that well.
#[test]
fn a_covered_end_that_reads_as_zeros_is_not_called_well() {
    for (before, then, zeros) in [(1, 0, 512), (1, 2, 512), (1, 25, 4096), (5, 0, 4096), (5, 9, 4096)] {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::Strict).unwrap();
        (0..before).for_each(|value| write(&db, value));
        let covered = state(&db);
        snapshot(&db);
        (0..then).for_each(|value| write(&db, value));
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let segment = Layout::new(DIR).file(FileKind::Segment, 1);
        assert!(disk.read(&segment).unwrap()[4096 + zeros..].iter().all(|byte| *byte == 0) || then == 2);
        disk.corrupt(segment, 4096, &vec![0; zeros]).unwrap();
        let what = format!("{before} and {then} transactions, {zeros} bytes");
        let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
        assert!(!verified.faults.is_empty(), "{what}");
        assert!(open(&disk, by_hand, Policy::Strict).is_err(), "{what}");
        let db = match open(&disk, by_hand, Policy::TruncateTail) {
            Ok(db) => db,
            // What is left behind the zeros says that it had been durable.
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Damaged, "{what}: {e}");
                continue;
            }
        };
        let report = db.recovery_report().unwrap();
        assert_eq!((state(&db).1, report.data_loss), (covered.1, DataLoss::Possible), "{what}: {report}");
        assert!(report.to_string().contains("was in it"), "{what}: {report}");
        write(&db, 99);
        let last = state(&db);
        db.close().unwrap();
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        assert_eq!((state(&db), db.recovery_report().unwrap().data_loss), (last, DataLoss::None), "{what}");
    }
}

/// REC-13: of another life of the database, which was put back from a copy, the segment lies there that comes after the last one that the snapshot covers.
/// It follows from another segment of that number, or from an earlier end of the same: its transactions are made for another state.
#[test]
fn what_another_life_goes_on_with_behind_a_snapshot_is_not_applied() {
    for (closed, within) in [(true, false), (true, true), (false, true)] {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        write(&db, 1);
        db.close().unwrap();
        drop(db);
        let begun = copy(&disk);
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        write(&db, 2);
        write(&db, 3);
        // The other life is of before this session, or goes on in the middle of it, as after a kill.
        let copied = if within { copy(&disk.crash(CrashVariant::KEPT)) } else { begun };
        for value in 4..10 {
            write(&db, value);
        }
        snapshot(&db);
        let (_, last) = state(&db);
        if closed {
            db.close().unwrap();
        } else {
            disk.power_off();
        }
        drop(db);
        let other = crashed::disk(2);
        for (path, bytes) in copied {
            other.put(&path, &bytes).unwrap();
        }
        // Up to before what the snapshot holds, and from there to behind it.
        for writes in [1, 20] {
            let db = open(&other, by_hand, Policy::TruncateTail).unwrap();
            (100..100 + writes).for_each(|value| write(&db, value));
            db.close().unwrap();
        }
        let third = Layout::new(DIR).file(FileKind::Segment, 3);
        let disk = disk.crash(CrashVariant::KEPT);
        disk.put(&third, &other.read(&third).unwrap()).unwrap();
        for policy in [Policy::Strict, Policy::TruncateTail] {
            let error = open(&disk.crash(CrashVariant::KEPT), by_hand, policy).err().unwrap().to_string();
            assert!(error.contains("0000000000000003.seg"), "{closed} {within} {policy:?}: {error}");
        }
        assert!(
            !verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap().faults.is_empty(),
            "{closed} {within}"
        );
        let db = open(&disk, by_hand, Policy::Salvage).unwrap();
        assert_eq!(state(&db).1, last, "{closed} {within}");
        assert!(!db.recovery_report().unwrap().lost.is_empty());
    }
}

/// REC-8, REC-13: what lies in the place of a segment that nobody needs was another session's that wrote nothing, or another life's. The manifest
/// knows the segment behind it, and that is whole.
#[test]
fn another_file_in_the_place_of_a_covered_segment_closes_nothing_that_the_manifest_knows() {
    for empty in [false, true] {
        let disk = crashed::disk(1);
        if empty {
            open(&disk, by_hand, Policy::TruncateTail).unwrap().close().unwrap();
        }
        let begun = disk.crash(CrashVariant::KEPT);
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        (0..3).for_each(|value| write(&db, value));
        db.close().unwrap();
        drop(db);
        let other = begun;
        if !empty {
            let db = open(&other, by_hand, Policy::TruncateTail).unwrap();
            (0..9).for_each(|value| write(&db, value));
            db.close().unwrap();
        }
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        write(&db, 4);
        snapshot(&db);
        write(&db, 5);
        let last = state(&db);
        db.close().unwrap();
        drop(db);
        let first = Layout::new(DIR).file(FileKind::Segment, 1);
        disk.put(&first, &other.read(&first).unwrap()).unwrap();
        assert_eq!(state(&open(&disk, by_hand, Policy::Strict).unwrap()), last, "{empty}");
    }
}

/// REC-13: a bit of what stands behind the last transaction was read otherwise once, so that the log ended there, and the opening came no further than its
/// manifest: nothing was cut. What is behind that end is no transaction, and the log is nobody else's.
#[test]
fn a_covered_segment_of_which_the_end_was_misread_is_no_other_lifes() {
    let mut opened = 0;
    // A clean end that was not cut to, and an opening.
    for (closing, opening) in (0..6).flat_map(|closing| (0..40).map(move |opening| (closing, opening))) {
        let disk = crashed::disk(1);
        let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
        large(&db, 1);
        disk.stop_after(disk.operations() + closing);
        drop(db.close());
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let first = Layout::new(DIR).file(FileKind::Segment, 1);
        // The frame before that of the clean end: the group's end.
        let end = disk.read(&first).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let place = end.next_multiple_of(8) - 50;
        disk.flip_bit(&first, place, 1).unwrap();
        disk.stop_after(disk.operations() + opening);
        drop(open(&disk, by_hand, Policy::TruncateTail));
        let disk = disk.crash(CrashVariant::KEPT);
        // It may have been cut.
        if disk.read(&first).unwrap().len() as u64 <= place {
            continue;
        }
        disk.flip_bit(&first, place, 1).unwrap();
        let Ok(db) = open(&disk, by_hand, Policy::TruncateTail) else { continue };
        write(&db, 2);
        snapshot(&db);
        write(&db, 3);
        let last = state(&db);
        db.close().unwrap();
        drop(db);
        let opens = open(&disk, by_hand, Policy::Strict);
        assert_eq!(state(&opens.unwrap()), last, "stopped after {closing}, {opening}");
        opened += 1;
    }
    assert!(opened > 100, "{opened}");
}

/// REC-13: the last segment that a snapshot covers is the one that the manifest knows. What another life goes on with follows from the one before it.
#[test]
fn what_follows_from_one_before_the_segment_that_is_known_is_not_applied() {
    let disk = crashed::disk(1);
    let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
    write(&db, 1);
    db.close().unwrap();
    drop(db);
    let other = disk.crash(CrashVariant::KEPT);
    let db = open(&disk, by_hand, Policy::TruncateTail).unwrap();
    (2..6).for_each(|value| write(&db, value));
    snapshot(&db);
    let (_, last) = state(&db);
    db.close().unwrap();
    drop(db);
    // A number is passed over where something lies under it.
    let second = Layout::new(DIR).file(FileKind::Segment, 2);
    other.put(&second, &[0; 8192]).unwrap();
    let db = open(&other, by_hand, Policy::TruncateTail).unwrap();
    (0..20).for_each(|value| write(&db, value));
    db.close().unwrap();
    let third = Layout::new(DIR).file(FileKind::Segment, 3);
    disk.put(&third, &other.read(&third).unwrap()).unwrap();
    for policy in [Policy::Strict, Policy::TruncateTail] {
        assert!(open(&disk.crash(CrashVariant::KEPT), by_hand, policy).is_err(), "{policy:?}");
    }
    assert_eq!(state(&open(&disk, by_hand, Policy::Salvage).unwrap()).1, last);
}
