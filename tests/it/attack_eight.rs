//! What a medium does not give, where directories lie on several disks, or the disk is full.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb::prelude::*;
use ecsdb::{FileOp, IoError, PersistenceConfig, Policy};
use ecsdb_io::Vfs;
use ecsdb_io::sync::Mutex;
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::around::{Around, Hooks};
use ecsdb_tests::crashed::{self, DIR, files};

use crate::components::Counter;
use crate::lifecycle::{State, archiving, by_hand, large, state};
use crate::past;

#[derive(Default)]
struct Media {
    /// Files whose names end so, and the bytes of them that are not given.
    bad: Mutex<Vec<(String, std::ops::Range<u64>)>>,
    /// Nothing is renamed from such a directory into another one.
    apart: Mutex<Vec<&'static str>>,
    /// No directory can be made.
    no_dirs: Mutex<bool>,
}

impl Hooks for Media {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let is_moved = op == FileOp::Rename && path.extension().is_none_or(|end| end != "tmp");
        if is_moved && self.apart.lock().iter().any(|dir| *dir == parent) {
            return Err(IoError::new(op, path, std::io::Error::from_raw_os_error(18)));
        }
        if op == FileOp::CreateDir && *self.no_dirs.lock() {
            return Err(IoError::new(op, path, std::io::Error::from_raw_os_error(28)));
        }
        Ok(())
    }

    fn reads(&self, path: &Path, offset: u64, len: u64) -> Result<(), IoError> {
        let name = path.to_string_lossy();
        let is_bad = |(end, range): &(String, std::ops::Range<u64>)| {
            name.ends_with(&**end) && offset < range.end && offset + len > range.start
        };
        match self.bad.lock().iter().any(is_bad) {
            true => Err(IoError::new(FileOp::Read, path, std::io::Error::from_raw_os_error(5))),
            false => Ok(()),
        }
    }
}

fn around(disk: &SimDisk) -> Arc<Around<Media>> {
    Arc::new(Around::new(disk.vfs(), Media::default()))
}

fn open(
    around: &Arc<Around<Media>>,
    policy: Policy,
    settings: impl FnOnce(&mut PersistenceConfig),
) -> ecsdb::Result<Database> {
    let vfs: Arc<dyn Vfs> = around.clone();
    Database::builder(DIR)
        .vfs(vfs)
        .without_threads()
        .policy(policy)
        .config(|c| {
            settings(c);
            c.snapshot.compression_level = 0;
        })
        .open()
}

fn there(disk: &SimDisk, part: &str) -> Vec<(PathBuf, u64)> {
    let mut all = disk.files();
    all.retain(|(path, _)| path.to_string_lossy().contains(part));
    all
}

/// A
#[test]
fn a_snapshot_on_another_disk_that_is_not_given_closes_no_database() {
    for apart in [false, true] {
        let disk = crashed::disk(1);
        let media = around(&disk);
        let db = open(&media, Policy::Strict, by_hand).unwrap();
        large(&db, 1);
        db.snapshot().unwrap().wait().unwrap();
        large(&db, 2);
        db.snapshot().unwrap().wait().unwrap();
        let last = large(&db, 3);
        db.close().unwrap();
        drop(db);
        let newest = files(&disk, ".snap").pop().unwrap();
        let len = disk.read(&newest).unwrap().len() as u64;
        eprintln!("{newest:?} {len}");
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        media.hooks.bad.lock().push((format!("snapshots/{name}"), 8192..8704));
        if apart {
            media.hooks.apart.lock().push("snapshots");
        }
        for policy in [Policy::TruncateTail, Policy::TruncateTail, Policy::Salvage, Policy::TruncateTail] {
            match open(&media, policy, by_hand) {
                Ok(db) => {
                    eprintln!("apart {apart} {policy:?}: opened {}", db.recovery_report().unwrap());
                    assert_eq!(state(&db).1, last.1);
                    db.close().unwrap();
                }
                Err(e) => eprintln!("apart {apart} {policy:?}: {e}"),
            }
        }
        eprintln!("{:?}", disk.files());
    }
}

