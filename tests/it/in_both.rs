//! Log and archive have one segment both, and one of the two is damaged or not given; and what else is told of losses, and done about them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{FileOp, IoError, PersistenceConfig, Policy};
use ecsdb_io::Vfs;
use ecsdb_io::sync::Mutex;
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR};

use crate::lifecycle::{State, archiving, by_hand, large, state};
use crate::not_given_once::{around, open};
use crate::past;

fn full(config: &mut PersistenceConfig) {
    config.snapshot.chain_max = 1;
}

fn names(disk: &SimDisk, part: &str) -> Vec<PathBuf> {
    let all = disk.files().into_iter().map(|(path, _)| path);
    all.filter(|path| path.to_string_lossy().contains(part)).collect()
}

/// A closed database with segments that lie in the log and in the archive, since the manifest that lets go of them did not come about.
fn in_both() -> (SimDisk, Vec<State>, Vec<u64>) {
    in_both_at(3)
}

fn in_both_at(level: i32) -> (SimDisk, Vec<State>, Vec<u64>) {
    let disk = crashed::disk(1);
    let archiving = |c: &mut PersistenceConfig| {
        archiving(c);
        c.archive.compression_level = level;
    };
    let db = crashed::builder(&disk, archiving).config(full).open().unwrap();
    let mut states: Vec<State> = (0..4).map(|i| large(&db, i)).collect();
    db.snapshot().unwrap().wait().unwrap();
    states.push(large(&db, 4));
    states.push(large(&db, 5));
    disk.inject(Fault::on(FileOp::Rename).of_names_containing(".manifest").skip(2).times(1));
    db.snapshot().unwrap().wait().unwrap();
    disk.clear_faults();
    db.close().unwrap();
    drop(db);
    let both = (1..20).filter(|n| {
        names(&disk, &format!("log/{n:016}.seg")).len() == 1
            && names(&disk, &format!("archive/{n:016}.seg")).len() == 1
    });
    let both = both.collect();
    (disk, states, both)
}

