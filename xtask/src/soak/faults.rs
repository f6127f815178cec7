//! The disk, which can be told to fail.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ecsdb::{DirEntry, DirLock, Disk, FileOp, IoError, LockError, LockKind, Make, OpenMode, Vfs, VfsFile};

type Result<T, E = IoError> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing can be created, grow or be written: `ENOSPC`.
    Full,
    /// No sync succeeds: `EIO`.
    Sync,
}

/// Which operations fail. All do once so many of their kind succeeded after it was switched on.
#[derive(Debug, Default)]
pub(super) struct Switch {
    /// 0 for none.
    fault: AtomicU8,
    grace: AtomicU64,
    met: AtomicU64,
}

impl Switch {
    pub(super) fn on(&self, fault: Fault, grace: u64) {
        self.met.store(0, Ordering::SeqCst);
        self.grace.store(grace, Ordering::SeqCst);
        self.fault.store(fault as u8 + 1, Ordering::SeqCst);
    }

    /// Gives how many operations failed.
    pub(super) fn off(&self) -> u64 {
        self.fault.store(0, Ordering::SeqCst);
        self.met.load(Ordering::SeqCst)
    }

    fn check(&self, kind: Fault, op: FileOp, path: &Path) -> Result<()> {
        let less = |grace: u64| grace.checked_sub(1);
        if self.fault.load(Ordering::SeqCst) != kind as u8 + 1
            || self.grace.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        {
            return Ok(());
        }
        self.met.fetch_add(1, Ordering::SeqCst);
        let cause = match kind {
            Fault::Full => io::Error::from(io::ErrorKind::StorageFull),
            Fault::Sync => io::Error::other("a fault of the soak"),
        };
        Err(IoError::new(op, path, cause))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Faulty(pub(super) Arc<Switch>);

#[derive(Debug)]
struct File {
    file: Arc<dyn VfsFile>,
    switch: Arc<Switch>,
}

impl Faulty {
    fn file(&self, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(File { file, switch: self.0.clone() })
    }
}

impl Vfs for Faulty {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        self.0.check(Fault::Full, FileOp::Create, path)?;
        Ok(self.file(Disk.create(path)?))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        Ok(self.file(Disk.open(path, mode)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        Disk.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        Disk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.0.check(Fault::Sync, FileOp::SyncDir, path)?;
        Disk.sync_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        Disk.read_dir(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        Disk.file_len(path)
    }

    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        Disk.real_path(path)
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        Disk.try_lock(path, kind, holder)
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        Disk.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        Disk.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        Disk.random_u64()
    }
}

impl VfsFile for File {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        self.switch.check(Fault::Full, FileOp::Write, self.path())?;
        self.file.write_all_at(bufs, offset)
    }

    fn write_while_made(&self, offset: u64, make: Make<'_>) -> Result<()> {
        self.switch.check(Fault::Full, FileOp::Write, self.path())?;
        self.file.write_while_made(offset, make)
    }

    fn pass_cache_by(&self) {
        self.file.pass_cache_by();
    }

    fn start_writing(&self, offset: u64, len: u64) {
        self.file.start_writing(offset, len);
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.switch.check(Fault::Full, FileOp::SetLen, self.path())?;
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> Result<()> {
        self.switch.check(Fault::Full, FileOp::SetLen, self.path())?;
        self.file.reserve(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.switch.check(Fault::Sync, FileOp::Sync, self.path())?;
        self.file.sync_data()
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }
}
