//! Single files and whole directories that are away, and back: what needs them waits for them, what does not goes on, and nothing is given up
//! for them (CKP-3, CKP-11, REC-5, REC-7).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{PersistenceConfig, Policy};
use ecsdb_io::{Disk, FileKind, FileOp, IoError, Layout, Vfs};
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use ecsdb_snapshot::Manifest;
use ecsdb_tests::crashed::{self, DIR, files, open_with, snapshot_file};

use crate::components::{Counter, Name};
use crate::lifecycle::{archiving, by_hand, large, state};

fn open(disk: &SimDisk, chain: usize) -> ecsdb::Result<Database> {
    open_with(disk, |config| {
        by_hand(config);
        config.snapshot.chain_max = chain;
    })
}

fn write(db: &Database, value: u64) {
    db.write(|tx| Ok(tx.spawn(Counter(value)))).unwrap();
}

fn snapshot(db: &Database) -> u64 {
    db.snapshot().unwrap().wait().unwrap().sequence
}

/// The newest manifest, if it can be read.
pub(crate) fn manifest(disk: &SimDisk) -> Option<Manifest> {
    let (vfs, layout) = (disk.vfs(), Layout::new(DIR));
    let newest = Manifest::generations(&*vfs, &layout).unwrap().pop()?;
    Manifest::read(&*vfs, &layout.file(FileKind::Manifest, newest)).ok()
}

/// CKP-3, CKP-11: what needs a file that is away is away itself, and nothing to fall back to.
#[test]
fn the_log_is_not_trimmed_behind_an_increment_whose_parent_is_away() {
    let disk = crashed::disk(1);
    let db = open(&disk, 3).unwrap();
    // Blocks that increments share.
    db.write(|tx| Ok(tx.spawn_batch((0..50).map(|i| (Name(i.to_string()),))))).unwrap();
    for i in 0..3 {
        large(&db, i);
        snapshot(&db);
    }
    let last = large(&db, 7);
    // A full one, and no trim after it.
    disk.inject(Fault::on(FileOp::Rename).of_names_containing(".manifest").skip(2).times(9));
    snapshot(&db);
    assert!(disk.faults_fired() > 0);
    drop(db);
    disk.clear_faults();

    disk.erase(snapshot_file(1)).unwrap();
    let db = open(&disk, 3).unwrap();
    assert_eq!(state(&db), last);
    write(&db, 8);
    snapshot(&db);
    let last = state(&db);
    db.close().unwrap();
    // What was written after that rots: one damage, beside the one file that is away.
    for path in files(&disk, ".snap").into_iter().filter(|path| *path >= snapshot_file(4)) {
        let middle = disk.read(&path).unwrap().len() as u64 / 2;
        disk.corrupt(&path, middle, &[0xff; 16]).unwrap();
    }
    assert_eq!(state(&open(&disk, 3).unwrap()), last);
}

/// A directory of a database's that goes away while it is open, and is back later. Its mount point stays, and takes what is written meanwhile.
struct Mount(tempfile::TempDir);

impl Mount {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What lies under it is what was there when it was away before.
    fn goes(&self) {
        std::fs::rename(self.path("mount"), self.path("away")).unwrap();
        if std::fs::rename(self.path("under"), self.path("mount")).is_err() {
            std::fs::create_dir(self.path("mount")).unwrap();
        }
    }

    fn comes_back(&self) {
        std::fs::rename(self.path("mount"), self.path("below")).unwrap();
        std::fs::rename(self.path("away"), self.path("mount")).unwrap();
    }

    /// A database that has it where `set` says. Without threads its files are made when they are needed, and not ahead.
    fn open(&self, set: Set) -> Database {
        self.builder(set).open().unwrap()
    }

    fn builder(&self, set: Set) -> ecsdb::Builder {
        let builder = Database::builder(self.path("world")).config(by_hand).without_threads();
        let builder = builder.config(|config| config.snapshot.chain_max = 1);
        builder.config(|config| set(config, self.path("mount")))
    }
}

/// CKP-11, CKP-3: what has come under the mount point is nothing that the log may be trimmed behind.
#[test]
fn snapshots_that_go_away_while_the_database_is_open_are_whole_when_they_are_back() {
    let mount = Mount(tempfile::tempdir().unwrap());
    let open = || mount.open(|config, dir| config.snapshot.dir = Some(dir));
    let db = open();
    for i in 0..4 {
        if i == 2 {
            mount.goes();
        }
        for k in 0..3 {
            large(&db, 10 * i + k);
        }
        // Of those under the mount point it does not matter whether they come about.
        drop(db.snapshot().unwrap().wait());
    }
    let last = state(&db);
    db.close().unwrap();
    mount.comes_back();
    assert_eq!(state(&open()), last);
}

/// The snapshots are unmounted before so many operations on what is there are done.
struct Unmounts {
    mount: std::sync::Mutex<Option<Arc<Mount>>>,
    left: AtomicUsize,
    dir: PathBuf,
}

