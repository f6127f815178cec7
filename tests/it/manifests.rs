//! Openings with manifests that are gone, damaged, or none: what the files say themselves is gone by, and no file is that is another's
//! (REC-8, REC-13, REC-17, CKP-10, CKP-11).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{PersistenceConfig, Policy};
use ecsdb_io::FileOp;
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::away::manifest;
use crate::components::Counter;
use crate::lifecycle::{State, archiving, by_hand, large, state};

/// Full snapshots, by hand.
fn full(config: &mut PersistenceConfig) {
    by_hand(config);
    config.snapshot.chain_max = 1;
}

fn salvage(disk: &SimDisk) -> Database {
    builder(disk, full).policy(Policy::Salvage).open().unwrap()
}

fn erase(disk: &SimDisk, ending: &str) {
    files(disk, ending).into_iter().for_each(|path| disk.erase(path).unwrap());
}

/// Four transactions, with a snapshot after each of the first three, and its last state.
fn lived(disk: &SimDisk) -> State {
    let db = builder(disk, full).open().unwrap();
    for value in 0..3 {
        large(&db, value);
        db.snapshot().unwrap().wait().unwrap();
    }
    let last = large(&db, 3);
    db.close().unwrap();
    last
}

/// Another database, of more transactions, in more segments, and a snapshot.
fn stranger() -> SimDisk {
    let disk = crashed::disk(2);
    let db = builder(&disk, full).open().unwrap();
    for value in 0..30 {
        db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
    }
    db.snapshot().unwrap().wait().unwrap();
    for value in 0..9 {
        large(&db, value);
    }
    db.close().unwrap();
    disk
}

/// What is written after a salvage is there, with and without a snapshot of it.
fn goes_on(disk: &SimDisk, db: Database, takes: bool, what: &str) {
    let last = large(&db, 100);
    if takes {
        assert_eq!(db.snapshot().unwrap().wait().unwrap().lsn, last.0, "{what}");
    }
    db.close().unwrap();
    drop(db);
    let db = builder(disk, full).open().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(state(&db), last, "{what}");
}

/// CKP-10: a snapshot of another database, or one under another number, is none of this one's, whatever LSN it has.
#[test]
fn a_salvage_without_a_manifest_goes_by_no_file_that_only_has_a_name_of_ours() {
    for (own, loses, takes) in
        [(false, false, true), (false, true, false), (false, true, true), (true, false, true)]
    {
        let what = format!("own {own}, loses {loses}, takes {takes}");
        let disk = crashed::disk(1);
        let mut last = lived(&disk);
        erase(&disk, ".manifest");
        let bytes = match own {
            true => disk.read(snapshot_file(3)).unwrap(),
            false => stranger().read(snapshot_file(1)).unwrap(),
        };
        disk.put(snapshot_file(1), &bytes).unwrap();
        if loses {
            disk.corrupt(files(&disk, ".seg").pop().unwrap(), 9000, &[7; 40]).unwrap();
            last.0 = Lsn(last.0.0 - 1);
        }
        let db = salvage(&disk);
        let report = db.recovery_report().unwrap();
        assert_eq!(report.last_lsn, last.0, "{what}: {report}");
        goes_on(&disk, db, takes, &what);
    }
}

/// CKP-10: whose the database is, its directories say, or most of its files, and not the segment with the highest number.
#[test]
fn a_salvage_without_a_manifest_takes_no_strangers_segment_for_its_own() {
    let stranger = stranger();
    let highest = files(&stranger, ".seg").pop().unwrap();
    for owner in [true, false] {
        let disk = crashed::disk(1);
        let last = lived(&disk);
        erase(&disk, ".manifest");
        if !owner {
            erase(&disk, "OWNER");
        }
        disk.put(&highest, &stranger.read(&highest).unwrap()).unwrap();
        let db = salvage(&disk);
        assert_eq!(state(&db), last, "owner {owner}: {}", db.recovery_report().unwrap());
        goes_on(&disk, db, true, &format!("owner {owner}"));
        assert!(disk.read(&highest).is_ok(), "owner {owner}: the other one's file is not there");
    }
}

/// REC-8: a snapshot of another life, of a later state under a lower number, does not load. It is no live one afterwards.
#[test]
fn a_damaged_snapshot_of_another_life_does_not_stand_for_a_newer_state() {
    let disk = crashed::disk(1);
    let db = builder(&disk, full).open().unwrap();
    large(&db, 0);
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    drop(db);
    let other = disk.crash(CrashVariant::KEPT);
    let db = builder(&other, full).open().unwrap();
    for value in 0..9 {
        large(&db, value);
    }
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    let db = builder(&disk, full).open().unwrap();
    for value in 10..12 {
        large(&db, value);
        db.snapshot().unwrap().wait().unwrap();
    }
    let last = large(&db, 12);
    db.close().unwrap();
    drop(db);
    erase(&disk, ".manifest");
    disk.put(snapshot_file(2), &other.read(snapshot_file(2)).unwrap()).unwrap();
    disk.corrupt(snapshot_file(2), 5000, &[7; 40]).unwrap();
    let db = salvage(&disk);
    assert_eq!(state(&db).1, last.1, "{}", db.recovery_report().unwrap());
    goes_on(&disk, db, true, "");
}

