//! Snapshots and archived segments that are away and back one by one, and the snapshots' whole directory, a manifest that rots, operations that fail, kills, in any order, over and
//! over: the database opens to the state it had come to, once what it needs is there, and nothing of its past is another or lost (CKP-2, CKP-3,
//! CKP-11, REC-5, REC-8, REC-14).

use std::path::{Path, PathBuf};
use std::time::Duration;

use ecsdb::prelude::*;
use ecsdb::{Moment, PersistenceConfig};
use ecsdb_sim::{CrashVariant, Failure, Fault, NameOrder, SimDisk};
use ecsdb_tests::crashed::{self, DIR, EMPTY, builder, files, snapshot_file};

use crate::away::manifest;
use crate::components::{Counter, Name};
use crate::lifecycle::{State, by_hand, state};
use crate::model::cases;
use crate::past;

/// Lives that have found a fault.
const FOUND: [u64; 5] = [40840, 175, 344, 1633, 3389];

struct Life {
    seed: u64,
    random: fastrand::Rng,
    disk: SimDisk,
    chain: u32,
    keep: usize,
    archive: bool,
    /// What was acknowledged, in its order.
    states: Vec<State>,
    /// What the session before has failed to commit: it may have come about.
    maybe: Vec<State>,
    away: Vec<(PathBuf, Vec<u8>)>,
    /// The directory of the snapshots goes away and comes back, too, and more happens in a session.
    remounts: bool,
    /// What is in the directory that is there in the other's place when one of the two is not, and what in the other.
    unmounted: Vec<(PathBuf, Vec<u8>)>,
    /// Snapshots have gone away with their directory.
    went: bool,
    /// One manifest rots in a life, or none.
    may_rot: bool,
    /// Something came back with another bit.
    has_rotten: bool,
    value: u64,
}

impl Life {
    fn new(seed: u64, remounts: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (chain, keep, archive) = (random.u32(1..4), [0, 3, 100][random.usize(..3)], random.bool());
        Life {
            seed,
            disk: crashed::disk(seed),
            chain,
            keep,
            archive,
            states: vec![(Lsn::ZERO, EMPTY)],
            maybe: Vec::new(),
            away: Vec::new(),
            remounts,
            unmounted: Vec::new(),
            went: false,
            may_rot: !random.bool() && !remounts,
            has_rotten: false,
            value: 0,
            random,
        }
    }

    fn run(mut self) {
        for _ in 0..self.random.usize(4..14) {
            let taken = self.meanwhile();
            self.disk.advance(Duration::from_secs(1));
            self.interrupted_openings();
            let Some(db) = self.open(taken) else { return };
            self.session(&db);
            self.end(db);
        }
        self.every_moment_is_there();
    }

    fn settings(&self) -> impl Fn(&mut PersistenceConfig) + use<> {
        let (chain, keep, archive) = (self.chain, self.keep, self.archive);
        move |config| {
            by_hand(config);
            config.snapshot.chain_max = chain as usize;
            config.archive.enabled = Some(archive);
            if keep > 0 {
                config.retention.snapshots_max = keep;
            }
        }
    }

    fn is_there(&self, path: &Path) -> bool {
        self.disk.read(path).is_ok()
    }

