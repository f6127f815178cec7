//! Several damages in one life: what can be gone back to is what was, what is said of it is so, and no opening takes any of it away.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{DataLoss, Digest, FileOp, IoError, Moment, PersistenceConfig, RecoveryError};
use ecsdb_io::Layout;
use ecsdb_io::sync::Mutex;
use ecsdb_recovery::{Existence, History, Options, Policy, lock_closed, verify};
use ecsdb_sim::{CrashVariant, Failure, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::components::{Counter, Name};
use crate::lifecycle::{by_hand, large, state};
use crate::model::cases;

#[derive(Clone, Copy, Debug)]
struct Was {
    lsn: Lsn,
    world: Digest,
    until: SystemTime,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    archive: bool,
    level: i32,
    chain: usize,
    keep: usize,
}

impl Settings {
    fn set(self, config: &mut PersistenceConfig) {
        by_hand(config);
        config.archive.enabled = Some(self.archive);
        config.archive.compression_level = self.level;
        config.snapshot.chain_max = self.chain;
        config.retention.snapshots_max = self.keep;
    }
}

type Reached = Vec<Result<Digest, RecoveryError>>;

struct Life {
    disk: SimDisk,
    settings: Settings,
    states: Vec<Was>,
}

impl Life {
    fn open(&self, policy: Policy) -> ecsdb::Result<Database> {
        let settings = self.settings;
        builder(&self.disk, move |config| settings.set(config)).policy(policy).open()
    }

    fn note(&mut self, db: &Database) {
        let (lsn, world) = state(db);
        self.disk.advance(Duration::from_secs(5));
        let until = UNIX_EPOCH + Duration::from_nanos(self.disk.vfs().now_unix_ns());
        self.disk.advance(Duration::from_secs(5));
        self.states.push(Was { lsn, world, until });
    }

    fn end(&mut self, db: Database, random: &mut fastrand::Rng) {
        if random.bool() {
            db.close().unwrap();
        } else {
            self.disk.power_off();
            drop(db);
            self.disk = self.disk.crash(CrashVariant::KEPT);
        }
    }

    fn act(&mut self, mut db: Database, n: usize, random: &mut fastrand::Rng) -> Database {
        for _ in 0..n {
            match random.u32(..16) {
                0..4 => {
                    large(&db, random.u64(..));
                    self.note(&db);
                }
                4..8 => {
                    let len = random.usize(..200);
                    db.write(|tx| Ok(tx.spawn((Counter(random.u64(..)), Name("n".repeat(len))))))
                        .map(drop)
                        .unwrap();
                    self.note(&db);
                }
                8..11 => drop(db.snapshot().unwrap().wait().unwrap()),
                11 => drop(db.compact().unwrap().wait().unwrap()),
                12 => db.rotate_log().unwrap(),
                _ => {
                    self.end(db, random);
                    db = self.open(Policy::TruncateTail).unwrap();
                }
            }
        }
        db
    }

    fn new(seed: u64, random: &mut fastrand::Rng) -> Life {
        let settings = Settings {
            archive: random.bool(),
            level: [0, 3][random.usize(..2)],
            chain: random.usize(1..4),
            keep: [2, 3, 100, 100][random.usize(..4)],
        };
        let mut life = Life { disk: crashed::disk(seed), settings, states: Vec::new() };
        let db = life.open(Policy::Strict).unwrap();
        let db = life.act(db, random.usize(4..18), random);
        life.end(db, random);
        life
    }

    /// What is reached of all moments, by their LSNs and by times after them; and what is said to be there.
    fn reached(&self) -> (Reached, Reached, Option<(Lsn, Lsn)>) {
        let (vfs, layout) = (self.disk.vfs(), Layout::new(DIR));
        let (_lock, manifest) = lock_closed(&*vfs, &layout).unwrap();
        let history = History::of_closed(&*vfs, &layout, &manifest).unwrap();
        let (existence, policy) = (Existence::Required, Policy::TruncateTail);
        let options = Options { existence, policy, threads: 1, register: true };
        let at = |moment| {
            history
                .reconstruct(moment, options, &mut |_| ControlFlow::Continue(()))
                .map(|past| past.world.view().digest().unwrap())
        };
        let lsns = self.states.iter().map(|was| at(Moment::Lsn(was.lsn))).collect();
        let times = self.states.iter().map(|was| at(Moment::Time(was.until))).collect();
        (lsns, times, history.range().map(|(first, last)| (first.0, last.0)))
    }
}

fn hurt(disk: &SimDisk, random: &mut fastrand::Rng) -> Option<String> {
    let ends = [".seg", ".seg.zst", ".snap"];
    let mut all: Vec<PathBuf> = ends.into_iter().flat_map(|end| files(disk, end)).collect();
    all.retain(|path| !path.to_string_lossy().contains("quarantine"));
    let path = all.get(random.usize(..all.len().max(1)))?;
    let bytes = disk.read(path).unwrap();
    let len = bytes.len() as u64;
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
    let how = random.u32(..8);
    match how {
        0 => disk.erase(path).unwrap(),
        1 => disk.truncate(path, 0).unwrap(),
        2 => disk.corrupt(path, 0, &[7; 64]).unwrap(),
        3 => disk.truncate(path, random.u64(..len.max(1))).unwrap(),
        4 => disk.truncate(path, end.saturating_sub(random.u64(..64))).unwrap(),
        5 => disk.corrupt(path, end.saturating_sub(1 + random.u64(..end.min(200))), &[0; 8]).unwrap(),
        6 if len >= 8192 => disk.corrupt(path, 4096 * random.u64(..len / 4096), &[0; 4096]).unwrap(),
        _ if len < 200 => return None,
        _ => disk.corrupt(path, random.u64(..end.max(100) - 64), &[9; 64]).unwrap(),
    }
    Some(format!("{how} {} of {end}/{len}", path.display()))
}

/// Gives how many openings there were, and how many were refused.
fn several_damages(seed: u64) -> (usize, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let life = Life::new(seed, &mut random);
    if life.states.is_empty() {
        return (0, 0);
    }
    let (before, before_times, _) = life.reached();
    for (found, was) in before.iter().zip(&life.states).chain(before_times.iter().zip(&life.states)) {
        if let Ok(found) = found {
            assert_eq!(*found, was.world, "{seed}: before: {was:?}");
        }
    }
    let last = *life.states.last().unwrap();
    let done: Vec<_> = (0..random.usize(1..4)).filter_map(|_| hurt(&life.disk, &mut random)).collect();
    // What a killed session wrote last looks torn.
    let newest = files(&life.disk, ".seg").pop().map_or_else(String::new, |path| path.display().to_string());
    // One page of zeros in it looks like a log into which nothing was written: that is beyond what can be told.
    let tail_hurt = !newest.is_empty() && done.iter().any(|what| what.contains(&newest))
        || done.iter().any(|what| what.starts_with(['0', '1', '3']));
    let (vfs, layout) = (life.disk.vfs(), Layout::new(DIR));
    let verified = verify(&*vfs, &layout, &mut |_| {}).unwrap_or_else(|e| panic!("{seed}: {done:?}: {e}"));
    let (after, times, range) = life.reached();
    let settings = life.settings;
    let texts: Vec<String> = after
        .iter()
        .zip(&life.states)
        .map(|(found, was)| format!("{}: {:?}", was.lsn, found.as_ref().map_err(ToString::to_string)))
        .collect();
    let context = format!(
        "{seed}: {settings:?} {done:?}\n {verified:#?}\n range {range:?}\n{texts:#?} {:?}",
        life.disk.files()
    );
    for (found, was) in after.iter().zip(&life.states) {
        if let Ok(found) = found {
            assert_eq!(*found, was.world, "lsn {was:?} {context}");
        }
    }
    for (found, was) in times.iter().zip(&life.states) {
        if let Ok(found) = found
            && !tail_hurt
        {
            assert_eq!(*found, was.world, "time {was:?} {context}");
        }
    }
    // What is said to be out of reach is.
    for (i, was) in life.states.iter().enumerate() {
        let said = verified.unreachable.iter().any(|(first, last)| (first.0..=last.0).contains(&was.lsn.0));
        if before[i].is_ok() {
            let end = after.iter().rposition(Result::is_ok).map_or(0, |at| at + 1);
            if i < end {
                assert_eq!(said, after[i].is_err(), "said {said} {was:?} {context}");
            } else if said {
                assert!(after[i].is_err(), "said {said} {was:?} {context}");
            }
            let is_told =
                !verified.faults.is_empty() || !verified.away.is_empty() || verified.torn_tail.is_some();
            assert!(after[i].is_ok() || is_told || tail_hurt, "not told {was:?} {context}");
        }
    }
    if let Some((first, end)) = range {
        for (found, was) in after.iter().zip(&life.states) {
            if was.lsn >= first && was.lsn <= end {
                let is_nonsense = matches!(found, Err(RecoveryError::OutOfRange { .. }));
                assert!(!is_nonsense, "within the range {was:?}: {:?} {context}", found.as_ref().err());
            }
        }
    }
    // An opening.
    let db = match life.open(Policy::TruncateTail) {
        Ok(db) => db,
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NotFound), "{e} {context}");
            return (0, 1);
        }
    };
    let report = db.recovery_report().unwrap();
    if state(&db).1 != last.world && !tail_hurt {
        assert!(report.data_loss > DataLoss::None, "{report} {context}");
        if done.iter().all(|what| !what.contains(".seg")) {
            panic!("{report} {context}");
        }
    }
    let count = life.states.len();
    db.close().unwrap();
    let still = |life: &Life, what: &str| {
        let (found, _, _) = life.reached();
        for (i, was) in life.states[..count].iter().enumerate() {
            if after[i].is_ok() && was.lsn <= report.last_lsn {
                assert_eq!(
                    found[i].as_ref().ok(),
                    Some(&was.world),
                    "{what}: {was:?} {:?} {report} {context} {:?}",
                    found[i].as_ref().err(),
                    life.disk.files()
                );
            }
        }
    };
    still(&life, "after opening");
    if settings.keep == 100 && settings.archive {
        let db = life.open(Policy::TruncateTail).unwrap_or_else(|e| panic!("again {e} {report} {context}"));
        for _ in 0..random.usize(1..4) {
            large(&db, 3);
            drop(db.snapshot().and_then(|job| job.wait()));
        }
        db.close().unwrap();
        still(&life, "after snapshots");
    }
    (1, 0)
}