/// CKP-11: the log's own is damaged by now, and the archive has it whole: it does not take its place.
#[test]
fn a_whole_copy_in_the_archive_does_not_make_room_for_a_damaged_segment() {
    let (_, _, both) = in_both();
    assert!(!both.is_empty());
    for number in both {
        let (disk, mut states, _) = in_both();
        past::every_moment_is_there(&disk, &states, "before");
        disk.corrupt(Path::new(DIR).join(format!("log/{number:016}.seg")), 9000, &[7; 40]).unwrap();
        let db = crashed::builder(&disk, archiving).config(full).open().unwrap();
        for i in 6..9 {
            states.push(large(&db, i));
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();
        drop(db);
        past::every_moment_is_there(
            &disk,
            &states,
            &format!("{number} damaged in the log; {:?}", names(&disk, "quarantine")),
        );
    }
}

/// CKP-3: the log's own is not given for a while, and the copy in the archive is damaged: the own one stays.
#[test]
fn a_segment_that_is_not_given_for_a_while_is_not_deleted_for_a_damaged_copy() {
    let (_, _, both) = in_both();
    let mut wrong = Vec::new();
    for number in both {
        for (range, level) in [(8192..8704_u64, 3), (8192..8704, 0), (0..512, 3), (0..512, 0)] {
            let (disk, mut states, _) = in_both_at(level);
            let own = disk.read(Path::new(DIR).join(format!("log/{number:016}.seg"))).unwrap();
            let copy = names(&disk, &format!("archive/{number:016}.seg")).remove(0);
            let bytes = disk.read(&copy).unwrap();
            disk.corrupt(&copy, bytes.len() as u64 / 2, &[7; 40]).unwrap();
            let media = around(&disk);
            let log = format!("log/{number:016}.seg");
            media.hooks.bad.lock().push((log.clone(), range.clone()));
            let db = open(&media, Policy::TruncateTail, |config| {
                archiving(config);
                full(config);
            })
            .unwrap();
            for i in 6..12 {
                states.push(large(&db, i));
                db.snapshot().unwrap().wait().unwrap();
            }
            media.hooks.bad.lock().clear();
            for i in 12..14 {
                states.push(large(&db, i));
                db.snapshot().unwrap().wait().unwrap();
            }
            db.close().unwrap();
            drop(db);
            let left: Vec<PathBuf> = disk
                .files()
                .into_iter()
                .map(|(path, _)| path)
                .filter(|path| disk.read(path).unwrap() == own)
                .collect();
            let whole = names(&disk, &format!("{number:016}.seg")).into_iter().any(|path| {
                ecsdb_wal::LogScan::file(&*disk.vfs(), &path)
                    .is_ok_and(|found| found.damage.is_none() && found.end.last_lsn >= found.header.first_lsn)
            });
            if !whole && left.is_empty() {
                wrong.push(format!("{number}, {range:?}, level {level}"));
            }
        }
    }
    assert!(wrong.is_empty(), "no whole one is left: {wrong:?}");
}

/// CKP-11: a file of the log has the bytes of another segment. It is a damaged one of its number: no other one in the archive makes room for it, and no
/// trim comes to a stand.
#[test]
fn a_segment_under_anothers_number_moves_no_copy_and_stops_no_trim() {
    let (_, states, both) = in_both();
    let last = both[both.len() - 1];
    assert!(both.len() > 2, "{both:?}");
    for &of in &both[..both.len() - 1] {
        for (its_copy, others_copy) in [(true, true), (true, false), (false, true), (false, false)] {
            let (disk, ..) = in_both();
            let log = |n: u64| Path::new(DIR).join(format!("log/{n:016}.seg"));
            let in_archive = |n: u64| names(&disk, &format!("archive/{n:016}.seg")).remove(0);
            let copies: Vec<_> = both.iter().map(|n| (*n, disk.read(in_archive(*n)).unwrap())).collect();
            disk.put(log(last), &disk.read(log(of)).unwrap()).unwrap();
            for (_, n) in [(its_copy, last), (others_copy, of)].into_iter().filter(|(stays, _)| !stays) {
                disk.erase(in_archive(n)).unwrap();
            }
            let what = format!("{last} is {of}, copies of them: {its_copy}, {others_copy}");
            let db = crashed::builder(&disk, archiving).config(full).open().unwrap();
            let mut states = states.clone();
            for i in 6..9 {
                states.push(large(&db, i));
                db.snapshot().unwrap().wait().unwrap();
            }
            db.close().unwrap();
            drop(db);
            let log = names(&disk, "/log/").len();
            assert!(log < 6, "{what}: {:?}", names(&disk, "/log/"));
            for (n, bytes) in copies.iter().filter(|(n, _)| its_copy || *n != last) {
                assert_eq!(&disk.read(in_archive(*n)).unwrap(), bytes, "{what}: {n} in the archive");
            }
            assert!(names(&disk, "quarantine").is_empty(), "{what}: {:?}", names(&disk, "quarantine"));
            if its_copy {
                past::every_moment_is_there(&disk, &states, &what);
            }
        }
    }
}

/// A hole, and in the segment before it what is behind a break is not given: a salvage opens it all the same.
#[test]
fn a_salvage_opens_where_what_is_behind_a_break_is_not_given() {
    let disk = crashed::disk(1);
    let media = around(&disk);
    let db = open(&media, Policy::Strict, |config| {
        by_hand(config);
        full(config);
    })
    .unwrap();
    for i in 0..6 {
        large(&db, i);
    }
    db.close().unwrap();
    drop(db);
    disk.corrupt(Path::new(DIR).join("log/0000000000000003.seg"), 4096, &[0; 8192]).unwrap();
    disk.erase(Path::new(DIR).join("log/0000000000000004.seg")).unwrap();
    media.hooks.bad.lock().push(("0000000000000003.seg".into(), 16384..16896));
    let opened = open(&media, Policy::Salvage, |config| {
        by_hand(config);
        full(config);
    })
    .map(|db| db.lsn());
    assert!(opened.is_ok(), "{opened:?}");
}

/// In look N only segment N is not given.
#[derive(Default)]
struct InTurn(Mutex<u64>);

impl Hooks for InTurn {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        if op == FileOp::Open && path.to_string_lossy().ends_with("0004.seg") {
            *self.0.lock() += 1;
        }
        Ok(())
    }

    fn reads(&self, path: &Path, offset: u64, len: u64) -> Result<(), IoError> {
        let name = path.to_string_lossy();
        let Some(number) = (1..6_u64).find(|n| name.ends_with(&format!("log/{n:016}.seg"))) else {
            return Ok(());
        };
        // The first opening syncs it; and each is opened before the one before it is walked through.
        let look = (*self.0.lock()).saturating_sub(1) + u64::from(number < 3);
        match look == number && offset + len > 4096 {
            true => Err(IoError::new(FileOp::Read, path, std::io::Error::from_raw_os_error(5))),
            false => Ok(()),
        }
    }
}