    /// What happens to its files while it is closed. True when something that was there is away.
    fn meanwhile(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.went);
        if self.random_remount() {
            taken |= std::mem::take(&mut self.went);
        }
        for _ in 0..self.random.usize(0..3) {
            match self.random.u32(..6) {
                0..=2 => taken |= self.take_away(),
                3 | 4 if !self.away.is_empty() && self.is_mounted() => self.bring_back(),
                5 if self.random.u32(..4) == 0 => {
                    let manifests = files(&self.disk, ".manifest");
                    if manifests.len() >= 2 && std::mem::take(&mut self.may_rot) {
                        self.disk.corrupt(manifests.last().unwrap(), 60, &[0xaa; 4]).unwrap();
                    }
                }
                _ => {}
            }
        }
        taken
    }

    /// The other directory takes the place of that in which the snapshots lie, or the other way round. A lock is the system's.
    fn remount(&mut self) {
        let dir = Path::new(DIR).join("snapshots");
        let known = manifest(&self.disk).unwrap();
        let is_known = |path: &Path| {
            known.snapshots.iter().chain(&known.away).any(|entry| snapshot_file(entry.sequence) == path)
        };
        let mut there = files(&self.disk, "");
        there.retain(|path| path.starts_with(&dir) && !path.ends_with("LOCK"));
        self.went |= there.iter().any(|path| is_known(path));
        let mut unmounted = Vec::new();
        for path in there {
            unmounted.push((path.clone(), self.disk.read(&path).unwrap()));
            self.disk.erase(path).unwrap();
        }
        for (path, bytes) in std::mem::replace(&mut self.unmounted, unmounted) {
            self.disk.put(path, &bytes).unwrap();
        }
    }

    fn random_remount(&mut self) -> bool {
        let remounts = self.remounts && self.random.u32(..4) == 0 && manifest(&self.disk).is_some();
        if remounts {
            self.remount();
        }
        remounts
    }

    /// The snapshots' own directory is where it should be.
    fn is_mounted(&self) -> bool {
        self.unmounted.iter().all(|(path, _)| path.extension().is_none_or(|end| end != "snap"))
    }

    fn take_away(&mut self) -> bool {
        let Some(known) = manifest(&self.disk) else { return false };
        let mut there: Vec<PathBuf> = (1..known.next_snapshot).map(snapshot_file).collect();
        there.retain(|path| self.is_there(path));
        let archive = Path::new(DIR).join("archive");
        there.extend(files(&self.disk, ".seg.zst").into_iter().filter(|path| path.starts_with(&archive)));
        let Some(path) = there.get(self.random.usize(..there.len().max(1))) else { return false };
        self.away.push((path.clone(), self.disk.read(path).unwrap()));
        self.disk.erase(path).unwrap();
        true
    }

    fn bring_back(&mut self) {
        let (path, mut bytes) = self.away.swap_remove(self.random.usize(..self.away.len()));
        if self.random.u32(..4) == 0 {
            let at = self.random.usize(..bytes.len());
            bytes[at] ^= 0x10;
            self.has_rotten = true;
        }
        if self.is_there(&path) {
            // Another one has its name by now.
            self.away.push((path, bytes));
        } else {
            self.disk.put(&path, &bytes).unwrap();
        }
    }

    fn variant(&mut self) -> CrashVariant {
        let variants = self.disk.crash_variants(3, self.seed, NameOrder::Any);
        variants[self.random.usize(..variants.len())]
    }

    fn interrupted_openings(&mut self) {
        for _ in 0..self.random.usize(..6).saturating_sub(3) {
            self.disk.stop_after(self.disk.operations() + self.random.u64(..60));
            drop(builder(&self.disk, self.settings()).open());
            let variant = self.variant();
            self.disk = self.disk.crash(variant);
            self.disk.advance(Duration::from_secs(1));
        }
    }

    /// The database, or none where it needs something that has come back with another bit.
    fn open(&mut self, taken: bool) -> Option<Database> {
        let seed = self.seed;
        let mut db = builder(&self.disk, self.settings()).open();
        if let Err(e) = &db {
            assert!(taken, "seed {seed}: nothing more is away, and it does not open any more: {e}");
            if self.has_rotten {
                return None;
            }
            if !self.is_mounted() {
                self.remount();
                self.went = false;
            }
            for (path, bytes) in self.away.drain(..) {
                self.disk.put(&path, &bytes).unwrap();
            }
            db = builder(&self.disk, self.settings()).open();
        }
        let db = db.unwrap_or_else(|e| panic!("seed {seed}: all is back, and it does not open: {e}"));
        let report = db.recovery_report().unwrap();
        let found = (report.last_lsn, state(&db).1);
        if self.states.last() != Some(&found) && self.maybe.contains(&found) {
            self.states.push(found);
        }
        assert_eq!(Some(&found), self.states.last(), "seed {seed}: {report}");
        self.maybe.clear();
        Some(db)
    }

    fn session(&mut self, db: &Database) {
        if self.random.u32(..4) == 0 {
            let at = self.disk.operations() + self.random.u64(..60);
            let failure = if self.random.bool() { Failure::Io } else { Failure::NoSpace };
            self.disk.inject(Fault::at(at).failing(failure));
        }
        for _ in 0..self.random.usize(..if self.remounts { 14 } else { 6 }) {
            self.random_remount();
            match self.random.u32(..8) {
                0..=2 => {
                    if !self.write(db) {
                        break;
                    }
                }
                3..=5 => drop(db.snapshot().and_then(|job| job.wait())),
                6 => drop(db.compact().and_then(|job| job.wait())),
                _ => self.go_back(db),
            }
        }
    }

    fn write(&mut self, db: &Database) -> bool {
        self.value += 1;
        let name = Name(if self.random.bool() { "x".repeat(40_000) } else { self.value.to_string() });
        let counter = Counter(self.value);
        let written =
            db.write(|tx| Ok(if self.random.bool() { tx.spawn((counter, name)) } else { tx.spawn(name) }));
        let states = if written.is_ok() { &mut self.states } else { &mut self.maybe };
        states.push(state(db));
        written.is_ok()
    }

    fn go_back(&mut self, db: &Database) {
        let (lsn, was) = self.states[self.random.usize(..self.states.len())];
        let to = format!("/data/copy{}", self.random.u64(..));
        if db.restore_to(&to, Moment::Lsn(lsn)).and_then(|job| job.wait()).is_ok() {
            self.disk.clear_faults();
            let copy = Database::builder(&to).vfs(self.disk.vfs()).without_threads().open().unwrap();
            assert_eq!(state(&copy).1, was, "seed {}: LSN {lsn}", self.seed);
        }
    }

    fn end(&mut self, db: Database) {
        match self.random.u32(..4) {
            0 => {
                // A log that has failed cannot be closed as it should.
                drop(db.close());
                self.disk.clear_faults();
            }
            1 => {
                self.disk.clear_faults();
                self.disk.stop_after(self.disk.operations() + self.random.u64(..30));
                self.value += 1;
                let written = db.write(|tx| Ok(tx.spawn(Counter(self.value))));
                let states = if written.is_ok() { &mut self.states } else { &mut self.maybe };
                states.push(state(&db));
                drop(db.snapshot().map(|job| job.wait()));
                drop(db);
                self.disk = self.disk.crash(CrashVariant::KEPT);
            }
            _ => {
                let variant = self.variant();
                self.disk = self.disk.crash(variant);
                drop(db);
            }
        }
    }

    /// Where nothing was ever given up, once all files are back.
    fn every_moment_is_there(mut self) {
        if self.keep < 100 || !self.archive || self.has_rotten {
            return;
        }
        if !self.is_mounted() {
            self.remount();
        }
        for (path, bytes) in std::mem::take(&mut self.away) {
            if !self.is_there(&path) {
                self.disk.put(&path, &bytes).unwrap();
            }
        }
        builder(&self.disk, self.settings()).open().unwrap().close().unwrap();
        past::every_moment_is_there(&self.disk, &self.states[1..], &format!("seed {}", self.seed));
    }
}

#[test]
fn files_may_be_away_and_back_in_any_order() {
    FOUND.into_iter().chain(1..=u64::from(cases(25))).for_each(|seed| Life::new(seed, false).run());
}

#[test]
fn the_snapshots_directory_may_be_away_and_back_in_any_order() {
    (1..=u64::from(cases(40))).for_each(|seed| Life::new(seed, true).run());
}