impl Hooks for Unmounts {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let is_named = !matches!(op, FileOp::Read | FileOp::Write);
        if is_named && path.starts_with(&self.dir) && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.mount.lock().unwrap().take().unwrap().goes();
        }
        Ok(())
    }
}

/// CKP-3: the log is not trimmed behind a snapshot that was written under the mount point, whenever in a compaction the snapshots go away, and though the
/// mount point says of itself that it is the database's.
#[test]
fn snapshots_that_go_away_during_a_compaction_are_whole_when_they_are_back() {
    let mut fired = 0;
    for nth in 1..100 {
        let mount = Arc::new(Mount(tempfile::tempdir().unwrap()));
        let set: Set = |config, dir| {
            config.snapshot.dir = Some(dir);
            config.snapshot.chain_max = 3;
        };
        let session = |vfs: Arc<dyn Vfs>, snapshots: u64, compacts: bool| {
            let builder = mount.builder(set).vfs(vfs);
            let Ok(db) = builder.open() else { return None };
            for i in 0..snapshots {
                large(&db, i);
                // While they are away none is taken.
                drop(db.snapshot().unwrap().wait());
            }
            if compacts {
                large(&db, 100);
            }
            let state = state(&db);
            if compacts {
                // It may fail.
                drop(db.compact().unwrap().wait());
            }
            db.close().unwrap();
            Some(state)
        };
        session(Arc::new(Disk), 1, false);
        // From a session while they were away the mount point has a mark.
        mount.goes();
        session(Arc::new(Disk), 0, false);
        mount.comes_back();
        std::fs::rename(mount.path("below"), mount.path("under")).unwrap();
        let last = session(Arc::new(Disk), 2, false).unwrap();
        let hooks = Unmounts {
            mount: std::sync::Mutex::new(Some(mount.clone())),
            left: AtomicUsize::new(nth),
            dir: mount.path("mount"),
        };
        let around = Arc::new(Around::new(Arc::new(Disk), hooks));
        let mut last = session(around.clone(), 0, true).unwrap_or(last);
        if around.hooks.mount.lock().unwrap().is_none() {
            fired += 1;
            if nth % 2 == 0 {
                // A session without them in between, if the log goes back far enough.
                last = session(Arc::new(Disk), 2, false).unwrap_or(last);
            }
            mount.comes_back();
        }
        let db = mount.open(set);
        assert_eq!(state(&db), last, "operation {nth}");
        db.close().unwrap();
    }
    assert!((20..99).contains(&fired), "{fired}");
}

/// CKP-3, CKP-11: without the manifest that says so, nothing of what recovery needs by the one before is deleted. The log goes on.
#[test]
fn the_database_s_own_directory_may_go_away_while_it_is_open() {
    for (back_before_the_end, archive) in [(false, false), (false, true), (true, false), (true, true)] {
        let mount = Mount(tempfile::tempdir().unwrap());
        let [log, snapshots, archived] = ["log", "snapshots", "archive"].map(|name| mount.path(name));
        let open = || {
            let builder = Database::builder(mount.path("mount")).config(by_hand).without_threads();
            let builder = builder.config(|config| {
                config.snapshot.chain_max = 1;
                config.archive.enabled = Some(archive);
                (config.wal.dir, config.snapshot.dir) = (Some(log.clone()), Some(snapshots.clone()));
                config.archive.dir = Some(archived.clone());
            });
            builder.open().unwrap()
        };
        let db = open();
        for i in 0..3 {
            large(&db, i);
            snapshot(&db);
        }
        mount.goes();
        for i in 0..9 {
            large(&db, i);
            let refused = db.snapshot().unwrap().wait().unwrap_err().to_string();
            assert!(refused.contains("not mounted any more"), "{refused}");
            assert!(db.compact().unwrap().wait().is_err());
        }
        if back_before_the_end {
            mount.comes_back();
            snapshot(&db);
        }
        let last = state(&db);
        db.close().unwrap();
        if !back_before_the_end {
            mount.comes_back();
        }
        let db = open();
        assert_eq!(state(&db), last);
        snapshot(&db);
    }
}

type Set = fn(&mut PersistenceConfig, PathBuf);

/// Settings, and how many snapshots there may be so that the log, with its archive, still goes back to the beginning.
const SETTINGS: [(Set, u64); 2] = [
    (|config, dir| config.snapshot.dir = Some(dir), 1),
    (
        |config, dir| {
            archiving(config);
            config.snapshot.dir = Some(dir);
        },
        3,
    ),
];

fn snapshots_away((set, snapshots): (Set, u64)) -> Mount {
    let mount = Mount(tempfile::tempdir().unwrap());
    let db = mount.open(set);
    for i in 0..snapshots {
        large(&db, i);
        snapshot(&db);
    }
    db.close().unwrap();
    mount.goes();
    mount
}

