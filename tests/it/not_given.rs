//! The medium does not give a file while the database runs, a few times in a row or for good: nothing is deleted, set aside or called something else
//! for that (CKP-3, CKP-11).

use std::path::PathBuf;

use ecsdb::prelude::*;
use ecsdb::{DataLoss, PersistenceConfig, Policy};
use ecsdb_io::FileOp;
use ecsdb_sim::{CrashVariant, Failure, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, archiving, large, state};
use crate::past;

fn open(disk: &SimDisk, policy: Policy) -> Database {
    builder(disk, archiving).policy(policy).open().unwrap()
}

fn write(db: &Database, value: u64) -> State {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
    state(db)
}

fn killed(disk: &SimDisk, db: Database) -> SimDisk {
    disk.power_off();
    drop(db);
    disk.crash(CrashVariant::KEPT)
}

fn set_aside(disk: &SimDisk) -> Vec<PathBuf> {
    files(disk, "").into_iter().filter(|path| path.starts_with(format!("{DIR}/quarantine"))).collect()
}

fn written(disk: &SimDisk, path: &PathBuf) -> bool {
    disk.read(path).unwrap().iter().any(|byte| *byte != 0)
}

/// It was deleted without a copy in the archive when it could not be read twice in a row.
#[test]
fn a_sealed_segment_that_is_not_given_is_not_deleted() {
    let mut moved = 0;
    for (op, skip, times) in [FileOp::Open, FileOp::Read]
        .into_iter()
        .flat_map(|op| (0..6).flat_map(move |skip| [1, 2, 3, 6, u64::MAX].map(|times| (op, skip, times))))
    {
        let what = format!("{op:?}, after {skip} others, {times} times");
        let disk = crashed::disk(1);
        let db = open(&disk, Policy::Strict);
        let mut states = vec![];
        for i in 0..6 {
            states.push(large(&db, i));
            if i == 2 {
                db.snapshot().unwrap().wait().unwrap();
            }
        }
        let name = "0000000000000002.seg";
        disk.inject(Fault::on(op).of_names_ending(name).skip(skip).times(times).failing(Failure::Io));
        // Each has a trim, which tries once more.
        for i in 6..13 {
            states.push(large(&db, i));
            db.snapshot().unwrap().wait().unwrap();
        }
        if disk.faults_fired() == 0 {
            continue;
        }
        disk.clear_faults();
        db.close().unwrap();
        let is_moved = set_aside(&disk).iter().any(|path| path.ends_with(name));
        moved += u32::from(is_moved);
        assert!(!is_moved || times > 3, "{what}: {:?}", set_aside(&disk));
        assert!(is_moved || files(&disk, name).len() + files(&disk, "0002.seg.zst").len() > 0, "{what}");
        if !is_moved {
            past::every_moment_is_there(&disk, &states, &what);
        }
        // Whatever becomes of that one, the log does not grow.
        assert!(files(&disk, ".seg").len() < 8, "{what}: {:?}", files(&disk, ".seg"));
    }
    assert!(moved > 0, "what is never given is moved at last");
}

#[test]
fn a_copy_in_the_archive_that_is_not_given_is_not_taken_for_another_one() {
    let mut tried = 0;
    for stop in 0..60 {
        let disk = crashed::disk(1);
        let db = open(&disk, Policy::Strict);
        for i in 0..5 {
            large(&db, i);
            if i == 2 {
                db.snapshot().unwrap().wait().unwrap();
            }
        }
        disk.stop_after(disk.operations() + stop);
        drop(db.snapshot().and_then(|job| job.wait()));
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        let is_copied = |path: PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().replace(".zst", "");
            disk.read(format!("{DIR}/log/{name}")).is_ok()
        };
        if !files(&disk, ".zst").into_iter().any(is_copied) {
            continue;
        }
        for (op, skip, times) in (0..8)
            .flat_map(|skip| [1, 2].map(|n| [(FileOp::Open, skip, n), (FileOp::Read, skip, n)]))
            .flatten()
        {
            let disk = disk.crash(CrashVariant::KEPT);
            let db = open(&disk, Policy::TruncateTail);
            write(&db, 7);
            disk.inject(Fault::on(op).of_names_ending(".zst").skip(skip).times(times).failing(Failure::Io));
            for _ in 0..3 {
                drop(db.snapshot().and_then(|job| job.wait()));
                write(&db, 8);
            }
            tried += u32::from(disk.faults_fired() > 0);
            disk.clear_faults();
            drop(db.close());
            let segments: Vec<_> =
                set_aside(&disk).into_iter().filter(|p| p.to_string_lossy().contains("seg")).collect();
            assert!(segments.is_empty(), "stop {stop}, {op:?} after {skip}, {times} times: {segments:?}");
        }
    }
    assert!(tried > 50, "{tried}");
}

/// It was told that the directory had been moved, for as long as the file could not be read.
#[test]
fn a_manifest_that_is_not_given_while_it_runs_is_replaced_by_the_next() {
    for times in [1, 2, u64::MAX] {
        let disk = crashed::disk(1);
        let db = open(&disk, Policy::Strict);
        write(&db, 1);
        let newest = files(&disk, ".manifest").pop().unwrap();
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        disk.inject(Fault::on(FileOp::Read).of_names_ending(&name).times(times).failing(Failure::Io));
        db.snapshot().unwrap().wait().unwrap();
        write(&db, 2);
        db.compact().unwrap().wait().unwrap();
        db.close().unwrap();
        assert!(disk.faults_fired() > 0);
    }
}

