//! What cannot be done in an archive, or with a segment on its way there, waits, and keeps nothing else waiting; and a salvage, or an upgrade, leaves
//! what was there before where it can be found (CKP-7, CKP-11, REC-5, REC-14, REC-17).

use std::path::PathBuf;

use ecsdb::Policy;
use ecsdb::prelude::*;
use ecsdb_io::{FileKind, FileOp, Layout};
use ecsdb_recovery::verify;
use ecsdb_sim::{CrashVariant, Failure, Fault, NameOrder, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::components::Counter;
use crate::golden;
use crate::lifecycle::{State, archiving, by_hand, large, state};

fn open(disk: &SimDisk, policy: Policy) -> ecsdb::Result<Database> {
    builder(disk, archiving).config(|config| config.snapshot.chain_max = 1).policy(policy).open()
}

fn small(db: &Database) {
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
}

fn segments(disk: &SimDisk, dir: &str) -> Vec<PathBuf> {
    let mut all = [files(disk, ".seg"), files(disk, ".zst")].concat();
    all.retain(|path| path.to_string_lossy().contains(&format!("{DIR}/{dir}/")));
    all
}

/// An archive with history, and a log that has lost something after it.
fn lossy() -> SimDisk {
    let disk = crashed::disk(1);
    let db = open(&disk, Policy::Strict).unwrap();
    for i in 0..10 {
        large(&db, i);
        if i < 7 && i % 2 == 0 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let mut begun = segments(&disk, "log");
    begun.retain(|path| disk.read(path).unwrap().iter().any(|byte| *byte != 0));
    disk.corrupt(&begun[begun.len() - 2], 4096, &[9; 64]).unwrap();
    disk
}

/// REC-17: with the archive where it was, what a salvage has set aside is the database as it was.
#[test]
fn a_salvage_leaves_the_archive_where_it_is() {
    let disk = lossy();
    let before = segments(&disk, "archive");
    assert!(!before.is_empty());
    for policy in [Policy::Salvage, Policy::TruncateTail] {
        let db = open(&disk, policy).unwrap();
        small(&db);
        db.close().unwrap();
    }
    let after = segments(&disk, "archive");
    assert!(before.iter().all(|path| after.contains(path)), "{before:?}, and then {after:?}");
}

/// REC-14.
#[test]
fn an_archive_in_which_nothing_can_be_done_stops_no_opening() {
    for op in [FileOp::Rename, FileOp::SyncDir, FileOp::Open, FileOp::Read, FileOp::Remove] {
        for salvage in [false, true] {
            let fail = |disk: &SimDisk| {
                disk.inject(
                    Fault::on(op).of_names_containing("/archive").times(u64::MAX).failing(Failure::Io),
                );
            };
            let disk = if salvage {
                let disk = lossy();
                fail(&disk);
                small(&open(&disk, Policy::Salvage).unwrap());
                disk
            } else {
                let disk = crashed::disk(1);
                let db = open(&disk, Policy::Strict).unwrap();
                ecsdb_tests::reconfigure(&db, |config| config.retention.snapshots_max = 2).unwrap();
                for i in 0..10 {
                    if i == 5 {
                        fail(&disk);
                    }
                    large(&db, i);
                    small(&db);
                    db.snapshot().unwrap().wait().unwrap();
                }
                disk
            };
            for _ in 0..2 {
                let db =
                    open(&disk, Policy::TruncateTail).unwrap_or_else(|e| panic!("{op:?}, {salvage}: {e}"));
                large(&db, 1);
                db.snapshot().unwrap().wait().unwrap();
            }
        }
    }
}

/// CKP-7.
#[test]
fn a_covered_segment_that_was_cut_short_keeps_no_archive_waiting() {
    for cut in [0, 100, 4096, 4150, 4176] {
        let disk = crashed::disk(1);
        for _ in 0..2 {
            let db = open(&disk, Policy::Strict).unwrap();
            (0..3).for_each(|_| small(&db));
            db.snapshot().unwrap().wait().unwrap();
            db.close().unwrap();
        }
        let first = Layout::new(DIR).file(FileKind::Segment, 1);
        if disk.read(&first).is_ok() {
            disk.truncate(&first, cut).unwrap();
        }
        for _ in 0..3 {
            let db = open(&disk, Policy::TruncateTail).unwrap();
            for i in 0..5 {
                large(&db, i);
                db.snapshot().unwrap().wait().unwrap();
            }
            db.compact().unwrap().wait().unwrap();
            db.close().unwrap();
            assert!(segments(&disk, "log").len() <= 3, "{cut}: {:?}", segments(&disk, "log"));
        }
    }
}

/// REC-5, CKP-11: a damaged snapshot of an older version is set aside, wherever the opening is killed.
#[test]
fn an_upgrade_that_is_killed_sets_aside_what_is_damaged() {
    for name in ["v2", "v3"] {
        for stop in 0.. {
            let disk = golden::old(name);
            let len = disk.read(snapshot_file(1)).unwrap().len() as u64;
            disk.flip_bit(snapshot_file(1), len / 3, 1).unwrap();
            let damaged = disk.read(snapshot_file(1)).unwrap();
            disk.stop_after(disk.operations() + stop);
            let opened = builder(&disk, by_hand).open().map(drop);
            disk.power_off();
            let disk = disk.crash(CrashVariant::KEPT);
            drop(builder(&disk, by_hand).open().unwrap());
            let is_it = |(path, _): (PathBuf, u64)| disk.read(path).is_ok_and(|bytes| bytes == damaged);
            assert!(disk.files().into_iter().any(is_it), "{name}, stopped after {stop}");
            if opened.is_ok() {
                break;
            }
        }
    }
}

/// WAL-5, WAL-12: an operation fails once, whichever. Nothing of the log is given up for a copy whose directory may be gone after a power cut.
#[test]
fn what_failed_on_the_way_to_an_archive_and_was_done_again_is_durable() {
    let live = |disk: &SimDisk, fails: Option<u64>| -> Vec<State> {
        let db = open(disk, Policy::Strict).unwrap();
        let mut states = vec![large(&db, 1)];
        if let Some(at) = fails {
            disk.inject(Fault::at(disk.operations() + at).failing(Failure::NoSpace));
        }
        for value in 2..6 {
            drop(db.snapshot().and_then(|job| job.wait()));
            if db.write(|tx| Ok(tx.spawn(Counter(value)))).and_then(|_| db.rotate_log()).is_err() {
                break;
            }
            states.push(state(&db));
        }
        disk.power_off();
        states
    };
    let disk = crashed::disk(1);
    let before = disk.operations();
    live(&disk, None);
    let operations = disk.operations() - before;
    let mut archived = 0;
    for at in 0..operations {
        let disk = crashed::disk(1);
        let states = live(&disk, Some(at));
        for variant in disk.crash_variants(0, at, NameOrder::Any) {
            let disk = disk.crash(variant);
            let verified = verify(&*disk.vfs(), &Layout::new(DIR), &mut |_| {}).unwrap();
            assert_eq!((&verified.faults[..], &verified.away[..]), (&[][..], &[][..]), "{at}, {variant:?}");
            let db = open(&disk, Policy::Strict).unwrap();
            let (last, digest) = state(&db);
            // What failed may be there all the same.
            let known = states.iter().find(|state| state.0 == last);
            assert!(last >= states[states.len() - 1].0, "{at}, {variant:?}: {last}");
            assert!(known.is_none_or(|known| known.1 == digest), "{at}, {variant:?}: {last}");
            archived += usize::from(!segments(&disk, "archive").is_empty());
        }
    }
    assert!(archived > 0);
}
