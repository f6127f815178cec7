//! Files of the application's own under a database, by names from `ecsdb` alone.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ecsdb::prelude::*;
use ecsdb::{DirEntry, DirLock, Disk, FileOp, IoError, LockError, OpenMode, Vfs, VfsFile};

use crate::components::Counter;

/// The disk, with its syncs counted, and one name that it refuses.
#[derive(Debug, Default)]
struct Counting {
    disk: Disk,
    syncs: Arc<AtomicU64>,
    /// Snapshots do not get to the disk as they were written.
    garbles: Arc<AtomicBool>,
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn VfsFile>,
    syncs: Arc<AtomicU64>,
    garbles: Arc<AtomicBool>,
}

impl Counting {
    fn counted(&self, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(CountingFile { file, syncs: self.syncs.clone(), garbles: self.garbles.clone() })
    }
}

impl Vfs for Counting {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>, IoError> {
        Ok(self.counted(self.disk.create(path)?))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, IoError> {
        Ok(self.counted(self.disk.open(path, mode)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.disk.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), IoError> {
        match path.ends_with("refused") {
            true => Err(IoError::new(FileOp::CreateDir, path, std::io::ErrorKind::PermissionDenied.into())),
            false => self.disk.create_dir_all(path),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        match path.ends_with("unreadable") {
            true => Err(IoError::new(FileOp::SyncDir, path, std::io::ErrorKind::PermissionDenied.into())),
            false => self.disk.sync_dir(path),
        }
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.disk.read_dir(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, IoError> {
        self.disk.file_len(path)
    }

    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        self.disk.try_lock(path, holder)
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>, IoError> {
        self.disk.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        self.disk.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        self.disk.random_u64()
    }
}

impl VfsFile for CountingFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, IoError> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<(), IoError> {
        if self.garbles.load(Ordering::Relaxed) && self.path().to_string_lossy().ends_with(".snap.tmp") {
            let mut bytes: Vec<u8> = bufs.iter().flat_map(|slice| slice.to_vec()).collect();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            return self.file.write_all_at(&mut [IoSlice::new(&bytes)], offset);
        }
        self.file.write_all_at(bufs, offset)
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }
}

#[test]
fn a_database_lives_on_files_that_the_application_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Counting::default());
    let open = |name: &str| Database::builder(dir.path().join(name)).vfs(files.clone()).open();
    let db = open("world").unwrap();
    let before = files.syncs.load(Ordering::Relaxed);
    db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert!(files.syncs.load(Ordering::Relaxed) > before, "acknowledged without a sync");
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
    let open = |path: &Path| Database::builder(path).vfs(Arc::new(Counting::default())).open();
    open(&world).unwrap().write(|tx| Ok(tx.spawn(Counter(1)))).unwrap();
    assert_eq!(open(&world).unwrap().view().unwrap().len(), 1);
    assert!(open(&dir.path().join("unreadable/new")).is_err(), "its name is not durable");
}

/// CKP-2: a snapshot that does not read back as it was written is none, and what it was to take the place of stays.
#[test]
fn a_snapshot_that_the_disk_garbles_is_not_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Counting::default());
    let builder = || Database::builder(dir.path().join("world")).vfs(files.clone());
    let db = builder().open().unwrap();
    for i in 0..3 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
        db.snapshot().unwrap().wait().unwrap();
    }
    let expected = db.view().unwrap().digest().unwrap();
    files.garbles.store(true, Ordering::Relaxed);
    db.write(|tx| Ok(tx.spawn(Counter(3)))).unwrap();
    let refused = db.snapshot().unwrap().wait().unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert!(db.compact().unwrap().wait().is_err());
    let after = db.view().unwrap().digest().unwrap();
    assert_ne!(expected, after);
    db.close().unwrap();
    files.garbles.store(false, Ordering::Relaxed);
    let db = builder().policy(ecsdb::Policy::Strict).open().unwrap();
    assert_eq!(db.view().unwrap().digest().unwrap(), after);
}
