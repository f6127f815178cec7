//! Snapshots in chains, archiving, truncation, merging, restoring: crashed after every storage operation. What is left always opens to
//! an acknowledged prefix of the history, and no file that recovery needs was ever deleted (CKP-2 to CKP-5, CKP-9).

use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Moment, PersistenceConfig};
use ecsdb_sim::{CrashCase, Exploration, Failure, Journal, SimDisk, explore, explore_faults, explore_from};

use crate::components::{Counter, Name, Position};
use crate::crash_points::{Event, commit, open_with, verify_open};

fn settings(config: &mut PersistenceConfig) {
    config.snapshot.chain_max = 3;
    config.archive.enabled = Some(true);
    config.archive.compression_level = 1;
    config.retention.snapshots_max = 3;
}

fn open(disk: &SimDisk) -> ecsdb::Result<Database> {
    open_with(disk, settings)
}

/// A little more than a third of a segment.
fn fill(db: &Database, journal: &Journal<Event>, wait: bool) -> ecsdb::Result<()> {
    commit(db, journal, wait, |tx| {
        let entity = tx.spawn((Counter(1), Name("z".repeat(24_000))));
        tx.query::<&mut Position>().take(1).for_each(|p| p.x += 1.0);
        tx.get_mut::<Counter>(entity)?.0 += 1;
        Ok(())
    })
}

fn workload(disk: &SimDisk, journal: &Journal<Event>) -> ecsdb::Result<()> {
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    let db = open(disk)?;
    commit(&db, journal, true, |tx| {
        tx.spawn_batch((0..100).map(|i| (Position { x: i as f32, y: 0.0 }, Counter(i))));
        Ok(())
    })?;
    for round in 0..6 {
        fill(&db, journal, round % 2 == 0)?;
        fill(&db, journal, true)?;
        db.snapshot()?.wait()?;
    }
    let back = db.lsn();
    let then = db.view().unwrap().digest()?;
    commit(&db, journal, true, |tx| {
        let gone: Vec<Entity> = tx.query::<(Entity, &Position)>().map(|(e, _)| e).skip(3).collect();
        Ok(gone.into_iter().try_for_each(|entity| tx.despawn(entity))?)
    })?;
    db.compact()?.wait()?;
    fill(&db, journal, true)?;
    // Noted ahead: the job appends and waits in one go.
    journal.note(Event::Committed(db.lsn().next(), then));
    let restored = db.restore(Moment::Lsn(back))?.wait();
    match restored {
        Ok(lsn) => journal.note(Event::Durable(lsn)),
        // The compaction gave that moment up.
        Err(e) if e.to_string().contains("retained") => return Err(e),
        Err(e) => return Err(e),
    }
    fill(&db, journal, true)?;
    db.snapshot()?.wait()?;
    db.close()?;
    let db = open(disk)?;
    fill(&db, journal, true)?;
    db.snapshot()?.wait()?;
    fill(&db, journal, false)?;
    db.close()
}

fn scripted(disk: &SimDisk, journal: &Journal<Event>) -> Result<(), String> {
    workload(disk, journal).map_err(|e| e.to_string())
}

fn check(disk: &SimDisk, case: &CrashCase<'_, Event>) -> Result<(), String> {
    let text = |e: ecsdb::Error| e.to_string();
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
    let db = open_with(&freed, |config| config.log.segment_bytes_max = ByteSize(64 << 10)).unwrap();
    assert_eq!(
        db.view().unwrap().query::<&Counter>().unwrap().count(),
        1,
        "what was acknowledged, and only that"
    );
    db.write(|tx| Ok(tx.spawn(Counter(4)))).unwrap();
    db.snapshot().unwrap().wait().unwrap();
}
