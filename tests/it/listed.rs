//! What verifying lists: every file that is damaged or missing, wherever it lies, and nothing else.

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, ErrorKind, Moment};
use ecsdb_io::Layout;
use ecsdb_recovery::{
    Existence, History, Options, Policy, Step, Verified, lock_closed, missing_files, verify,
};
use ecsdb_sim::SimDisk;
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::lifecycle::{archiving, by_hand, large, state};

/// Who looks how far it is learns of every file, once and with all of its bytes: of a database that is open, too.
#[test]
fn each_file_is_a_step_of_verifying() {
    let disk = crashed::disk(1);
    let db = builder(&disk, archiving).open().unwrap();
    for value in 0..6 {
        large(&db, value);
        if value % 2 == 0 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    let stats = db.stats().unwrap().store.unwrap();
    assert!(stats.archive_bytes > 0 && stats.snapshots > 1, "{stats:?}");
    let (mut bytes, mut numbers) = (0, Vec::new());
    let mut note = |step: &Step| match step {
        Step::Snapshot { bytes: more, .. } => bytes += more,
        Step::Segment { number, bytes: more } => {
            bytes += more;
            numbers.push(*number);
        }
        _ => {}
    };
    let verified = db.verify(&mut note).unwrap();
    assert_eq!((bytes, numbers.len()), (stats.total_bytes(), verified.segments));
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

fn verified(disk: &SimDisk) -> Verified {
    verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap()
}

/// How many of the faults name the file.
fn named(verified: &Verified, path: &Path) -> usize {
    let name = path.display().to_string();
    verified.faults.iter().filter(|fault| fault.contains(&name)).count()
}

fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("log/{number:016}.seg"))
}

/// A chain of three snapshots, and a segment for each transaction.
fn chained() -> SimDisk {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).config(|config| config.snapshot.chain_max = 4).open().unwrap();
    for value in 0..3 {
        large(&db, value);
        db.snapshot().unwrap().wait().unwrap();
        db.rotate_log().unwrap();
    }
    large(&db, 3);
    db.close().unwrap();
    disk
}

/// The snapshot that recovery falls back on shares no file with the newest. One of the same chain was taken for it, and the log behind that was said to
/// be wanted by nobody.
#[test]
fn the_log_of_a_chain_is_missed_when_it_is_gone() {
    let disk = chained();
    let gone = files(&disk, ".seg").remove(0);
    disk.erase(&gone).unwrap();
    let verified = verified(&disk);
    assert_eq!(named(&verified, &gone), 1, "{verified:?}");
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
    assert_eq!(missing_files(&*vfs, &layout, &manifest).unwrap(), [gone]);
}

/// Some archived segments, and some of a log. Where the settings say that everything is kept, the manifest does not say that there is an archive.
fn archive(keep_all: bool) -> SimDisk {
    let disk = crashed::disk(1);
    let settings = if keep_all { by_hand } else { archiving };
    let db = builder(&disk, settings);
    let db = if keep_all { db.keep_all() } else { db }.open().unwrap();
    for value in 0..5 {
        large(&db, value);
    }
    for value in 5..7 {
        db.snapshot().unwrap().wait().unwrap();
        large(&db, value);
    }
    db.close().unwrap();
    disk
}

/// The segments of the archive, and those of the log.
fn segments(disk: &SimDisk) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let all = [".seg", ".seg.zst"].into_iter().flat_map(|end| files(disk, end));
    all.partition(|path| path.starts_with(Path::new(DIR).join("archive")))
}

