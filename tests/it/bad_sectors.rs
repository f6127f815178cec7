//! Places of a sealed segment, or of its copy in the archive, that the medium does not give, once or for good: the archive goes on, and nothing that could
//! be read is lost (CKP-2, CKP-3).

use std::path::Path;
use std::sync::Arc;

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{FileOp, IoError, PersistenceConfig, Policy};
use ecsdb_io::Vfs;
use ecsdb_io::sync::Mutex;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::crashed::{self, DIR, EMPTY, files};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, archiving, large, state};
use crate::model::cases;
use crate::past;

const SECTOR: u64 = 512;

/// What is not given.
#[derive(Default)]
struct Bad {
    /// A sector of a file whose name ends so.
    sector: Mutex<Option<(&'static str, u64)>>,
    /// The next opening but so many of such a file.
    opening: Mutex<Option<(&'static str, u64)>>,
    /// Any reading, so often in a thousand.
    now_and_then: Mutex<Option<(fastrand::Rng, u32)>>,
}

fn refused(op: FileOp, path: &Path) -> Result<(), IoError> {
    Err(IoError::new(op, path, std::io::Error::from_raw_os_error(5)))
}

impl Bad {
    fn fails_now(&self) -> bool {
        self.now_and_then.lock().as_mut().is_some_and(|(random, of)| random.u32(..1000) < *of)
    }
}

impl Hooks for Bad {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let mut opening = self.opening.lock();
        if let Some((name, skip)) = &mut *opening
            && op == FileOp::Open
            && path.to_string_lossy().ends_with(*name)
        {
            if *skip == 0 {
                *opening = None;
                return refused(op, path);
            }
            *skip -= 1;
        }
        Ok(())
    }

    fn reads(&self, path: &Path, offset: u64, len: u64) -> Result<(), IoError> {
        let is_bad = self.sector.lock().is_some_and(|(name, bad)| {
            path.to_string_lossy().ends_with(name) && offset < bad + SECTOR && offset + len > bad
        });
        if is_bad || self.fails_now() { refused(FileOp::Read, path) } else { Ok(()) }
    }
}

struct Life {
    disk: SimDisk,
    around: Arc<Around<Bad>>,
    level: u32,
}

impl Life {
    fn new(level: u32) -> Life {
        let disk = crashed::disk(1);
        let around = Arc::new(Around::new(disk.vfs(), Bad::default()));
        Life { disk, around, level }
    }

    fn open(&self) -> ecsdb::Result<Database> {
        let level = self.level as i32;
        let settings = move |config: &mut PersistenceConfig| {
            archiving(config);
            config.archive.compression_level = level;
        };
        let vfs: Arc<dyn Vfs> = self.around.clone();
        Database::builder(DIR).vfs(vfs).without_threads().policy(Policy::TruncateTail).config(settings).open()
    }

    fn bad(&self) -> &Bad {
        &self.around.hooks
    }

    /// Three segments, of which the second has many transactions, and a snapshot that covers them.
    fn filled(&self, db: &Database) -> Vec<State> {
        let mut states = vec![large(db, 1)];
        db.rotate_log().unwrap();
        for i in 0..60 {
            db.write(|tx| Ok(tx.spawn((Counter(i), Name("y".repeat(100)))))).unwrap();
            states.push(state(db));
        }
        db.rotate_log().unwrap();
        states.extend([large(db, 3), large(db, 4)]);
        db.snapshot().unwrap().wait().unwrap();
        states.push(large(db, 5));
        states
    }

    fn go_on(&self, db: &Database, states: &mut Vec<State>) {
        for i in 6..12 {
            states.push(large(db, i));
            db.snapshot().unwrap().wait().unwrap();
        }
    }
}

const SECOND: &str = "log/0000000000000002.seg";
const THIRD: &str = "log/0000000000000003.seg";

/// It wedged the archive for good, and the log grew without end.
#[test]
fn a_sector_that_is_never_given_keeps_the_archive_waiting_a_few_times_and_no_longer() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..cases(60) {
        let life = Life::new(random.u32(0..2));
        let db = life.open().unwrap();
        let mut states: Vec<State> = vec![];
        for i in 0..6 {
            states.push(large(&db, i));
            if i == 2 {
                db.snapshot().unwrap().wait().unwrap();
            }
        }
        let damage = [None, Some(0), Some(4200), Some(30_000)][random.usize(..4)];
        if let Some(place) = damage {
            life.disk.corrupt(Path::new(DIR).join(THIRD), place, &[9; 64]).unwrap();
        }
        let bad = random.u64(..66_000 / SECTOR) * SECTOR;
        *life.bad().sector.lock() = Some((THIRD, bad));
        for i in 6..26 {
            states.push(large(&db, i));
            db.snapshot().unwrap().wait().unwrap();
        }
        let what = format!("level {}, damage {damage:?}, bad {bad}", life.level);
        let left =
            files(&life.disk, ".seg").into_iter().filter(|path| path.parent().unwrap().ends_with("log"));
        assert!(left.count() <= 8, "{what}: the log grows");
        *life.bad().sector.lock() = None;
        db.close().unwrap();
        let third =
            files(&life.disk, "").into_iter().filter(|path| path.to_string_lossy().contains("0003.seg"));
        assert!(third.count() > 0, "{what}: it is neither in the archive nor in the quarantine");
    }
}