/// B
#[test]
fn a_sealed_segment_that_cannot_be_moved_is_not_deleted() {
    for how in 0..3 {
        let disk = crashed::disk(1);
        let media = around(&disk);
        let db = open(&media, Policy::Strict, archiving).unwrap();
        let mut states: Vec<State> = vec![];
        for i in 0..6 {
            states.push(large(&db, i));
            if i == 2 {
                db.snapshot().unwrap().wait().unwrap();
            }
        }
        match how {
            1 => media.hooks.apart.lock().push("log"),
            2 => *media.hooks.no_dirs.lock() = true,
            _ => {}
        }
        media.hooks.bad.lock().push(("0000000000000003.seg".into(), 8192..8704));
        for i in 6..14 {
            states.push(large(&db, i));
            db.snapshot().unwrap().wait().unwrap();
        }
        media.hooks.bad.lock().clear();
        eprintln!("{how}: {:?}", there(&disk, "0003.seg"));
        db.close().unwrap();
        eprintln!("{how}: {:?}", there(&disk, "0003.seg"));
    }
}

/// C
#[test]
fn a_salvage_of_a_log_on_another_disk_with_a_bad_sector() {
    for apart in [false, true] {
        let disk = crashed::disk(1);
        let media = around(&disk);
        let db = open(&media, Policy::Strict, by_hand).unwrap();
        for i in 0..6 {
            large(&db, i);
        }
        db.close().unwrap();
        drop(db);
        media.hooks.bad.lock().push(("0000000000000003.seg".into(), 8192..8704));
        if apart {
            media.hooks.apart.lock().push("log");
        }
        for policy in [Policy::TruncateTail, Policy::Salvage, Policy::TruncateTail, Policy::Salvage] {
            match open(&media, policy, by_hand) {
                Ok(db) => {
                    eprintln!("apart {apart} {policy:?}: opened {}", db.recovery_report().unwrap());
                    db.write(|tx| Ok(tx.spawn(Counter(1)))).map(drop).unwrap();
                    db.close().unwrap();
                }
                Err(e) => eprintln!("apart {apart} {policy:?}: {e}"),
            }
        }
        eprintln!("{:?}", disk.files());
    }
}

/// D
#[test]
fn zeros_behind_the_end_of_the_log_that_are_not_given() {
    let disk = crashed::disk(1);
    let media = around(&disk);
    let db = open(&media, Policy::Strict, by_hand).unwrap();
    for i in 0..3 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
    }
    let last = state(&db);
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let media = around(&disk);
    eprintln!("{:?}", disk.files());
    media.hooks.bad.lock().push(("0000000000000001.seg".into(), 32_768..32_768 + 512));
    for policy in [Policy::TruncateTail, Policy::Salvage, Policy::TruncateTail, Policy::Salvage] {
        match open(&media, policy, by_hand) {
            Ok(db) => {
                eprintln!("{policy:?}: opened {}", db.recovery_report().unwrap());
                assert_eq!(state(&db).1, last.1);
                db.close().unwrap();
            }
            Err(e) => eprintln!("{policy:?}: {e}"),
        }
    }
    eprintln!("{:?}", disk.files());
}

