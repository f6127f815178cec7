//! Files that are gone, cut, zeroed, flipped, or as they were before, one and several: what opens is a world that was, it opens again, and what was
//! acknowledged since is in it (REC-2, REC-5, REC-7, REC-13).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{Digest, Policy, StoreError};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, EMPTY, builder};

use crate::components::Counter;
use crate::lifecycle::{archiving, by_hand, large, state};
use crate::model::cases;

/// Lives that have found a fault, with one file damaged.
const FOUND: [u64; 1] = [5];

/// What becomes of a file.
#[derive(Debug)]
enum Damage {
    Gone,
    /// From here, so many bytes.
    Zeros(u64, usize),
    Flipped(u64, u32),
    Cut(u64),
    /// It is what it was after this step; there again, if it had gone since.
    Old(usize),
}

/// A database, its disk after each step that it took, and all worlds that it had.
struct Life {
    chain: usize,
    archive: bool,
    images: Vec<SimDisk>,
    worlds: Vec<Digest>,
}

impl Life {
    fn new(random: &mut fastrand::Rng, archive: bool, steps: usize) -> Self {
        let mut disk = crashed::disk(random.u64(..));
        let mut life = Life { chain: random.usize(1..4), archive, images: Vec::new(), worlds: vec![EMPTY] };
        let mut db = life.open(&disk, Policy::Strict).unwrap();
        for _ in 0..steps {
            match random.u32(0..12) {
                0..4 => life.worlds.push(write(&db, random.u64(..))),
                4 => life.worlds.push(large(&db, 1).1),
                5..8 => drop(db.snapshot().unwrap().wait().unwrap()),
                8 => drop(db.compact().unwrap().wait().unwrap()),
                9 => {
                    db.close().unwrap();
                    db = life.open(&disk, Policy::Strict).unwrap();
                }
                _ => {
                    disk.power_off();
                    drop(db);
                    disk = disk.crash(CrashVariant::KEPT);
                    db = life.open(&disk, Policy::TruncateTail).unwrap();
                }
            }
            life.images.push(disk.crash(CrashVariant::KEPT));
        }
        disk.power_off();
        drop(db);
        life
    }

    fn open(&self, disk: &SimDisk, policy: Policy) -> ecsdb::Result<Database> {
        let settings = if self.archive { archiving } else { by_hand };
        builder(disk, settings).config(|config| config.snapshot.chain_max = self.chain).policy(policy).open()
    }

    fn last(&self) -> SimDisk {
        self.images.last().unwrap().crash(CrashVariant::KEPT)
    }

    /// All files that it ever had something in.
    fn files(&self) -> Vec<PathBuf> {
        let all = self.images.iter().flat_map(SimDisk::files);
        let ours = all.filter(|(path, len)| path.starts_with(DIR) && !path.ends_with("LOCK") && *len > 0);
        ours.map(|(path, _)| path).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn apply(&self, disk: &SimDisk, path: &Path, damage: &Damage) {
        match *damage {
            Damage::Gone => disk.erase(path).unwrap(),
            Damage::Zeros(at, len) => disk.corrupt(path, at, &vec![0; len]).unwrap(),
            Damage::Flipped(at, bit) => disk.flip_bit(path, at, bit).unwrap(),
            Damage::Cut(len) => disk.truncate(path, len).unwrap(),
            Damage::Old(step) => {
                if let Ok(old) = self.images[step].read(path) {
                    disk.put(path, &old).unwrap();
                }
            }
        }
    }

    /// Everything of some kinds that can become of a file.
    fn damages(&self, path: &Path) -> Vec<Damage> {
        let mut damages: Vec<Damage> = (0..self.images.len()).map(Damage::Old).collect();
        let Ok(bytes) = self.last().read(path) else { return damages };
        damages.retain(|damage| match damage {
            Damage::Old(step) => self.images[*step].read(path).is_ok_and(|old| old != bytes),
            _ => true,
        });
        damages.push(Damage::Gone);
        damages.push(Damage::Zeros(0, bytes.len()));
        let sectors =
            bytes.chunks(512).enumerate().filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        damages.extend(sectors.take(20).map(|(i, sector)| Damage::Zeros(i as u64 * 512, sector.len())));
        damages
    }

    fn any_damage(&self, path: &Path, disk: &SimDisk, random: &mut fastrand::Rng) -> Damage {
        let old = Damage::Old(random.usize(..self.images.len()));
        let Ok(bytes) = disk.read(path) else { return old };
        let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return old };
        let at = random.usize(..=last);
        match random.u32(0..5) {
            0 => Damage::Gone,
            1 => Damage::Zeros(at as u64 / 512 * 512, 512.min(bytes.len() - at / 512 * 512)),
            2 => Damage::Flipped(at as u64, random.u32(0..8)),
            3 => Damage::Cut(random.u64(..bytes.len() as u64)),
            _ => old,
        }
    }

