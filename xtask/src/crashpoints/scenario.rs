//! The scripts, and what must hold after a crash of each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{Digest, ErrorKind, Lsn, PersistenceConfig, Policy};
use ecsdb_io::Layout;
use ecsdb_sim::{
    Counterexample, CrashCase, CrashPattern, CrashVariant, Exploration, Explored, Journal, SimDisk,
    explore_from,
};
use ecsdb_tests::components::Counter;
use ecsdb_tests::crashed::{DIR, Event, builder, commit, digest, verify_open};
use ecsdb_tests::scripts;

use super::states::States;

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) explore: fn(&Exploration, &States) -> Result<Explored, Counterexample>,
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "commits",
        explore: |exploration, states| scripted(exploration, states, plain, scripts::commits),
    },
    Scenario {
        name: "lifecycle",
        explore: |exploration, states| scripted(exploration, states, scripts::archiving, scripts::lifecycle),
    },
    Scenario {
        name: "tour",
        explore: |exploration, states| {
            scripted(exploration, states, scripts::keeping, |disk, journal| {
                scripts::tour(disk, journal, scripts::keeping)?.close()
            })
        },
    },
    Scenario {
        name: "life",
        explore: |exploration, states| {
            let seed = exploration.seed;
            scripted(exploration, states, scripts::keeping, |disk, journal| {
                scripts::life(disk, journal, seed)
            })
        },
    },
    Scenario { name: "copies", explore: copies },
    Scenario { name: "repair", explore: repair },
];

type Settings = fn(&mut PersistenceConfig);

/// The disk's random numbers are always the same, so that two states are two for another reason.
const DISK_SEED: u64 = 1;

fn plain(_: &mut PersistenceConfig) {}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn scripted(
    exploration: &Exploration,
    states: &States,
    settings: Settings,
    script: impl Fn(&SimDisk, &Journal<Event>) -> ecsdb::Result<()>,
) -> Result<Explored, Counterexample> {
    explore_from(
        &SimDisk::new(DISK_SEED),
        exploration,
        |disk, journal| script(disk, journal).map_err(text),
        |disk, case| {
            if !states.is_new(disk, case) {
                return Ok(());
            }
            // REC-4: what a killed process did not sync is the recovery's to sync.
            if case.seed.is_multiple_of(8) || case.variant.pattern == CrashPattern::Killed {
                crash_the_recovery(exploration, states, settings, disk, case)?;
            }
            judge(disk, case, settings)
        },
    )
}

/// Everything acknowledged is there, nothing is half, no damage is reported, numbers go on above, and it opens again as the same.
fn judge(disk: &SimDisk, case: &CrashCase<'_, Event>, settings: Settings) -> Result<(), String> {
    if case.seed.is_multiple_of(5) {
        match ecsdb_recovery::verify(disk, &Layout::new(PathBuf::from(DIR)), &mut |_| {}) {
            Ok(verified) if verified.faults.is_empty() && verified.away.is_empty() => {}
            Ok(verified) => {
                let (faults, away) = (verified.faults, verified.away);
                return Err(format!("a power cut is verified as damage: {faults:?}, away: {away:?}"));
            }
            // Before there is a manifest, there is no database.
            Err(_) if !case.events.iter().any(|event| matches!(event, Event::Durable(_))) => {}
            Err(e) => return Err(format!("it cannot be verified: {e}")),
        }
    }
    let policy = if case.seed.is_multiple_of(2) { Policy::Strict } else { Policy::TruncateTail };
    let db = builder(disk, settings).policy(policy).open();
    let db = db.map_err(|e| format!("does not open under {policy:?}: {e}"))?;
    let last = verify_open(&db, case.events)?;
    let ticket = db.submit(|tx| Ok(tx.spawn(Counter(1234)))).map_err(text)?;
    let lsn = ticket.lsn();
    ticket.wait().map_err(text)?;
    if lsn <= last {
        return Err(format!("LSN {lsn} was given out again after {last}"));
    }
    let expected = digest(&db)?;
    // Closed, or killed and without power.
    let disk = if case.seed.is_multiple_of(3) {
        db.close().map_err(text)?;
        disk.crash(CrashVariant::KEPT)
    } else {
        disk.crash(CrashVariant::LOST)
    };
    opens_as(&disk, settings, expected, lsn)
}

fn opens_as(disk: &SimDisk, settings: Settings, expected: Digest, lsn: Lsn) -> Result<(), String> {
    let db = builder(disk, settings).policy(Policy::Strict).open_existing();
    let db = db.map_err(|e| format!("does not open again under strict: {e}"))?;
    let found = digest(&db)?;
    if found != expected || db.lsn() != lsn {
        return Err(format!("LSN {lsn} was {expected}; it opens again with LSN {} as {found}", db.lsn()));
    }
    Ok(())
}