/// Where the next one's header was not given either, or was damaged, what could be read of a segment took the place of all of it.
#[test]
fn a_copy_never_ends_where_the_medium_did_not_give_what_follows() {
    for (level, how) in (0..2).flat_map(|level| (0..14).map(move |how| (level, how))) {
        let life = Life::new(level);
        let db = life.open().unwrap();
        let mut states = life.filled(&db);
        let third = Path::new(DIR).join(THIRD);
        match how {
            12 => life.disk.corrupt(&third, 0, &[7; 64]).unwrap(),
            13 => life.disk.erase(&third).unwrap(),
            skip => *life.bad().opening.lock() = Some((THIRD, skip)),
        }
        *life.bad().sector.lock() = Some((SECOND, 8192));
        db.snapshot().unwrap().wait().unwrap();
        *life.bad().sector.lock() = None;
        *life.bad().opening.lock() = None;
        life.go_on(&db, &mut states);
        db.close().unwrap();
        let what = format!("level {level}, {how}");
        if how < 12 {
            past::every_moment_is_there(&life.disk, &states, &what);
        }
        let second =
            life.disk.files().into_iter().filter(|(path, _)| path.to_string_lossy().contains("0002.seg"));
        assert!(second.map(|(_, bytes)| bytes).max() > Some(1000), "{what}: it is there, and whole");
    }
}

/// The list of the archive, by which the past is given up, missed a copy that was not read back for once.
#[test]
fn a_medium_that_fails_now_and_then_loses_nothing_of_the_past() {
    for seed in 0..u64::from(cases(60)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut life = Life::new(random.u32(0..2));
        let of = [5, 20, 60][random.usize(..3)];
        let fails = |life: &Life, random: &mut fastrand::Rng, of: u32| {
            *life.bad().now_and_then.lock() = (of > 0).then(|| (random.fork(), of));
        };
        let mut db = life.open().unwrap();
        let mut states: Vec<State> = vec![];
        for _ in 0..random.u32(8..40) {
            match random.u32(..12) {
                0..3 => states.push(large(&db, 1)),
                3..6 => {
                    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
                    states.push(state(&db));
                }
                6..10 => {
                    fails(&life, &mut random, of);
                    drop(db.snapshot().and_then(|job| job.wait()));
                    fails(&life, &mut random, 0);
                }
                10 => db.rotate_log().unwrap(),
                _ => {
                    life.disk.power_off();
                    drop(db);
                    let again = |life: &Life| {
                        let disk = life.disk.crash(CrashVariant::KEPT);
                        let around = Arc::new(Around::new(disk.vfs(), Bad::default()));
                        Life { disk, around, level: life.level }
                    };
                    life = again(&life);
                    fails(&life, &mut random, of / 2);
                    let opened = life.open();
                    fails(&life, &mut random, 0);
                    db = opened.unwrap_or_else(|_| {
                        life = again(&life);
                        life.open().unwrap_or_else(|e| panic!("seed {seed}: refused for good: {e}"))
                    });
                    let last = states.last().map_or(EMPTY, |(_, world)| *world);
                    assert_eq!(state(&db).1, last, "seed {seed}: {}", db.recovery_report().unwrap());
                }
            }
        }
        db.close().unwrap();
        // What was not given four times lies in the quarantine, and is not lost.
        let aside =
            files(&life.disk, "").into_iter().any(|path| path.to_string_lossy().contains("quarantine"));
        if !aside {
            past::every_moment_is_there(&life.disk, &states, &format!("seed {seed}"));
        }
    }
}
