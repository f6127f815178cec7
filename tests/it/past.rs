//! Going back to a moment gives what was then, or is refused: copies in the archive that are not durable yet count for nothing, and what a salvage
//! has lost is no moment of the past (CKP-2, CKP-3, CKP-9, REC-16).

use std::ops::ControlFlow;

use ecsdb::prelude::*;
use ecsdb::{Digest, Moment, Policy, RecoveryError};
use ecsdb_io::{FileOp, Layout};
use ecsdb_recovery::{Existence, History, Options, lock_closed};
use ecsdb_sim::{CrashVariant, Fault, NameOrder, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files, snapshot_file};

use crate::components::Counter;
use crate::lifecycle::{State, archiving, large, state};
use crate::model::cases;

fn open(disk: &SimDisk, policy: Policy) -> Database {
    builder(disk, archiving).policy(policy).open().unwrap()
}

fn snapshot(db: &Database) -> u64 {
    db.snapshot().unwrap().wait().unwrap().sequence
}

/// The worlds of a closed database at moments of its past.
pub(crate) fn past(disk: &SimDisk, moments: impl Iterator<Item = Lsn>) -> Vec<Result<Digest, RecoveryError>> {
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
    let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
    let options =
        Options { existence: Existence::Required, policy: Policy::Strict, threads: 1, register: true };
    let world = |lsn| {
        history
            .reconstruct(Moment::Lsn(lsn), options, &mut |_| ControlFlow::Continue(()))
            .map(|past| past.world)
    };
    moments.map(|lsn| Ok(world(lsn)?.view().digest().unwrap())).collect()
}

/// Nothing of what was committed is another by now, or lost.
pub(crate) fn every_moment_is_there(disk: &SimDisk, states: &[State], what: &str) {
    for (found, (lsn, was)) in past(disk, states.iter().map(|(lsn, _)| *lsn)).into_iter().zip(states) {
        assert_eq!(found.as_ref().ok(), Some(was), "{what}: LSN {lsn}: {:?}", found.as_ref().err());
    }
}

/// Everything that was committed can be gone back to after a power cut.
fn every_moment_survives(disk: &SimDisk, variant: CrashVariant, states: &[State], what: &str) {
    let disk = disk.crash(variant);
    open(&disk, Policy::TruncateTail).close().unwrap();
    every_moment_is_there(&disk, states, &format!("{what}, {variant:?}"));
}

/// A large transaction, which fills a segment, and a small one before it, of which there is no snapshot.
fn fill(db: &Database, states: &mut Vec<State>) {
    db.write(|tx| Ok(tx.spawn(Counter(states.len() as u64)))).unwrap();
    states.push(state(db));
    states.push(large(db, states.len() as u64));
}

/// Several archived segments, and one to come.
fn archived(disk: &SimDisk) -> (Database, Vec<State>) {
    let db = open(disk, Policy::Strict);
    let mut states = Vec::new();
    for _ in 0..4 {
        fill(&db, &mut states);
        snapshot(&db);
    }
    fill(&db, &mut states);
    (db, states)
}

/// CKP-2, CKP-3: a copy in the archive whose name was not synced is none. The sync fails, and everything is tried again.
#[test]
fn a_segment_stays_in_the_log_until_its_copy_is_durable() {
    let disk = crashed::disk(1);
    let (db, states) = archived(&disk);
    disk.inject(Fault::on(FileOp::SyncDir).of_names_ending("/archive"));
    snapshot(&db);
    assert_eq!(disk.faults_fired(), 1);
    snapshot(&db);
    for variant in disk.crash_variants(4, 1, NameOrder::Any) {
        every_moment_survives(&disk, variant, &states, "after a sync that failed");
    }
}

/// The same, where a kill comes between the copy and the sync of its name, and the power goes later (REC-4).
#[test]
fn a_segment_stays_in_the_log_until_its_copy_is_durable_whoever_made_it() {
    for stop in 0..40 {
        let disk = crashed::disk(1);
        let (db, states) = archived(&disk);
        disk.stop_after(disk.operations() + stop);
        drop(db.snapshot().unwrap().wait());
        drop(db);
        let disk = disk.crash(CrashVariant::KILLED);
        let db = open(&disk, Policy::TruncateTail);
        snapshot(&db);
        drop(db);
        every_moment_survives(&disk, CrashVariant::LOST, &states, &format!("killed after operation {stop}"));
    }
}

/// What can be gone back to is what was then: of the numbers that a salvage gave anew, what they have stood for since.
fn no_moment_is_another(disk: &SimDisk, states: &[State], what: &str) {
    let all = || (1..=states.last().unwrap().0.0).map(Lsn);
    let mut there = 0;
    for (lsn, found) in all().zip(past(disk, all())) {
        if let Ok(found) = found {
            let was = states.iter().rfind(|(at, _)| *at == lsn);
            assert_eq!(Some(found), was.map(|(_, digest)| *digest), "{what}: LSN {lsn}");
            there += 1;
        }
    }
    assert!(there > 0);
}

/// A session that begins with a salvage. Gives what it found, and what it came to.
fn salvage(disk: &SimDisk) -> Vec<State> {
    let db = open(disk, Policy::Salvage);
    let mut states = vec![state(&db)];
    states.extend((100..104).map(|value| large(&db, value)));
    snapshot(&db);
    db.close().unwrap();
    states
}