    /// True when it opens. Then it is a world that was, and that is there at the next opening, with what was acknowledged in between.
    fn opens(&self, disk: &SimDisk, policy: Policy, random: &mut fastrand::Rng, what: &str) -> bool {
        let Ok(db) = self.open(disk, policy) else { return false };
        let report = db.recovery_report().unwrap().to_string();
        let (_, mut last) = state(&db);
        assert!(self.worlds.contains(&last), "{what}: a world that never was\n{report}");
        for value in 0..random.u64(0..3) {
            last = write(&db, 5_000 + value);
            if random.bool() {
                match db.snapshot().unwrap().wait() {
                    // What is gone looks like what is away.
                    Ok(_) | Err(ecsdb::Error::Store(StoreError::SnapshotsAway(_))) => {}
                    Err(e) => panic!("{what}: no snapshot: {e}\n{report}"),
                }
            }
        }
        if random.bool() {
            db.close().unwrap_or_else(|e| panic!("{what}: it does not close: {e}\n{report}"));
        } else {
            disk.power_off();
            drop(db);
        }
        match self.open(&disk.crash(CrashVariant::KEPT), Policy::TruncateTail) {
            Ok(db) => assert_eq!(state(&db).1, last, "{what}: another world\n{report}"),
            Err(e) => panic!("{what}: it does not open again: {e}\n{report}"),
        }
        true
    }
}

fn write(db: &Database, value: u64) -> Digest {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
    state(db).1
}

#[test]
fn what_opens_after_damage_opens_again() {
    for seed in FOUND.into_iter().chain(0..u64::from(cases(1))) {
        let mut random = fastrand::Rng::with_seed(seed);
        let life = Life::new(&mut random, false, 14);
        let mut opened = 0;
        for path in life.files() {
            for damage in life.damages(&path) {
                let disk = life.last();
                life.apply(&disk, &path, &damage);
                let what = format!("seed {seed}: {}: {damage:?}", path.display());
                opened += u32::from(life.opens(&disk, Policy::TruncateTail, &mut random, &what));
            }
        }
        assert!(opened > 0);
    }
}

#[test]
fn after_any_damage_what_opens_is_a_world_that_was_and_stays() {
    let mut opened = 0;
    for seed in 0..u64::from(cases(6)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (archive, steps) = (random.bool(), random.usize(4..18));
        let life = Life::new(&mut random, archive, steps);
        let files = life.files();
        for _ in 0..40 {
            let disk = life.last();
            let policy = [Policy::Strict, Policy::TruncateTail, Policy::Salvage][random.usize(..3)];
            let mut what = format!("seed {seed}, {policy:?}");
            for _ in 0..random.usize(1..4) {
                let path = &files[random.usize(..files.len())];
                let damage = life.any_damage(path, &disk, &mut random);
                life.apply(&disk, path, &damage);
                what += &format!(", {}: {damage:?}", path.display());
            }
            opened += u32::from(life.opens(&disk, policy, &mut random, &what));
        }
    }
    assert!(opened > 0);
}
