//! Files of the application's own under a database, by names from `ecsdb` alone.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ecsdb::prelude::*;
use ecsdb::{Around, Hooks};
use ecsdb::{Disk, FileOp, IoError};

use crate::components::Counter;

/// Counts syncs, and refuses two names.
#[derive(Default)]
struct Counting {
    syncs: AtomicU64,
    /// Snapshots do not get to the disk as they were written.
    garbles: AtomicBool,
    /// The application's code panics when a segment is removed.
    panics: AtomicBool,
}

impl Hooks for Counting {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        match op {
            FileOp::Sync => drop(self.syncs.fetch_add(1, Ordering::Relaxed)),
            FileOp::Remove
                if self.panics.load(Ordering::Relaxed) && path.to_string_lossy().contains(".seg") =>
            {
                panic!("the application's own code")
            }
            FileOp::CreateDir if path.ends_with("refused") => return Err(denied(op, path)),
            FileOp::SyncDir if path.ends_with("unreadable") => return Err(denied(op, path)),
            _ => {}
        }
        Ok(())
    }

    fn garbled(&self, path: &Path, bytes: &[IoSlice<'_>]) -> Option<Vec<u8>> {
        if !self.garbles.load(Ordering::Relaxed) || !path.to_string_lossy().ends_with(".snap.tmp") {
            return None;
        }
        let mut bytes: Vec<u8> = bytes.iter().flat_map(|slice| slice.to_vec()).collect();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        Some(bytes)
    }
}

fn denied(op: FileOp, path: &Path) -> IoError {
    IoError::new(op, path, std::io::ErrorKind::PermissionDenied.into())
}

fn counting() -> Arc<Around<Counting>> {
    Arc::new(Around::new(Arc::new(Disk), Counting::default()))
}

#[test]
fn a_database_lives_on_files_that_the_application_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = counting();
    let open = |name: &str| Database::builder(dir.path().join(name)).vfs(files.clone()).open();
    let db = open("world").unwrap();
    let before = files.hooks.syncs.load(Ordering::Relaxed);
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert!(files.hooks.syncs.load(Ordering::Relaxed) > before, "acknowledged without a sync");
    db.close().unwrap();
    assert_eq!(open("world").unwrap().view().unwrap().len(), 1);

    let refused = open("refused").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Retry);
    assert!(refused.to_string().contains("refused"), "{refused}");
}

/// WAL-12 asks for no more than the right to make names: who may not look into the directory above has made none there.
#[test]
fn a_database_in_a_directory_that_only_others_may_look_into_opens() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("unreadable/world");
    std::fs::create_dir_all(&world).unwrap();
    let open = |path: &Path| Database::builder(path).vfs(counting()).open();
    open(&world).unwrap().write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert_eq!(open(&world).unwrap().view().unwrap().len(), 1);
    assert!(open(&dir.path().join("unreadable/new")).is_err(), "its name is not durable");
}

/// CKP-2: a snapshot that does not read back as it was written is none, and what it was to take the place of stays.
#[test]
fn a_snapshot_that_the_disk_garbles_is_not_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = counting();
    let builder = || Database::builder(dir.path().join("world")).vfs(files.clone());
    let db = builder().open().unwrap();
    for i in 0..3 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        db.snapshot().unwrap().wait().unwrap();
    }
    let expected = db.view().unwrap().digest().unwrap();
    files.hooks.garbles.store(true, Ordering::Relaxed);
    db.write(|tx| Ok(tx.spawn(Counter(3)))).unwrap();
    let refused = db.snapshot().unwrap().wait().unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert!(db.compact().unwrap().wait().is_err());
    let after = db.view().unwrap().digest().unwrap();
    assert_ne!(expected, after);
    db.close().unwrap();
    files.hooks.garbles.store(false, Ordering::Relaxed);
    let db = builder().policy(ecsdb::Policy::Strict).open().unwrap();
    assert_eq!(db.view().unwrap().digest().unwrap(), after);
}

/// Whatever the application's own files do while a database is closed: its directory is free afterwards.
#[test]
fn a_panic_at_closing_leaves_the_directory_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let files = counting();
    let open = || Database::builder(dir.path().join("world")).vfs(files.clone()).open();
    let db = open().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    // The next segment is prepared by now, and is removed.
    while !std::fs::read_dir(dir.path().join("world/log"))
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with("2.seg"))
    {
        std::thread::yield_now();
    }
    let other = db.clone();
    files.hooks.panics.store(true, Ordering::Relaxed);
    let closed = db.close().unwrap_err();
    assert!(closed.to_string().contains("panic"), "{closed}");
    files.hooks.panics.store(false, Ordering::Relaxed);
    assert_eq!(open().unwrap().view().unwrap().len(), 1);
    drop(other);
}