#[test]
fn every_damaged_file_of_log_and_archive_is_listed_with_or_without_a_hole() {
    for keep_all in [false, true] {
        let (old, log) = segments(&archive(keep_all));
        assert!(old.len() > 3 && log.len() > 1, "{old:?} {log:?}");
        for (gone, damaged) in [
            (None, [&old[1], &log[0]]),
            (None, [&old[0], &old[1]]),
            (None, [&old[1], &old[3]]),
            (None, [&old[1], &old[2]]),
            (Some(&old[0]), [&log[0], &old[2]]),
            (Some(&old[2]), [&old[0], &log[0]]),
            (Some(&old[2]), [&old[1], &old[3]]),
            (Some(&log[0]), [&old[1], &old[2]]),
        ] {
            let disk = archive(keep_all);
            if let Some(gone) = gone {
                disk.erase(gone).unwrap();
            }
            for path in damaged {
                disk.corrupt(path, 0, &[7; 64]).unwrap();
            }
            let verified = verified(&disk);
            let what = format!("{gone:?} {damaged:?}: {verified:#?}");
            for path in damaged {
                assert_eq!(named(&verified, path), 1, "{what}");
            }
            // What no segment beside it names any more is missing, and not known to be away.
            let away = verified.away.iter().map(|path| path.display().to_string());
            let told: Vec<String> = away.chain(verified.faults.iter().cloned()).collect();
            assert_eq!(told.len(), damaged.len() + usize::from(gone.is_some()), "{what}");
            if let Some(gone) = gone {
                let name = gone.display().to_string().replace(".zst", "");
                assert!(told.iter().any(|told| told.contains(&name)), "{what}");
            }
            assert!(verified.faults.iter().all(|fault| !fault.contains("LSN 0")), "{what}");
            assert_eq!(verified.last_lsn, Lsn(7), "{what}");
        }
    }
}

/// Where a log has no archive: in records, in headers, and missing.
#[test]
fn every_damaged_segment_of_a_log_is_listed() {
    type Hurt = fn(&SimDisk, &Path);
    let hurts: [Hurt; 3] = [
        |disk, path| disk.corrupt(path, 0, &[7; 64]).unwrap(),
        |disk, path| disk.corrupt(path, 5000, &[7; 64]).unwrap(),
        |disk, path| disk.erase(path).unwrap(),
    ];
    for hurt in hurts {
        for (one, other) in [(1, 2), (1, 3), (2, 4), (2, 3)] {
            let disk = crashed::disk(1);
            let db = builder(&disk, by_hand).open().unwrap();
            for value in 0..5 {
                large(&db, value);
            }
            db.close().unwrap();
            hurt(&disk, &segment(one));
            hurt(&disk, &segment(other));
            let verified = verified(&disk);
            let is_gone = disk.read(segment(one)).is_err();
            assert_eq!(named(&verified, &segment(other)), 1, "{verified:#?}");
            // Of segments that are missing side by side the last one is named, and from where on they are.
            let beside = is_gone && other == one + 1;
            assert_eq!(named(&verified, &segment(one)), usize::from(!beside), "{verified:#?}");
            assert_eq!(verified.faults.len(), if beside { 1 } else { 2 }, "{verified:#?}");
        }
    }
}

/// The newest snapshot ends within a segment that is gone: that its last transaction was not retained was all that was said.
#[test]
fn a_loss_right_behind_the_newest_snapshot_is_a_gap_of_every_moment_behind_it() {
    let disk = crashed::disk(1);
    let db = builder(&disk, by_hand).open().unwrap();
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
    for value in 0..4 {
        large(&db, value);
    }
    db.close().unwrap();
    disk.erase(segment(1)).unwrap();
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
    let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
    let (existence, policy) = (Existence::Required, Policy::TruncateTail);
    let options = Options { existence, policy, threads: 1, register: false };
    for moment in [Moment::Latest, Moment::Lsn(Lsn(2)), Moment::Lsn(Lsn(4))] {
        let refused = history
            .reconstruct(moment, options, &mut |_| std::ops::ControlFlow::Continue(()))
            .map(drop)
            .map_err(ecsdb::Error::from)
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{moment}: {refused}");
    }
}