#[test]
fn several_damages_in_one_life() {
    let tried = (0..u64::from(cases(60))).map(several_damages);
    let (opened, refused) = tried.fold((0, 0), |(o, r), (opened, refused)| (o + opened, r + refused));
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

struct NowAndThen(Mutex<(fastrand::Rng, u32, Vec<String>)>);

impl Hooks for NowAndThen {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let mut of = self.0.lock();
        let is_reading = matches!(op, FileOp::Open | FileOp::Read | FileOp::Metadata);
        let rate = of.1;
        if is_reading && of.0.u32(..1000) < rate {
            of.2.push(format!("{op:?} {}", path.display()));
            return Err(IoError::new(op, path, std::io::Error::from_raw_os_error(5)));
        }
        Ok(())
    }
}

/// Looks at a past while the medium fails now and then. Gives how many moments were told, and refused.
fn look(seed: u64) -> (usize, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let life = Life::new(seed, &mut random);
    let hurts = random.usize(0..3);
    let done: Vec<_> = (0..hurts).filter_map(|_| hurt(&life.disk, &mut random)).collect();
    let (whole, whole_times, _) = life.reached();
    let disk = life.disk.vfs();
    let around = Around::new(
        disk,
        NowAndThen(Mutex::new((random.fork(), [2, 10, 40][random.usize(..3)], Vec::new()))),
    );
    let layout = Layout::new(DIR);
    let (_lock, manifest) = lock_closed(&*life.disk.vfs(), &layout).unwrap();
    let (existence, policy) = (Existence::Required, Policy::TruncateTail);
    let options = Options { existence, policy, threads: 1, register: true };
    let (mut told, mut refused) = (0, 0);
    for (i, was) in life.states.iter().enumerate() {
        for (moment, there) in [(Moment::Lsn(was.lsn), &whole[i]), (Moment::Time(was.until), &whole_times[i])]
        {
            around.hooks.0.lock().2.clear();
            let Ok(history) = History::of_closed(&around, &layout, &manifest) else { continue };
            let found = history.reconstruct(moment, options, &mut |_| ControlFlow::Continue(()));
            match found {
                Ok(past) => {
                    told += 1;
                    let world = past.world.view().digest().unwrap();
                    let which = life.states.iter().find(|one| one.world == world).map(|one| one.lsn);
                    let of = format!(
                        "asked {was:?}, told that of {which:?}, report {}, range {:?}",
                        past.report,
                        history.range()
                    );
                    let log = around.hooks.0.lock().2.clone();
                    if moment != Moment::Lsn(was.lsn) && world == was.world {
                        continue;
                    }
                    assert_eq!(
                        Some(&world),
                        there.as_ref().ok(),
                        "{seed}: {done:?} {moment}: it is {:?} without faults; {of} {log:?} {manifest:?} {:?}",
                        there.as_ref().map_err(ToString::to_string),
                        life.disk.files()
                    );
                }
                Err(RecoveryError::OutOfRange { .. }) if there.is_ok() => {
                    panic!("{seed}: {done:?} {moment} is there, and was called out of range")
                }
                Err(_) => refused += 1,
            }
        }
    }
    (told, refused)
}