/// REC-17: a loss is believed that is found twice. Of five, each found once, none is.
#[test]
fn of_losses_that_are_found_once_none_is_believed() {
    let disk = crashed::disk(1);
    let db = crashed::builder(&disk, by_hand).open().unwrap();
    for i in 0..6 {
        large(&db, i);
    }
    let last = state(&db);
    db.close().unwrap();
    drop(db);
    let vfs: Arc<dyn Vfs> = Arc::new(Around::new(disk.vfs(), InTurn::default()));
    let opened =
        Database::builder(DIR).vfs(vfs).without_threads().policy(Policy::Salvage).config(by_hand).open();
    if let Ok(db) = opened {
        assert_eq!(state(&db).1, last.1, "{}", db.recovery_report().unwrap());
    }
}

/// What retention gave up is not lost, nor out of reach for what is damaged.
#[test]
fn what_was_given_up_is_not_out_of_reach_for_a_damage() {
    let disk = crashed::disk(1);
    let db = crashed::builder(&disk, |c| {
        by_hand(c);
        c.retention.snapshots_max = 100;
        c.snapshot.chain_max = 1;
    })
    .open()
    .unwrap();
    for i in 0..12 {
        large(&db, i);
        if i % 2 == 1 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    db.close().unwrap();
    drop(db);
    let snaps = crashed::files(&disk, ".snap");
    let mut newest = Vec::new();
    for snap in &snaps {
        let disk = disk.crash(CrashVariant::KEPT);
        let layout = ecsdb_io::Layout::new(DIR);
        disk.corrupt(snap, 20, &[7; 40]).unwrap();
        let found = ecsdb_recovery::verify(&*disk.vfs(), &layout, &mut |_| {}).unwrap();
        if snap == snaps.last().unwrap() {
            newest = found.unreachable;
        }
    }
    // The log leads from the one before to everything behind it: no moment is out of reach for the newest one.
    assert_eq!(newest, vec![]);
}

/// What the log has damaged and the archive has whole is read from there: by whoever goes back, and at an opening.
#[test]
fn what_the_archive_has_whole_is_not_lost() {
    let (disk, states, both) = in_both();
    assert!(!both.is_empty());
    for n in both {
        let disk = disk.crash(CrashVariant::KEPT);
        disk.corrupt(Path::new(DIR).join(format!("log/{n:016}.seg")), 9_000, &[7; 40]).unwrap();
        past::every_moment_is_there(&disk, &states, &format!("segment {n}"));
        for snapshot in crashed::files(&disk, ".snap") {
            disk.corrupt(&snapshot, 20, &[7; 40]).unwrap();
        }
        for policy in [Policy::TruncateTail, Policy::Salvage] {
            let disk = disk.crash(CrashVariant::KEPT);
            let db = crashed::builder(&disk, archiving).policy(policy).open().unwrap();
            assert_eq!(state(&db).1, states[states.len() - 1].1, "segment {n}, {policy:?}");
        }
    }
}
