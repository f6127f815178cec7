//! Files with somebody in the way, who is told of each operation before it is done, and may refuse it: all that a [`Vfs`] can is passed on here, and in no
//! second place, where a part of it could be forgotten.

use std::fmt::{Debug, Formatter};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{FileOp, Result};
use crate::vfs::{DirEntry, DirLock, LockError, LockKind, Make, OpenMode, Vfs, VfsFile};

/// Who is in the way.
pub trait Hooks: Send + Sync + 'static {
    /// Told of an operation before it is done. Hints are passed on without a word.
    ///
    /// # Errors
    /// An error is the operation's, which is not done then.
    fn before(&self, _op: FileOp, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// Told of giving a file another name, too.
    ///
    /// # Errors
    /// As [`Hooks::before`].
    fn renames(&self, _from: &Path, _to: &Path) -> Result<()> {
        Ok(())
    }

    /// Told of reading so many bytes there, too.
    ///
    /// # Errors
    /// As [`Hooks::before`].
    fn reads(&self, _path: &Path, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    /// What was read there may be given otherwise.
    fn given(&self, _path: &Path, _bytes: &mut [u8]) {}

    /// What gets to the disk instead of the bytes of a write, if not those.
    fn garbled(&self, _path: &Path, _bytes: &[IoSlice<'_>]) -> Option<Vec<u8>> {
        None
    }

    /// A lock that is held, and is given to whoever asks for it.
    fn lock(&self, _path: &Path) -> Option<Arc<dyn DirLock>> {
        None
    }

    /// A file that was opened is closed.
    fn closed(&self) {}
}

/// Files behind somebody in the way.
pub struct Around<H> {
    disk: Arc<dyn Vfs>,
    /// Who that is.
    pub hooks: Arc<H>,
}

struct File<H: Hooks> {
    file: Arc<dyn VfsFile>,
    hooks: Arc<H>,
}

impl<H: Hooks> Around<H> {
    /// The files of `disk`, behind these.
    pub fn new(disk: Arc<dyn Vfs>, hooks: H) -> Self {
        Around { disk, hooks: Arc::new(hooks) }
    }

    fn file(&self, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(File { file, hooks: self.hooks.clone() })
    }
}

impl<H> Debug for Around<H> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Around({:?})", self.disk)
    }
}

impl<H: Hooks> Debug for File<H> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl<H: Hooks> Drop for File<H> {
    fn drop(&mut self) {
        self.hooks.closed();
    }
}

#[deny(clippy::missing_trait_methods)]
impl<H: Hooks> Vfs for Around<H> {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        self.hooks.before(FileOp::Create, path)?;
        Ok(self.file(self.disk.create(path)?))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        self.hooks.before(FileOp::Open, path)?;
        Ok(self.file(self.disk.open(path, mode)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.hooks.before(FileOp::Rename, from)?;
        self.hooks.renames(from, to)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.hooks.before(FileOp::Remove, path)?;
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.hooks.before(FileOp::Remove, path)?;
        self.disk.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.hooks.before(FileOp::CreateDir, path)?;
        self.disk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.hooks.before(FileOp::SyncDir, path)?;
        self.disk.sync_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.hooks.before(FileOp::ReadDir, path)?;
        self.disk.read_dir(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        self.hooks.before(FileOp::Metadata, path)?;
        self.disk.file_len(path)
    }

    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        self.disk.real_path(path)
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        self.hooks.before(FileOp::Lock, path)?;
        match self.hooks.lock(path) {
            Some(lock) => Ok(lock),
            None => self.disk.try_lock(path, kind, holder),
        }
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        self.hooks.before(FileOp::FreeSpace, path)?;
        self.disk.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        self.disk.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        self.disk.random_u64()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<H: Hooks> VfsFile for File<H> {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64> {
        self.hooks.before(FileOp::Metadata, self.path())?;
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.hooks.before(FileOp::Read, self.path())?;
        self.hooks.reads(self.path(), offset, buf.len() as u64)?;
        let n = self.file.read_at(buf, offset)?;
        self.hooks.given(self.path(), &mut buf[..n]);
        Ok(n)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        self.hooks.before(FileOp::Write, self.path())?;
        match self.hooks.garbled(self.path(), bufs) {
            Some(bytes) => self.file.write_all_at(&mut [IoSlice::new(&bytes)], offset),
            None => self.file.write_all_at(bufs, offset),
        }
    }

    fn write_while_made(&self, offset: u64, make: Make<'_>) -> Result<()> {
        self.hooks.before(FileOp::Write, self.path())?;
        self.file.write_while_made(offset, &mut |push| {
            make(&mut |bytes| match self.hooks.garbled(self.path(), &[IoSlice::new(bytes)]) {
                Some(garbled) => push(&garbled),
                None => push(bytes),
            });
        })
    }

    fn start_writing(&self, offset: u64, len: u64) {
        self.file.start_writing(offset, len);
    }

    fn pass_cache_by(&self) {
        self.file.pass_cache_by();
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.hooks.before(FileOp::SetLen, self.path())?;
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> Result<()> {
        self.hooks.before(FileOp::SetLen, self.path())?;
        self.file.reserve(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.hooks.before(FileOp::Sync, self.path())?;
        self.file.sync_data()
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }
}
