//! What a salvage sets aside is the database as it was: once what was damaged is put right there, all is there again, wherever the salvage was
//! interrupted (REC-17).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{FileOp, PersistenceConfig, Policy};
use ecsdb_io::Layout;
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_tests::crashed::{self, DIR, builder, files};

use crate::components::{Counter, Name};
use crate::lifecycle::{State, archiving, by_hand, large, state};
use crate::model::cases;

#[derive(Clone, Copy)]
struct Settings {
    chain: usize,
    archive: bool,
}

impl Settings {
    fn set(self, config: &mut PersistenceConfig) {
        if self.archive {
            archiving(config)
        } else {
            by_hand(config)
        }
        config.snapshot.chain_max = self.chain;
    }
}

/// A disk with a database that lived, was closed or killed, and its last state.
fn lived(random: &mut fastrand::Rng, settings: Settings) -> (SimDisk, State) {
    let mut disk = crashed::disk(random.u64(..));
    let set = |config: &mut PersistenceConfig| settings.set(config);
    let mut db = builder(&disk, set).open().unwrap();
    large(&db, 0);
    for value in 0..random.u64(3..14) {
        match random.u32(..10) {
            0..5 => drop(large(&db, value)),
            5..7 => drop(db.write(|tx| Ok(tx.spawn((Counter(value), Name("n".repeat(300)))))).unwrap()),
            7..9 => drop(db.snapshot().unwrap().wait().unwrap()),
            _ => {
                if random.bool() {
                    db.close().unwrap();
                }
                disk.power_off();
                drop(db);
                disk = disk.crash(CrashVariant::KEPT);
                db = builder(&disk, set).open().unwrap();
            }
        }
    }
    let last = state(&db);
    if random.bool() {
        db.close().unwrap();
    }
    disk.power_off();
    drop(db);
    (disk.crash(CrashVariant::KEPT), last)
}

/// Damages up to three files of log and snapshots. Gives what they were.
fn damage(random: &mut fastrand::Rng, disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = files(disk, ".seg");
    all.extend(files(disk, ".snap"));
    all.retain(|path| !path.starts_with(Layout::new(DIR).archive_dir()));
    random.shuffle(&mut all);
    all.truncate(random.usize(1..4));
    let originals: Vec<_> = all.into_iter().map(|path| (path.clone(), disk.read(path).unwrap())).collect();
    for (path, bytes) in &originals {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
        match random.u32(..4) {
            0 => disk.erase(path).unwrap(),
            1 => disk.corrupt(path, 10, &[7; 40]).unwrap(),
            2 => disk.corrupt(path, random.u64(..end), &[9; 64]).unwrap(),
            _ => disk.truncate(path, random.u64(..end)).unwrap(),
        }
    }
    originals
}

/// Begins a salvage that comes to no end: the power is cut, or something fails.
fn interrupt(random: &mut fastrand::Rng, disk: SimDisk, settings: Settings) -> SimDisk {
    match random.u32(..3) {
        0 => {
            let op = [FileOp::Write, FileOp::Sync, FileOp::Rename, FileOp::SyncDir][random.usize(..4)];
            disk.inject(Fault::on(op).skip(random.u64(..12)).times(1));
        }
        _ => disk.stop_after(disk.operations() + random.u64(..90)),
    }
    let opened = builder(&disk, |config| settings.set(config)).policy(Policy::Salvage).open();
    disk.power_off();
    drop(opened);
    disk.crash([CrashVariant::KEPT, CrashVariant::LOST][random.usize(..2)])
}

/// The directory in which a salvage has set aside what there was, with something of it.
fn set_aside(disk: &SimDisk) -> Option<PathBuf> {
    let quarantine = Layout::new(DIR).quarantine_dir();
    let is_of_salvage = |path: &&Path| {
        path.parent() == Some(&*quarantine)
            && path.file_name().unwrap().to_string_lossy().starts_with("salvage-")
    };
    let paths = disk.files().into_iter().map(|(path, _)| path);
    paths.filter_map(|path| path.ancestors().find(is_of_salvage).map(Path::to_path_buf)).min()
}

#[test]
fn what_a_salvage_set_aside_is_the_database_as_it_was() {
    let mut undone = 0;
    for seed in 0..u64::from(cases(150)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = Settings { chain: random.usize(1..4), archive: random.bool() };
        let (disk, last) = lived(&mut random, settings);
        for round in 0..4 {
            let mut disk = disk.crash(CrashVariant::KEPT);
            let originals = damage(&mut random, &disk);
            for _ in 0..random.u32(..4) {
                disk = interrupt(&mut random, disk, settings);
            }
            let db = builder(&disk, |config| settings.set(config)).policy(Policy::Salvage).open().unwrap();
            let report = db.recovery_report().unwrap().to_string();
            db.close().unwrap();
            drop(db);
            let Some(dir) = set_aside(&disk) else { continue };
            undone += 1;
            for (path, bytes) in &originals {
                disk.put(dir.join(path.strip_prefix(DIR).unwrap()), bytes).unwrap();
            }
            let opened = Database::builder(&dir)
                .vfs(disk.vfs())
                .without_threads()
                .config(|config| {
                    settings.set(config);
                    config.archive.dir = Some(Layout::new(DIR).archive_dir().into());
                })
                .open_read_only();
            let told = format!("seed {seed}, round {round}: {report}\n{:?}", disk.files());
            let db = opened.unwrap_or_else(|e| panic!("{e}: {told}"));
            assert_eq!(state(&db), last, "{told}");
        }
    }
    assert!(undone > 100, "{undone}");
}
