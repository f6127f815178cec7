//! The files of a place that somebody has taken for something new.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::{DirEntry, DirLock, IoError, Layout, LockError, LockKind, OpenMode, Vfs, VfsFile};

use crate::claim::Claim;

/// Files for whoever makes something at a place that is taken: its locks are those that are held, and no name is changed once one of them is lost. The
/// directory was moved or removed then, and by its name there may be what somebody else has made.
#[derive(Debug)]
pub struct Held {
    vfs: Arc<dyn Vfs>,
    locks: Vec<(PathBuf, Arc<dyn DirLock>)>,
}

impl Held {
    /// Those of `vfs`, under the locks of `claim`.
    pub fn of(vfs: Arc<dyn Vfs>, claim: &Claim<'_>) -> Held {
        Held { vfs, locks: claim.locks().cloned().collect() }
    }

    fn check(&self) -> Result<(), IoError> {
        self.locks.iter().try_for_each(|(_, lock)| lock.check())
    }
}

impl Vfs for Held {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>, IoError> {
        self.check()?;
        self.vfs.create(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, IoError> {
        self.vfs.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.check()?;
        self.vfs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.check()?;
        self.vfs.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), IoError> {
        self.check()?;
        self.vfs.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        self.vfs.sync_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, IoError> {
        self.vfs.read_dir(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, IoError> {
        self.vfs.file_len(path)
    }

    fn real_path(&self, path: &Path) -> Result<PathBuf, IoError> {
        self.vfs.real_path(path)
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        let is_its = |(dir, _): &&(PathBuf, Arc<dyn DirLock>)| Layout::lock_file(dir) == path;
        match self.locks.iter().find(is_its) {
            Some((_, lock)) => Ok(lock.clone()),
            None => self.vfs.try_lock(path, kind, holder),
        }
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>, IoError> {
        self.vfs.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        self.vfs.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        self.vfs.random_u64()
    }
}
