//! The first crash-point test: a scripted workload is crashed after every storage operation, in every simulated
//! variant up to a bound, and opened again. Every acknowledged transaction is there, every transaction is whole, and the state is
//! some prefix of the history.

use std::time::Duration;

use ecsdb::Lsn;
use ecsdb::prelude::*;
use ecsdb_sim::{CrashCase, CrashVariant, Exploration, Journal, SimDisk, explore, explore_from};
use ecsdb_tests::crashed::{Event, open_with, verify_open};
use ecsdb_tests::scripts;

use crate::components::Counter;

fn open(disk: &SimDisk) -> ecsdb::Result<Database> {
    open_with(disk, |_| {})
}

fn scripted(disk: &SimDisk, journal: &Journal<Event>) -> Result<(), String> {
    scripts::commits(disk, journal).map_err(|e| e.to_string())
}

/// Opens what a crash left, and compares it with the history. Gives the LSN it came back to.
fn verify(disk: &SimDisk, events: &[Event]) -> Result<Lsn, String> {
    let db = open(disk).map_err(|e| format!("does not open: {e}"))?;
    verify_open(&db, events)
}

/// Crash, recover, write, crash, recover: LSNs are never used twice, and the new transaction is there.
fn check(disk: &SimDisk, case: &CrashCase<'_, Event>) -> Result<(), String> {
    let last = verify(disk, case.events)?;
    let text = |e: ecsdb::Error| e.to_string();
    let db = open(disk).map_err(text)?;
    let (entity, lsn) = {
        let ticket = db.submit(|tx| Ok(tx.spawn(Counter(1234)))).map_err(text)?;
        let (entity, lsn) = (*ticket.value().unwrap(), ticket.lsn());
        ticket.wait().map_err(text)?;
        (entity, lsn)
    };
    if lsn <= last {
        return Err(format!("LSN {lsn} was given out again after {last}"));
    }
    drop(db);
    let again = open(&disk.crash(CrashVariant::LOST)).map_err(text)?;
    match again.view().unwrap().get::<Counter>(entity) {
        Ok(Counter(1234)) => Ok(()),
        other => Err(format!("the transaction after the recovery is lost: {other:?}")),
    }
}

#[test]
fn a_crash_after_any_storage_operation_loses_nothing_acknowledged() {
    let exploration = Exploration { random_variants: 12, ..Exploration::default() };
    let explored = explore(&exploration, scripted, check).unwrap();
    println!("{explored:?}");
    assert!(explored.points > 60, "{explored:?}");
}

/// Seed 3 found that the manifest called an LSN durable which recovery had only seen beyond a torn tail: a crash before the
/// new segment was there then looked like the loss of acknowledged data.
#[test]
fn recovery_crashed_at_any_of_its_operations_can_be_started_again() {
    let exploration = Exploration { random_variants: 2, points_max: 40, seed: 3, ..Exploration::default() };
    let explored = explore(&exploration, scripted, |crashed: &SimDisk, case: &CrashCase<'_, Event>| {
        let inner = exploration.within(case, 8, 1);
        let reopen = |disk: &SimDisk, _: &Journal<()>| -> Result<(), String> {
            disk.advance(Duration::from_secs(1));
            drop(open(disk).map_err(|e| e.to_string())?);
            Ok(())
        };
        explore_from(crashed, &inner, reopen, |disk: &SimDisk, _: &CrashCase<'_, ()>| {
            verify(disk, case.events).map(drop)
        })
        .map(drop)
        .map_err(|e| e.to_string())
    })
    .unwrap();
    println!("{explored:?}");
}