/// CKP-11, REC-17: the manifest that names the newest snapshot is gone or damaged. The one before was about to have that written: it is no word that
/// it was given up, and what log there was before it need not be whole.
#[test]
fn a_snapshot_that_an_older_manifest_was_about_to_have_written_is_live() {
    for (gone, damages) in [(false, false), (false, true), (true, false), (true, true)] {
        let what = format!("gone {gone}, damages {damages}");
        let disk = crashed::disk(1);
        let db = builder(&disk, full).open().unwrap();
        for value in 0..3 {
            large(&db, value);
        }
        db.snapshot().unwrap().wait().unwrap();
        let last = if damages { state(&db) } else { large(&db, 3) };
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let newest = files(&disk, ".manifest").pop().unwrap();
        match gone {
            true => disk.erase(newest).unwrap(),
            false => disk.truncate(newest, 20).unwrap(),
        }
        if damages {
            disk.corrupt(files(&disk, ".seg").remove(0), 9000, &[7; 40]).unwrap();
        }
        // REC-15: whoever only looks changes nothing, where nothing can be synced either.
        for op in [FileOp::SyncDir, FileOp::Sync, FileOp::Write, FileOp::Rename, FileOp::Remove] {
            disk.inject(Fault::on(op));
        }
        let looks = builder(&disk, full).open_read_only().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(state(&looks), last, "{what}");
        disk.clear_faults();
        let db = builder(&disk, full).open().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(state(&db), last, "{what}: {}", db.recovery_report().unwrap());
        assert!(disk.read(snapshot_file(1)).is_ok(), "{what}: a whole snapshot is deleted");
        assert_eq!(db.snapshots().unwrap().len(), 1, "{what}");
        goes_on(&disk, db, true, &what);
    }
}

/// CKP-11: one that is not whole is none, and nothing is wrong with a database for that: it was never said to be there. It goes.
#[test]
fn a_snapshot_that_was_about_to_be_written_and_is_not_whole_is_none() {
    for at in [10, 5000] {
        let disk = crashed::disk(1);
        let db = builder(&disk, full).open().unwrap();
        let last = large(&db, 0);
        disk.inject(Fault::on(FileOp::Rename).of_names_containing(".manifest").skip(1).times(1));
        db.snapshot().unwrap().wait().unwrap_err();
        disk.clear_faults();
        disk.power_off();
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        disk.corrupt(snapshot_file(1), at, &[7; 40]).unwrap();
        let db = builder(&disk, full).policy(Policy::Strict).open().unwrap();
        assert_eq!(state(&db), last, "{}", db.recovery_report().unwrap());
        // Without a header it says nothing of whose it is.
        assert_eq!(disk.read(snapshot_file(1)).is_ok(), at == 10);
        goes_on(&disk, db, true, "");
    }
}

/// REC-13: a copy that nobody has opened has no log, whatever has the name of a newer manifest. Of one that was opened, the log is missed, killed or
/// closed.
/// REC-17: no manifest, no log, and not the newest snapshots. The archive leads on from what is there.
#[test]
fn a_salvage_without_a_manifest_goes_by_the_archive_where_no_log_is_left() {
    for damage in ["gone", "the header", "the middle"] {
        for left in 0..4 {
            let disk = crashed::disk(1);
            let each_full = |config: &mut PersistenceConfig| {
                archiving(config);
                config.snapshot.chain_max = 1;
            };
            let db = builder(&disk, each_full).open().unwrap();
            let mut states: Vec<State> = Vec::new();
            for value in 0..6 {
                states.push(large(&db, value));
                db.snapshot().unwrap().wait().unwrap();
            }
            db.close().unwrap();
            drop(db);
            let log = Path::new(DIR).join("log");
            files(&disk, ".seg")
                .iter()
                .filter(|path| path.starts_with(&log))
                .for_each(|path| disk.erase(path).unwrap());
            erase(&disk, ".manifest");
            for snapshot in files(&disk, ".snap").into_iter().skip(left) {
                let middle = disk.read(&snapshot).unwrap().len() as u64 / 2;
                match damage {
                    "gone" if left > 0 => disk.erase(snapshot).unwrap(),
                    "the header" if left > 0 => disk.corrupt(snapshot, 20, &[7; 40]).unwrap(),
                    _ => disk.corrupt(snapshot, middle, &[7; 40]).unwrap(),
                }
            }
            let archived = files(&disk, ".seg.zst").len();
            let db = builder(&disk, each_full).policy(Policy::Salvage).open().unwrap();
            assert_eq!(state(&db).1, states[archived - 1].1, "{damage}, {left} left");
        }
    }
}