#[test]
fn a_look_while_the_medium_fails_now_and_then() {
    let (mut told, mut refused) = (0, 0);
    for seed in 0..u64::from(cases(60)) {
        let (of_one, refused_of_one) = look(seed);
        (told, refused) = (told + of_one, refused + refused_of_one);
    }
    assert!(told > 0 && refused > 0, "{told} told, {refused} refused");
}

/// Salvages of a whole database, of which some file is not given for once. Gives how many there were.
fn salvage_once(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut life = Life::new(seed, &mut random);
    life.settings.keep = 100;
    let Some(last) = life.states.last().copied() else { return 0 };
    if random.bool() {
        // So that the archive, or all of the log, is needed.
        for path in files(&life.disk, ".snap").into_iter().rev().take(random.usize(1..3)) {
            life.disk.corrupt(&path, 20, &[7; 40]).unwrap();
        }
    }
    let whole = life.disk.crash(CrashVariant::KEPT);
    let Ok(db) = life.open(Policy::TruncateTail) else { return 0 };
    if state(&db).1 != last.world {
        return 0;
    }
    drop(db);
    life.disk = whole.crash(CrashVariant::KEPT);
    let (before, _, _) = life.reached();
    let mut opened = 0;
    for op in [FileOp::Open, FileOp::Read, FileOp::Metadata] {
        for ending in [".seg", ".snap", ".zst", ".manifest"] {
            for skip in 0..60 {
                life.disk = whole.crash(CrashVariant::KEPT);
                life.disk.inject(Fault::on(op).of_names_ending(ending).skip(skip).failing(Failure::Io));
                let db = life.open(Policy::Salvage);
                if life.disk.faults_fired() == 0 {
                    break;
                }
                life.disk.clear_faults();
                let what = format!("{seed}: {:?} {op:?} {ending} {skip}", life.settings);
                match db {
                    Ok(db) => {
                        let report = db.recovery_report().unwrap();
                        assert_eq!(state(&db).1, last.world, "{what}: {report}");
                        assert!(report.lost.is_empty(), "{what}: {report}");
                        drop(db.close());
                        opened += 1;
                    }
                    Err(_) => {
                        let db = life.open(Policy::Salvage).unwrap_or_else(|e| panic!("{what}: then {e}"));
                        assert_eq!(state(&db).1, last.world, "{what}: {}", db.recovery_report().unwrap());
                        drop(db.close());
                    }
                }
                drop(life.open(Policy::TruncateTail).unwrap_or_else(|e| panic!("{what}: {e}")).close());
                let (after, _, _) = life.reached();
                for (i, was) in life.states.iter().enumerate() {
                    if before[i].is_ok() {
                        assert_eq!(
                            after[i].as_ref().ok(),
                            Some(&was.world),
                            "{what}: {was:?} {:?} {:?}",
                            after[i].as_ref().err(),
                            life.disk.files()
                        );
                    }
                }
            }
        }
    }
    opened
}

#[test]
fn a_salvage_while_something_is_not_given_for_once() {
    let opened: usize = (0..u64::from(cases(4))).map(salvage_once).sum();
    assert!(opened > 0);
}