/// One that had been given up, and could not be read when it was to be deleted, stayed in the quarantine.
#[test]
fn a_snapshot_that_was_given_up_goes_once_it_can_be_read() {
    let mut kept = 0;
    for (op, skip) in
        [FileOp::Open, FileOp::Read].into_iter().flat_map(|op| (0..12).map(move |skip| (op, skip)))
    {
        let disk = crashed::disk(1);
        let few = |config: &mut PersistenceConfig| {
            archiving(config);
            (config.snapshot.chain_max, config.retention.snapshots_max) = (1, 2);
        };
        let db = builder(&disk, few).open().unwrap();
        for i in 0..4 {
            write(&db, i);
            db.snapshot().unwrap().wait().unwrap();
        }
        let oldest = files(&disk, ".snap").remove(0);
        let name = oldest.file_name().unwrap().to_string_lossy().into_owned();
        disk.inject(Fault::on(op).of_names_ending(&name).skip(skip).failing(Failure::Io));
        write(&db, 4);
        db.snapshot().unwrap().wait().unwrap();
        let is_there = disk.read(&oldest).is_ok();
        kept += u32::from(is_there && disk.faults_fired() > 0);
        disk.clear_faults();
        // It goes with the next change, or at the next opening.
        if skip % 2 == 0 {
            write(&db, 5);
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();
        builder(&disk, few).open().unwrap().close().unwrap();
        assert!(disk.read(&oldest).is_err(), "{op:?} {skip}: {} is still there", oldest.display());
        assert!(set_aside(&disk).is_empty(), "{op:?} {skip}: {:?}", set_aside(&disk));
    }
    assert!(kept > 0, "it was read each time");
}

/// All that a salvage gives up is looked at twice.
#[test]
fn a_salvage_gives_up_nothing_that_is_not_given_for_once() {
    let mut fired = 0;
    for (op, skip) in
        [FileOp::Open, FileOp::Read].into_iter().flat_map(|op| (0..12).map(move |skip| (op, skip)))
    {
        let disk = crashed::disk(1);
        let db = open(&disk, Policy::Strict);
        large(&db, 1);
        large(&db, 2);
        let last = large(&db, 3).1;
        db.close().unwrap();
        disk.inject(Fault::on(op).of_names_ending(".seg").skip(skip).failing(Failure::Io));
        let Ok(db) = builder(&disk, archiving).policy(Policy::Salvage).open() else { continue };
        fired += disk.faults_fired();
        assert_eq!(state(&db).1, last, "{op:?} {skip}: {}", db.recovery_report().unwrap());
        assert_eq!(db.recovery_report().unwrap().data_loss, DataLoss::None, "{op:?} {skip}");
    }
    assert!(fired > 0);
}

/// A transaction that is larger than a segment made the file longer than its header said: cut behind that, six acknowledged ones were gone without a word.
#[test]
fn a_segment_that_holds_more_than_was_foreseen_and_is_cut_is_damaged() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..40 {
        let disk = crashed::disk(1);
        let db = open(&disk, Policy::Strict);
        write(&db, 1);
        let bytes = random.usize(60_000..300_000);
        db.write(|tx| Ok(tx.spawn((Counter(2), Name("x".repeat(bytes)))))).unwrap();
        for i in 3..8 {
            write(&db, i);
        }
        let disk = killed(&disk, db);
        let mut log = files(&disk, ".seg");
        log.retain(|path| written(&disk, path));
        let newest = log.last().unwrap();
        let len = disk.read(newest).unwrap().len();
        let cut = random.usize(0..len);
        disk.truncate(newest, cut as u64).unwrap();
        let opened = builder(&disk, archiving).policy(Policy::TruncateTail).open();
        assert!(
            opened.is_err(),
            "{bytes} bytes, {cut} of {len}: {}",
            opened.unwrap().recovery_report().unwrap()
        );
    }
}

/// A copy was in the archive and not on the list by which the past is given up.
#[test]
fn a_copy_that_is_not_read_back_for_once_loses_nothing() {
    let mut fired = 0;
    let places = [FileOp::Open, FileOp::Read, FileOp::Metadata]
        .into_iter()
        .flat_map(|op| (0..6).flat_map(move |skip| (1..4).map(move |segment| (op, skip, segment))));
    // Once, and as often as a header is asked for.
    for (op, skip, segment, times) in
        places.flat_map(|(op, skip, one)| [(op, skip, one, 1), (op, skip, one, 4)])
    {
        let disk = crashed::disk(1);
        let db = open(&disk, Policy::Strict);
        let mut states: Vec<State> = (0..4).map(|i| large(&db, i)).collect();
        let name = format!("{segment}.seg.zst");
        let fault = Fault::on(op).of_names_ending(&name).skip(skip);
        disk.inject(fault.times(times).failing(Failure::Io));
        for i in 4..8 {
            db.snapshot().unwrap().wait().unwrap();
            states.push(large(&db, i));
        }
        fired += disk.faults_fired();
        disk.clear_faults();
        db.close().unwrap();
        past::every_moment_is_there(
            &disk,
            &states,
            &format!("{op:?} of {name}, after {skip}, {times} times"),
        );
    }
    assert!(fired > 0);
}