#[test]
fn the_log_of_a_copy_is_missed_once_there_was_one() {
    let open = |disk: &SimDisk| {
        Database::builder("/data/copy").vfs(disk.vfs()).without_threads().config(full).open()
    };
    let own = |disk: &SimDisk, ending: &str| -> Vec<PathBuf> {
        files(disk, ending).into_iter().filter(|path| path.starts_with("/data/copy")).collect()
    };
    for (number, times, closes) in
        [2, 3, 7].into_iter().flat_map(|n| [(n, 0, false), (n, 1, false), (n, 1, true), (n, 2, false)])
    {
        let what = format!("manifest {number}, opened {times} times, closes {closes}");
        let mut disk = crashed::disk(1);
        let db = builder(&disk, full).open().unwrap();
        let last = large(&db, 1);
        db.backup_to("/data/copy").unwrap().wait().unwrap();
        db.close().unwrap();
        drop(db);
        if times == 0 || number == 7 {
            // Numbers go on behind it.
            disk.put(format!("/data/copy/{number:016}.manifest"), b"noise").unwrap();
        }
        for _ in 0..times {
            let db = open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
            large(&db, 2);
            if closes {
                db.close().unwrap();
            }
            disk.power_off();
            drop(db);
            disk = disk.crash(CrashVariant::KEPT);
        }
        if times == 0 {
            assert_eq!(state(&open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"))).1, last.1, "{what}");
            continue;
        }
        disk.put(own(&disk, ".manifest").pop().unwrap(), b"noise").unwrap();
        own(&disk, ".seg").into_iter().for_each(|path| disk.erase(path).unwrap());
        let error = open(&disk).map(|db| state(&db)).expect_err(&what);
        assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
    }
}

/// The archive of a database without manifests cannot be looked at while that is salvaged, and goes on without one: nobody gives up what it has.
#[test]
fn an_archive_that_cannot_be_looked_at_by_a_salvage_is_whole_when_it_can_be() {
    let kept = |config: &mut PersistenceConfig| {
        full(config);
        config.archive.enabled = Some(true);
        config.retention.snapshots_max = 100;
    };
    let disk = crashed::disk(1);
    let db = builder(&disk, kept).open().unwrap();
    for value in 0..6 {
        large(&db, value);
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    let archived = files(&disk, ".seg.zst");
    assert!(!archived.is_empty());
    erase(&disk, ".manifest");
    disk.inject(Fault::on(FileOp::ReadDir).of_names_containing("archive"));
    let db = salvage(&disk);
    let report = db.recovery_report().unwrap();
    assert!(report.rejected.iter().any(|rejected| rejected.path.ends_with("archive")), "{report}");
    for value in 0..3 {
        large(&db, value);
        db.snapshot().unwrap().wait().unwrap();
    }
    drop(db.close());
    drop(db);
    disk.clear_faults();
    let db = builder(&disk, full).open().unwrap();
    large(&db, 9);
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
    let left = files(&disk, ".seg.zst");
    assert!(archived.iter().all(|file| left.contains(file)), "{archived:?} {left:?}");
}

/// CKP-11: the newest manifest is damaged, and so is the snapshot that it was the first to name. By the one before it that was about to be written; it is
/// not deleted for that.
#[test]
fn a_damaged_snapshot_that_only_a_damaged_manifest_names_is_kept() {
    let mut damaged = 0;
    for stop in 0..60 {
        let disk = crashed::disk(1);
        let db = builder(&disk, full).open().unwrap();
        large(&db, 0);
        db.snapshot().unwrap().wait().unwrap();
        let last = large(&db, 1);
        disk.stop_after(disk.operations() + stop);
        drop(db.snapshot().unwrap().wait());
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        if !manifest(&disk).is_some_and(|newest| newest.snapshots.iter().any(|entry| entry.sequence == 2)) {
            continue;
        }
        disk.corrupt(files(&disk, ".manifest").pop().unwrap(), 60, &[7; 8]).unwrap();
        disk.corrupt(snapshot_file(2), 200, &[7; 64]).unwrap();
        let bytes = disk.read(snapshot_file(2)).unwrap();
        let db = builder(&disk, full).open().unwrap();
        assert_eq!(state(&db), last, "stopped after operation {stop}");
        db.close().unwrap();
        let is_there = disk.files().iter().any(|(path, _)| disk.read(path).unwrap() == bytes);
        assert!(is_there, "stopped after operation {stop}: {:?}", disk.files());
        damaged += 1;
    }
    assert!(damaged > 0);
}
