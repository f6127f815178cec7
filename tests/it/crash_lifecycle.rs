//! Snapshots in chains, archiving, truncation, merging, restoring: crashed after every storage operation. What is left always opens to
//! an acknowledged prefix of the history, and no file that recovery needs was ever deleted (CKP-2 to CKP-5, CKP-9).

use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Moment};
use ecsdb_io::Layout;
use ecsdb_recovery::{lacks_manifest, look};
use ecsdb_sim::{CrashCase, Exploration, Failure, Journal, SimDisk, explore, explore_faults, explore_from};
use ecsdb_tests::crashed::{self, Event, open_with, verify_open};
use ecsdb_tests::scripts;

use crate::components::Counter;

fn open(disk: &SimDisk) -> ecsdb::Result<Database> {
    open_with(disk, scripts::archiving)
}

fn scripted(disk: &SimDisk, journal: &Journal<Event>) -> Result<(), String> {
    scripts::lifecycle(disk, journal).map_err(|e| e.to_string())
}

fn check(disk: &SimDisk, case: &CrashCase<'_, Event>) -> Result<(), String> {
    let text = |e: ecsdb::Error| e.to_string();
    // Wherever it ended, no manifest is missed that nobody has taken away.
    let (vfs, layout) = (disk.vfs(), Layout::new(crashed::DIR));
    if let Ok(manifest) = look(&*vfs, &layout)
        && lacks_manifest(&*vfs, &layout, &manifest).map_err(|e| e.to_string())?
    {
        return Err(format!("manifest {} is said to be the only one that is left", manifest.generation));
    }
    let db = open(disk).map_err(|e| format!("does not open: {e}"))?;
    let last = verify_open(&db, case.events)?;
    // Any moment that is retained is what it was.
    let committed = case.events.iter().filter_map(|event| match event {
        Event::Committed(lsn, digest) if *lsn <= last => Some((*lsn, *digest)),
        _ => None,
    });
    let committed: Vec<_> = committed.collect();
    if let Some(&(lsn, then)) = committed.get(case.seed as usize % committed.len().max(1)) {
        let copy = "/data/copy";
        match db.restore_to(copy, Moment::Lsn(lsn)).map_err(text)?.wait() {
            Ok(_) => {
                let copied =
                    Database::builder(copy).vfs(disk.vfs()).without_threads().open().map_err(text)?;
                let found = copied.view().unwrap().digest().map_err(|e| e.to_string())?;
                if found != then {
                    return Err(format!("LSN {lsn} was {then} and is gone back to as {found}"));
                }
            }
            Err(e) if e.to_string().contains("is not among what is retained") => {}
            Err(e) => return Err(format!("LSN {lsn} cannot be gone back to: {e}")),
        }
    }
    // What an interrupted change left over does not hinder the next one.
    db.write(|tx| Ok(tx.spawn(Counter(9)))).map_err(text)?;
    db.snapshot().map_err(text)?.wait().map_err(text)?;
    let expected = db.view().unwrap().digest().map_err(|e| e.to_string())?;
    drop(db);
    let again = open(disk).map_err(|e| format!("does not open again: {e}"))?;
    match again.view().unwrap().digest() {
        Ok(digest) if digest == expected => Ok(()),
        other => Err(format!("after one more snapshot: {other:?}, not {expected}")),
    }
}

#[test]
fn a_crash_within_publishing_merging_archiving_or_truncating_loses_nothing() {
    let exploration = Exploration { random_variants: 4, ..Exploration::default() };
    let explored = explore(&exploration, scripted, check).unwrap();
    println!("{explored:?}");
    assert!(explored.points > 250, "{explored:?}");
}

#[test]
fn recovery_from_such_a_crash_can_be_crashed_too() {
    let exploration = Exploration { random_variants: 1, points_max: 60, seed: 5, ..Exploration::default() };
    let explored = explore(&exploration, scripted, |crashed: &SimDisk, case: &CrashCase<'_, Event>| {
        let inner = exploration.within(case, 6, 1);
        let reopen = |disk: &SimDisk, _: &Journal<()>| -> Result<(), String> {
            disk.advance(Duration::from_secs(1));
            drop(open(disk).map_err(|e| e.to_string())?);
            Ok(())
        };
        explore_from(crashed, &inner, reopen, |disk: &SimDisk, _: &CrashCase<'_, ()>| {
            let db = open(disk).map_err(|e| e.to_string())?;
            verify_open(&db, case.events).map(drop)
        })
        .map(drop)
        .map_err(|e| e.to_string())
    })
    .unwrap();
    println!("{explored:?}");
}

/// An error of any operation fails the commit or the job that needed it, with the disk's error; nothing acknowledged is lost.
#[test]
fn an_input_output_error_or_a_full_disk_at_any_operation_loses_nothing() {
    let exploration = Exploration { random_variants: 0, points_max: 60, seed: 2, ..Exploration::default() };
    let explored = explore_faults(&exploration, &[Failure::Io, Failure::NoSpace], scripted, check).unwrap();
    println!("{explored:?}");
}

/// WAL-6: once space is free again, the database goes on after reopening, and what failed is taken up again.
#[test]
fn after_a_full_disk_the_database_goes_on() {
    let disk = SimDisk::new(3);
    disk.put_dir("/data").unwrap();
    let db = open(&disk).unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    disk.inject(ecsdb_sim::Fault::on(ecsdb_io::FileOp::Write).failing(Failure::NoSpace).times(1_000));
    // A snapshot needs room, and fails by itself; commits go on where the log has room.
    let full = db.snapshot().unwrap().wait().unwrap_err();
    assert!(full.is_full_disk(), "{full}");
    let full = db.write(|tx| Ok(tx.spawn(Counter(2)))).unwrap_err();
    assert!(full.is_full_disk(), "{full}");
    assert_eq!(db.view().unwrap().query::<&Counter>().unwrap().count(), 2, "reads go on");
    assert!(db.write(|tx| Ok(tx.spawn(Counter(3)))).unwrap_err().is_full_disk());
    drop(db);
    let freed = disk.crash(ecsdb_sim::CrashVariant::LOST);
    let db = open_with(&freed, |config| config.wal.segment_bytes_max = ByteSize(64 << 10)).unwrap();
    assert_eq!(
        db.view().unwrap().query::<&Counter>().unwrap().count(),
        1,
        "what was acknowledged, and only that"
    );
    db.write(|tx| Ok(tx.spawn(Counter(4)))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
}