/// REC-16: in whichever way the log goes on after the loss.
#[test]
fn what_a_salvage_has_lost_is_no_moment_of_the_past() {
    for snapshots_too in [false, true] {
        for victim in ["the first", "one of the last"] {
            let disk = crashed::disk(1);
            let db = open(&disk, Policy::Strict);
            let mut states = Vec::new();
            for i in 0..16 {
                states.push(large(&db, i));
                if i % 3 == 2 && i < 13 {
                    snapshot(&db);
                }
            }
            db.close().unwrap();
            if snapshots_too {
                files(&disk, ".snap").iter().for_each(|path| disk.erase(path).unwrap());
            }
            let log = files(&disk, ".seg");
            let damaged = if victim == "the first" { &log[0] } else { &log[log.len() - 2] };
            disk.corrupt(damaged, 0, &[0; 4096]).unwrap();
            states.extend(salvage(&disk));
            no_moment_is_another(
                &disk,
                &states,
                &format!("{victim} is damaged, and the snapshots {snapshots_too}"),
            );
        }
    }
}

/// REC-16: the last segment before the loss stands in the archive, and what came after it is lost.
#[test]
fn what_a_salvage_has_lost_behind_an_archived_segment_is_no_moment_of_the_past() {
    let disk = crashed::disk(1);
    let db = open(&disk, Policy::Strict);
    let mut states: Vec<State> = (1..=3).map(|value| large(&db, value)).collect();
    snapshot(&db);
    states.push(large(&db, 4));
    for value in 5..7 {
        db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
        states.push(state(&db));
    }
    // The archive has all sealed segments, and the manifest that lets go of them in the log does not come about.
    disk.inject(Fault::on(FileOp::Rename).of_names_containing(".manifest").skip(2).times(u64::MAX));
    let newest = snapshot(&db);
    drop(db);
    disk.clear_faults();
    disk.erase(snapshot_file(newest)).unwrap();
    let log = files(&disk, ".seg");
    let begun = log.iter().rfind(|path| disk.read(path).unwrap().iter().any(|byte| *byte != 0));
    disk.corrupt(begun.unwrap(), 0, &[0; 4096]).unwrap();
    assert!(builder(&disk, archiving).policy(Policy::TruncateTail).open().is_err());
    states.extend(salvage(&disk));
    no_moment_is_another(&disk, &states, "the last is damaged");
}

fn open_chain(disk: &SimDisk, chain: usize, policy: Policy) -> Database {
    builder(disk, archiving).config(|config| config.snapshot.chain_max = chain).policy(policy).open().unwrap()
}

/// Damages the log, or takes a part of it away, and opens it. True when that was a loss.
fn damaged_and_salvaged(disk: &SimDisk, chain: usize, random: &mut fastrand::Rng) -> (Database, bool) {
    let log = Layout::new(DIR).log_dir().to_owned();
    let mut segments = files(disk, ".seg");
    segments.retain(|path| path.starts_with(&log));
    let path = &segments[random.usize(..segments.len())];
    if random.bool() {
        disk.erase(path).unwrap();
    } else {
        disk.corrupt(path, 4096, &[9; 64]).unwrap();
    }
    let db = open_chain(disk, chain, Policy::Salvage);
    let is_loss = !db.recovery_report().unwrap().lost.is_empty();
    (db, is_loss)
}

/// REC-16, CKP-9: at random, over and over. What was committed since can be gone back to, and a compaction finds what it needs.
#[test]
fn after_a_salvage_the_past_is_what_it_was() {
    let mut losses = 0;
    for seed in 0..u64::from(cases(16)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut disk = crashed::disk(seed);
        let chain = random.usize(1..4);
        let mut db = open_chain(&disk, chain, Policy::Strict);
        let mut states: Vec<State> = Vec::new();
        let mut since = 0;
        for round in 0..3 {
            for _ in 0..random.usize(2..9) {
                match random.u32(0..8) {
                    0..3 => {
                        db.write(|tx| Ok(tx.spawn(Counter(random.u64(..))))).unwrap();
                        states.push(state(&db));
                    }
                    3 => states.push(large(&db, 1)),
                    4..7 => drop(snapshot(&db)),
                    _ => drop(db.compact().unwrap().wait().unwrap_or_else(|e| panic!("seed {seed}: {e}"))),
                }
            }
            for (i, &(lsn, was)) in states.iter().enumerate() {
                // It stands for another one by now.
                if states[i + 1..].iter().any(|(later, _)| *later <= lsn) {
                    continue;
                }
                let to = format!("/data/past{round}-{i}");
                match db.restore_to(&to, Moment::Lsn(lsn)).and_then(|job| job.wait()) {
                    Ok(_) => {
                        let past = Database::builder(&to).vfs(disk.vfs()).without_threads().open().unwrap();
                        assert_eq!(state(&past).1, was, "seed {seed}: LSN {lsn}");
                    }
                    Err(e) => assert!(i < since, "seed {seed}: LSN {lsn}: {e}"),
                }
            }
            disk.power_off();
            drop(db);
            disk = disk.crash(CrashVariant::KEPT);
            let is_loss;
            (db, is_loss) = damaged_and_salvaged(&disk, chain, &mut random);
            if is_loss {
                let last = db.recovery_report().unwrap().last_lsn;
                states.retain(|(lsn, _)| *lsn <= last);
                losses += 1;
            }
            since = states.len();
        }
    }
    assert!(losses > 0);
}