/// E: put back from a copy, with the archive of the other life, and a sector of the own segment is not given.
#[test]
fn the_own_segment_that_is_not_given_is_not_taken_for_another_lifes() {
    let disk = crashed::disk(1);
    let media = around(&disk);
    let db = open(&media, Policy::Strict, archiving).unwrap();
    let mut states: Vec<State> = vec![large(&db, 0)];
    db.close().unwrap();
    drop(db);
    let copied = disk.files();
    let copied: Vec<_> = copied.into_iter().map(|(path, _)| (path.clone(), disk.read(&path).unwrap())).collect();
    let db = open(&media, Policy::Strict, archiving).unwrap();
    for i in 10..16 {
        large(&db, i);
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    drop(db);
    eprintln!("other life: {:?}", there(&disk, "/archive/"));
    for (path, _) in disk.files() {
        if !path.to_string_lossy().contains("/archive/") {
            disk.erase(&path).unwrap();
        }
    }
    for (path, bytes) in copied {
        disk.put(path, &bytes).unwrap();
    }
    let db = open(&media, Policy::Strict, archiving).unwrap();
    media.hooks.bad.lock().push(("log/0000000000000003.seg".into(), 8192..8704));
    for i in 1..12 {
        states.push(large(&db, i));
        db.snapshot().unwrap().wait().unwrap();
    }
    media.hooks.bad.lock().clear();
    db.close().unwrap();
    eprintln!("{:?}", there(&disk, "0003.seg"));
    eprintln!("{:?}", disk.files());
    for (found, (lsn, was)) in past::past(&disk, states.iter().map(|(lsn, _)| *lsn)).into_iter().zip(&states) {
        eprintln!("{lsn} {:?}", found.map(|world| world == *was));
    }
}

/// D2: what reads only.
#[test]
fn zeros_behind_the_end_of_the_log_that_are_not_given_stop_no_look() {
    let disk = crashed::disk(1);
    let media = around(&disk);
    let db = open(&media, Policy::Strict, by_hand).unwrap();
    for i in 0..3 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).map(drop).unwrap();
    }
    media.hooks.bad.lock().push(("0000000000000001.seg".into(), 32_768..32_768 + 512));
    for moment in [ecsdb::Moment::Lsn(Lsn(1)), ecsdb::Moment::Latest] {
        eprintln!("running {moment}: {:?}", db.view_at(moment).and_then(|job| job.wait()).map(|_| ()).map_err(|e| e.to_string()));
    }
    eprintln!("running verify {:?}", db.verify(|_| {}).map_err(|e| e.to_string()));
    eprintln!("snapshot {:?}", db.snapshot().unwrap().wait().map_err(|e| e.to_string()));
    db.write(|tx| Ok(tx.spawn(Counter(9)))).map(drop).unwrap();
    for moment in [ecsdb::Moment::Lsn(Lsn(1)), ecsdb::Moment::Lsn(Lsn(3)), ecsdb::Moment::Latest] {
        eprintln!("running {moment}: {:?}", db.view_at(moment).and_then(|job| job.wait()).map(|_| ()).map_err(|e| e.to_string()));
    }
    disk.power_off();
    drop(db);
    let disk = disk.crash(CrashVariant::KEPT);
    let media = around(&disk);
    media.hooks.bad.lock().push(("0000000000000001.seg".into(), 32_768..32_768 + 512));
    let vfs: Arc<dyn Vfs> = media.clone();
    let layout = ecsdb_io::Layout::new(DIR);
    eprintln!("verify {:?}", ecsdb_recovery::verify(&*vfs, &layout, &mut |_| {}).map_err(|e| e.to_string()));
    let (_lock, manifest) = ecsdb_recovery::lock_closed(&*vfs, &layout).unwrap();
    eprintln!("history {:?}", ecsdb_recovery::History::of_closed(&*vfs, &layout, &manifest).map(|_| ()).map_err(|e| e.to_string()));
}

/// A2
#[test]
fn a_damaged_snapshot_on_another_disk_that_is_not_given_closes_no_database() {
    for apart in [false, true] {
        let disk = crashed::disk(1);
        let media = around(&disk);
        let db = open(&media, Policy::Strict, by_hand).unwrap();
        large(&db, 1);
        db.snapshot().unwrap().wait().unwrap();
        large(&db, 2);
        db.snapshot().unwrap().wait().unwrap();
        let last = large(&db, 3);
        db.close().unwrap();
        drop(db);
        let newest = files(&disk, ".snap").pop().unwrap();
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        disk.corrupt(&newest, 6000, &[9; 64]).unwrap();
        media.hooks.bad.lock().push((format!("snapshots/{name}"), 20480..20992));
        if apart {
            media.hooks.apart.lock().push("snapshots");
        }
        for policy in [Policy::TruncateTail, Policy::TruncateTail, Policy::Salvage, Policy::TruncateTail] {
            match open(&media, policy, by_hand) {
                Ok(db) => {
                    eprintln!("apart {apart} {policy:?}: opened {}", db.recovery_report().unwrap());
                    assert_eq!(state(&db).1, last.1);
                    db.close().unwrap();
                }
                Err(e) => eprintln!("apart {apart} {policy:?}: {e}"),
            }
        }
        eprintln!("{:?}", disk.files());
    }
}