/// The recovery is a workload like any other.
fn crash_the_recovery(
    exploration: &Exploration,
    states: &States,
    settings: Settings,
    disk: &SimDisk,
    case: &CrashCase<'_, Event>,
) -> Result<(), String> {
    let inner = exploration.within(case, 10, 2);
    let again = explore_from(
        &disk.crash(CrashVariant::KILLED),
        &inner,
        |disk, _: &Journal<()>| {
            disk.advance(Duration::from_secs(1));
            builder(disk, settings).open().map(drop).map_err(text)
        },
        |disk, inner: &CrashCase<'_, ()>| {
            let killed = inner.variant.pattern == CrashPattern::Killed;
            if !states.is_new_of(disk, case.events.len(), killed, "recovery, crashed again") {
                return Ok(());
            }
            let again = CrashCase { seed: inner.seed, operation: inner.operation, ..case.clone() };
            judge(disk, &again, settings)
        },
    );
    again.map(drop).map_err(|e| format!("in the recovery: {e}"))
}

/// A copy is not there, or is whole, and is there once that was said.
fn copies(exploration: &Exploration, states: &States) -> Result<Explored, Counterexample> {
    explore_from(
        &SimDisk::new(DISK_SEED),
        exploration,
        |disk, journal| scripts::copies(disk, journal).map_err(text),
        |disk, case| {
            if !states.is_new(disk, case) {
                return Ok(());
            }
            for path in [scripts::BACKUP, scripts::PAST] {
                let said = case.events.iter().find_map(|event| match event {
                    Event::Copied(to, digest) if *to == path => Some(*digest),
                    _ => None,
                });
                let copy = Database::builder(Path::new(path)).vfs(disk.vfs()).without_threads();
                match copy.policy(Policy::Strict).open_existing() {
                    Ok(copy) => {
                        let found = digest(&copy)?;
                        let was =
                            |event: &Event| matches!(event, Event::Committed(_, then) if *then == found);
                        let right = said.map_or(case.events.iter().any(was), |said| said == found);
                        if !right {
                            return Err(format!("{path} opens as {found}, and was made of {said:?}"));
                        }
                    }
                    Err(e) if said.is_some() => return Err(format!("{path} was made, but: {e}")),
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unfinished) => {}
                    Err(e) => {
                        return Err(format!("{path} was not finished, and is taken for a database: {e}"));
                    }
                }
            }
            judge(disk, case, scripts::archiving)
        },
    )
}

/// A salvage that was interrupted is as if it had not begun, or is done; begun again, it finds the same.
fn repair(exploration: &Exploration, states: &States) -> Result<Explored, Counterexample> {
    let (disk, expected) = match damaged() {
        Ok(damaged) => damaged,
        Err(reason) => {
            let failed = |_: &SimDisk, _: &Journal<Event>| Err(reason);
            return explore_from(&SimDisk::new(DISK_SEED), exploration, failed, |_, _| Ok(()));
        }
    };
    let open = |disk: &SimDisk, policy| builder(disk, scripts::keeping).policy(policy).open_existing();
    explore_from(
        &disk,
        exploration,
        |disk, journal: &Journal<Event>| {
            journal.note(Event::Begin("repair"));
            let db = open(disk, Policy::Salvage).map_err(text)?;
            journal.note(Event::Durable(db.lsn()));
            journal.note(Event::Begin("commit"));
            commit(&db, journal, true, |tx| {
                tx.spawn(Counter(5));
                Ok(())
            })
            .map_err(text)?;
            db.close().map_err(text)
        },
        |disk, case| {
            if !states.is_new(disk, case) {
                return Ok(());
            }
            let done = case.events.iter().any(|event| matches!(event, Event::Durable(_)));
            let wrote = case.events.iter().any(|event| matches!(event, Event::Committed(..)));
            let right = |db: &Database| match digest(db)? {
                found if found == expected || wrote => Ok(()),
                found => Err(format!("salvaged as {found}, not as {expected}")),
            };
            match open(&disk.crash(CrashVariant::KEPT), Policy::TruncateTail) {
                Ok(db) => right(&db)?,
                Err(e) if done => return Err(format!("it is salvaged, and does not open: {e}")),
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(format!("half salvaged: {e}")),
            }
            let db = open(disk, Policy::Salvage).map_err(|e| format!("cannot be salvaged again: {e}"))?;
            right(&db)?;
            let (lsn, digest) = (db.lsn(), digest(&db)?);
            drop(db);
            opens_as(&disk.crash(CrashVariant::LOST), scripts::keeping, digest, lsn)
        },
    )
}

/// A database that was killed, with a flipped bit in the last segment's first transaction; and the world that a salvage gives.
fn damaged() -> Result<(SimDisk, Digest), String> {
    let disk = SimDisk::new(DISK_SEED);
    let db = scripts::tour(&disk, &Journal::new(), scripts::keeping).map_err(text)?;
    let disk = disk.crash(CrashVariant::KEPT);
    drop(db);
    let files = disk.files().into_iter().map(|(path, _)| path);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "seg");
    let last =
        files.filter(|path| is_segment(path) && path.parent().is_some_and(|dir| dir.ends_with("log"))).max();
    disk.flip_bit(last.ok_or("there is no log")?, 4096 + 100, 3).map_err(text)?;
    let salvaged = disk.crash(CrashVariant::KEPT);
    let db = builder(&salvaged, scripts::keeping).policy(Policy::Salvage).open_existing();
    let db = db.map_err(text)?;
    if db.recovery_report().is_none_or(|report| report.lost.is_empty()) {
        return Err("the damage to be salvaged is none".into());
    }
    let expected = digest(&db)?;
    Ok((disk, expected))
}