/// Without any manifest nothing says where the log ended.
#[test]
fn a_salvage_without_a_manifest_says_that_something_may_be_lost() {
    for gone in [false, true] {
        let disk = chained();
        for path in files(&disk, ".manifest") {
            disk.erase(&path).unwrap();
        }
        for path in files(&disk, ".seg").iter().filter(|_| gone) {
            disk.erase(path).unwrap();
        }
        let db = builder(&disk, by_hand).policy(Policy::Salvage).open().unwrap();
        let report = db.recovery_report().unwrap();
        assert_eq!(report.data_loss, DataLoss::Possible, "{gone:?}: {report}");
        db.close().unwrap();
    }
}

/// The archive leads further than what is left of snapshots and log: that was not looked at where the log was gone.
#[test]
fn a_salvage_goes_by_the_archive_where_no_log_is_left() {
    for has_log in [false, true] {
        let disk = crashed::disk(1);
        let db = builder(&disk, archiving).open().unwrap();
        let mut states: Vec<_> = (0..4).map(|value| large(&db, value)).collect();
        db.snapshot().unwrap().wait().unwrap();
        states.push(large(&db, 4));
        db.snapshot().unwrap().wait().unwrap();
        states.push(large(&db, 5));
        db.close().unwrap();
        let kept = files(&disk, ".seg.zst").len();
        let log = files(&disk, ".seg");
        let gone = if has_log { &log[..1] } else { &log[..] };
        for path in gone.iter().cloned().chain([snapshot_file(1), snapshot_file(2)]) {
            disk.erase(&path).unwrap();
        }
        let db = builder(&disk, archiving).policy(Policy::Salvage).open().unwrap();
        let report = db.recovery_report().unwrap();
        assert_eq!(report.last_lsn, states[kept - 1].0, "{report}");
        assert_eq!(state(&db).1, states[kept - 1].1);
        let text = report.to_string();
        assert!(
            text.contains(&format!("LOST LSN {}", kept + 1))
                || text.contains(&format!("LOST from LSN {}", kept + 1)),
            "{text}"
        );
        assert!(!text.contains("ecsdb repair") && !text.contains("LSN 1 was expected"), "{text}");
        db.close().unwrap();
    }
}

/// It was passed over without a word.
#[test]
fn the_manifest_of_another_database_is_told_and_left_alone() {
    let (disk, other) = (chained(), crashed::disk(2));
    let db = builder(&other, by_hand).open().unwrap();
    (0..6).for_each(|value| {
        large(&db, value);
        db.snapshot().unwrap().wait().unwrap();
    });
    db.close().unwrap();
    let strange = files(&other, ".manifest").pop().unwrap();
    let number = files(&disk, ".manifest").pop().unwrap();
    assert!(strange > number, "{strange:?} {number:?}");
    disk.put(&strange, &other.read(&strange).unwrap()).unwrap();
    let told = verified(&disk);
    assert_eq!((told.left_alone, told.faults), (vec![strange.clone()], Vec::new()));
    let db = builder(&disk, by_hand).open().unwrap();
    let report = db.recovery_report().unwrap();
    assert_eq!((report.strangers.clone(), report.rejected.len()), (vec![strange.clone()], 0), "{report}");
    assert!(report.to_string().contains(&strange.display().to_string()), "{report}");
    db.close().unwrap();
    assert_eq!(disk.read(&strange).unwrap(), other.read(&strange).unwrap());
}

/// A manifest that is damaged goes with a salvage as it does with any other opening: right after it nothing is damaged.
#[test]
fn after_a_salvage_no_damaged_manifest_is_left() {
    let disk = chained();
    let manifests = files(&disk, ".manifest");
    disk.corrupt(&manifests[0], 100, &[7; 64]).unwrap();
    // What comes after the newest snapshot, and what was prepared behind that.
    for path in files(&disk, ".seg").iter().rev().take(2) {
        disk.erase(path).unwrap();
    }
    let db = builder(&disk, by_hand).policy(Policy::Salvage).open().unwrap();
    let report = db.recovery_report().unwrap();
    assert_eq!(report.data_loss, DataLoss::Acknowledged, "{report}");
    db.close().unwrap();
    let verified = verified(&disk);
    assert!(verified.faults.is_empty(), "{verified:#?}");
}
