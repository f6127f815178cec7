//! One file at a time is away or damaged, in whatever the database does: nothing is lost by it, and every opening gives the newest state (CKP-3,
//! REC-5, REC-8).

use std::path::PathBuf;

use ecsdb::prelude::*;
use ecsdb_io::{FileKind, Layout};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_snapshot::Manifest;
use ecsdb_tests::crashed::{self, DIR, files, open_with};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, by_hand, large, state};
use crate::model::cases;

fn open(disk: &SimDisk, chain: usize) -> ecsdb::Result<Database> {
    open_with(disk, |config| {
        by_hand(config);
        config.snapshot.chain_max = chain;
    })
}

/// A new one, with blocks that increments share.
fn begin(disk: &SimDisk, chain: usize) -> Database {
    let db = open(disk, chain).unwrap();
    db.write(|tx| Ok(tx.spawn_batch((0..10).map(|i| (Name(i.to_string()),))))).unwrap();
    db
}

fn write(db: &Database, value: u64) -> State {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
    state(db)
}

fn snapshot(db: &Database, compacts: bool) -> ecsdb::Result<()> {
    match compacts {
        true => db.compact()?.wait().map(drop),
        false => db.snapshot()?.wait().map(drop),
    }
}

fn damage_newest_manifest(disk: &SimDisk) {
    let layout = Layout::new(DIR);
    let newest = Manifest::generations(&*disk.vfs(), &layout).unwrap().pop().unwrap();
    disk.flip_bit(layout.file(FileKind::Manifest, newest), 60, 1).unwrap();
}

/// The one before it names files that are all there still.
#[test]
fn with_the_newest_manifest_damaged_nothing_is_lost_at_any_moment() {
    for (chain, before, compacts) in [(1, 0, false), (1, 3, false), (1, 2, true), (3, 3, false), (3, 3, true)]
    {
        for stop in 0.. {
            let what = format!("chain {chain}, {before} before, compacts {compacts}, stopped after {stop}");
            let disk = crashed::disk(7);
            let db = begin(&disk, chain);
            for value in 0..before {
                write(&db, value);
                snapshot(&db, false).unwrap();
            }
            let (_, last) = write(&db, 99);
            disk.stop_after(disk.operations() + stop);
            let is_done = snapshot(&db, compacts).is_ok();
            disk.power_off();
            drop(db);
            let disk = disk.crash(CrashVariant::KEPT);
            damage_newest_manifest(&disk);
            for _ in 0..2 {
                let db = open(&disk, chain).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(state(&db).1, last, "{what}: {}", db.recovery_report().unwrap());
                snapshot(&db, false).unwrap();
            }
            if is_done {
                break;
            }
        }
    }
}

/// A snapshot that is away, to be put back before anything else is spoilt.
type Away = Option<(PathBuf, Vec<u8>)>;

fn take_away_or_bring_back(disk: &SimDisk, away: &mut Away, random: &mut fastrand::Rng) {
    if let Some((path, bytes)) = away.take() {
        if disk.read(&path).is_err() {
            disk.put(&path, &bytes).unwrap();
        }
        return;
    }
    let mut there = files(disk, ".snap");
    there.retain(|path| path.starts_with(Layout::new(DIR).dir_of(FileKind::Snapshot)));
    if !there.is_empty() {
        let path = there.swap_remove(random.usize(..there.len()));
        *away = Some((path.clone(), disk.read(&path).unwrap()));
        disk.erase(&path).unwrap();
    }
}

fn live(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut disk = crashed::disk(seed);
    let mut away = None;
    let chain = random.usize(1..4);
    let mut db = begin(&disk, chain);
    let mut last = state(&db);
    for _ in 0..25 {
        match random.u32(0..14) {
            0..3 => last = write(&db, random.u64(..)),
            3..5 => last = large(&db, 1),
            // One that needs what is away fails.
            5..9 => drop(snapshot(&db, false)),
            9 | 10 => take_away_or_bring_back(&disk, &mut away, &mut random),
            end => {
                match end {
                    11 => drop(db.close()),
                    12 => {
                        disk.stop_after(disk.operations() + random.u64(0..40));
                        drop(snapshot(&db, false));
                        disk.power_off();
                        drop(db);
                    }
                    _ => {
                        disk.power_off();
                        drop(db);
                    }
                }
                disk = disk.crash(CrashVariant::KEPT);
                if away.is_none() && random.u32(0..3) == 0 {
                    damage_newest_manifest(&disk);
                }
                db = open(&disk, chain).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert_eq!(state(&db).1, last.1, "seed {seed}: {}", db.recovery_report().unwrap());
            }
        }
    }
}

#[test]
fn with_one_file_away_at_a_time_every_opening_is_whole() {
    (0..u64::from(cases(40))).for_each(live);
}