/// CKP-3, CKP-11: what stands in the place of the snapshots for a session gets none, and the log is kept for those that are away.
#[test]
fn snapshots_that_are_away_for_a_session_are_whole_when_they_are_back() {
    for (set, writes) in SETTINGS.into_iter().flat_map(|set| (0..5).map(move |writes| (set, writes))) {
        for back_before_the_end in [false, true] {
            let mount = snapshots_away(set);
            let (set, _) = set;
            let db = mount.open(set);
            for i in 0..writes {
                large(&db, 10 + i);
                let refused = match i % 2 {
                    0 => db.snapshot().unwrap().wait().map(drop),
                    _ => db.compact().unwrap().wait().map(drop),
                };
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains("the snapshots are away"), "{refused}");
            }
            if back_before_the_end {
                mount.comes_back();
                for i in 0..2 {
                    large(&db, 20 + i);
                    snapshot(&db);
                }
            }
            let last = state(&db);
            db.close().unwrap();
            if !back_before_the_end {
                mount.comes_back();
            }
            let db = mount.open(set);
            assert_eq!(state(&db), last);
            assert!(db.recovery_report().unwrap().rejected.is_empty());
            snapshot(&db);
        }
    }
}

/// CKP-11: a salvage says that they are gone for good. They are not deleted for that.
#[test]
fn snapshots_that_are_gone_for_good_are_given_up_by_a_salvage() {
    for set in SETTINGS {
        let mount = snapshots_away(set);
        let (set, _) = set;
        let config = |config: &mut PersistenceConfig| set(config, mount.path("mount"));
        let builder = Database::builder(mount.path("world")).config(by_hand).config(config);
        let db = builder.policy(Policy::Salvage).without_threads().open().unwrap();
        let report = db.recovery_report().unwrap();
        assert!(report.lost.is_empty() && report.rejected.iter().all(|rejected| !rejected.away), "{report}");
        db.close().unwrap();
        let db = mount.open(set);
        for i in 0..3 {
            large(&db, 10 + i);
            snapshot(&db);
        }
        let (last, first) = (state(&db), FileKind::Snapshot.name(1));
        db.close().unwrap();
        // They are back all the same, beside the new ones.
        std::fs::copy(mount.path("away").join(&first), mount.path("mount").join(&first)).unwrap();
        let db = mount.open(set);
        assert_eq!(state(&db), last);
        assert!(mount.path("world").join("quarantine").join(first).exists());
    }
}

/// REC-13: a segment that was made under the mount point is none of the log's.
#[test]
fn a_log_that_goes_away_while_the_database_is_open_loses_nothing_acknowledged() {
    let mount = Mount(tempfile::tempdir().unwrap());
    let open = || mount.open(|config, dir| config.wal.dir = Some(dir));
    let db = open();
    write(&db, 1);
    mount.goes();
    let mut last = state(&db);
    for i in 0..6 {
        if db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(40_000)))))).is_ok() {
            last = state(&db);
        }
    }
    drop(db.close());
    mount.comes_back();
    assert_eq!(state(&open()), last);
}

/// REC-7: a number of a snapshot file is never used twice, whatever became of the file.
#[test]
fn the_number_of_a_snapshot_that_was_interrupted_is_not_used_again() {
    let mut interrupted = 0;
    for stop in 0..40 {
        let disk = crashed::disk(1);
        let db = open(&disk, 1).unwrap();
        write(&db, 1);
        snapshot(&db);
        write(&db, 2);
        disk.stop_after(disk.operations() + stop);
        drop(db.snapshot().unwrap().wait());
        drop(db);
        let disk = disk.crash(CrashVariant::KEPT);
        // It came as far as its name, and is away for a session.
        if disk.erase(snapshot_file(2)).is_ok() {
            interrupted += 1;
            let db = open(&disk, 1).unwrap();
            write(&db, 3);
            assert_ne!(snapshot(&db), 2, "stopped after operation {stop} of the first");
        }
    }
    assert!(interrupted > 0);
}

/// REC-5: an opening that is interrupted after it has set a damaged snapshot aside gives the same when it is started again.
#[test]
fn a_damaged_snapshot_that_was_set_aside_is_not_away() {
    let disk = crashed::disk(1);
    let db = open(&disk, 1).unwrap();
    for i in 0..2 {
        write(&db, i);
        snapshot(&db);
    }
    db.close().unwrap();
    disk.corrupt(snapshot_file(2), 120, &[0xff; 8]).unwrap();
    let mut set_aside = 0;
    for stop in 0..40 {
        let disk = disk.crash(CrashVariant::KEPT);
        disk.stop_after(disk.operations() + stop);
        drop(open(&disk, 1));
        let disk = disk.crash(CrashVariant::KEPT);
        let db = open(&disk, 1).unwrap();
        assert_eq!(db.view().unwrap().len(), 2);
        db.close().unwrap();
        if files(&disk, ".snap").iter().any(|path| path.starts_with(Path::new(DIR).join("quarantine"))) {
            set_aside += 1;
            let away = manifest(&disk).unwrap().away;
            assert!(away.iter().all(|entry| entry.sequence != 2), "stopped after operation {stop}: {away:?}");
        }
    }
    assert!(set_aside > 0);
}
