//! A [`Vfs`] whose files go through the scheduler, for code that knows nothing of it.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::request::Request;
use super::{Priority, Scheduler};
use crate::direct::PageVec;
use crate::error::{FileOp, Result};
use crate::vfs::{DirEntry, DirLock, LockError, LockKind, OpenMode, Vfs, VfsFile};

/// The most that one request reads: a higher class waits no longer than that takes.
const READ_BYTES_MAX: usize = 1 << 20;

/// Names pass straight through. What would see the content or the length of a file waits for its queued writes first,
/// so that a file looks as if they had been executed at once. But who lists a directory does not wait for lower classes: a limit on the rate of
/// one holds back no other.
#[derive(Debug)]
pub(super) struct ScheduledVfs {
    pub(super) scheduler: Scheduler,
    pub(super) inner: Arc<dyn Vfs>,
    pub(super) priority: Priority,
}

impl ScheduledVfs {
    fn schedule(&self, file: Arc<dyn VfsFile>, path: &Path) -> Arc<dyn VfsFile> {
        let id = self.scheduler.shared().queues.lock().add_file(file.clone(), path.into(), self.priority);
        Arc::new(ScheduledFile { id, file, scheduler: self.scheduler.clone(), priority: self.priority })
    }
}

impl Vfs for ScheduledVfs {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        Ok(self.schedule(self.inner.create(path)?, path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        self.scheduler.shared().settle(Priority::LOWEST, |name| name == path);
        Ok(self.schedule(self.inner.open(path, mode)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        // What is published must be whole.
        self.scheduler.shared().settle_well(FileOp::Rename, from)?;
        self.inner.rename(from, to)?;
        self.scheduler.shared().queues.lock().renamed(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        // Its queued writes go to the file without a name.
        self.inner.remove(path)?;
        self.scheduler.shared().queues.lock().renamed(path, Path::new(""));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.scheduler.shared().settle(self.priority, |name| name.parent() == Some(path));
        self.inner.read_dir(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        self.scheduler.shared().settle(Priority::LOWEST, |name| name == path);
        self.inner.file_len(path)
    }

    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        self.inner.real_path(path)
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        self.inner.try_lock(path, kind, holder)
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        self.inner.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        self.inner.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        self.inner.random_u64()
    }
}

/// An open file; it keeps the scheduler alive.
#[derive(Debug)]
struct ScheduledFile {
    id: u64,
    file: Arc<dyn VfsFile>,
    scheduler: Scheduler,
    priority: Priority,
}

impl VfsFile for ScheduledFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64> {
        let shared = self.scheduler.shared();
        if shared.queues.lock().is_idle(self.id) {
            return self.file.len();
        }
        shared.look(self.id, FileOp::Metadata, self.path(), Request::Len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let offset = offset.saturating_add(done as u64);
            let len = (buf.len() - done).min(READ_BYTES_MAX);
            let bytes = self
                .scheduler
                .shared()
                .look(self.id, FileOp::Read, self.path(), |reply| Request::Read { offset, len, reply })?;
            buf[done..done + bytes.len()].copy_from_slice(&bytes);
            done += bytes.len();
            if bytes.len() < len {
                break;
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let mut bytes = PageVec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
        bufs.iter().for_each(|buf| bytes.extend_from_slice(buf));
        self.scheduler.shared().write(self.id, self.path(), self.priority, offset, bytes)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let request = |reply| Request::SetLen(len, reply);
        self.scheduler.shared().change(self.id, FileOp::SetLen, self.path(), request)
    }

    fn reserve(&self, len: u64) -> Result<()> {
        let request = |reply| Request::Reserve(len, reply);
        self.scheduler.shared().change(self.id, FileOp::SetLen, self.path(), request)
    }

    fn sync_data(&self) -> Result<()> {
        self.scheduler.shared().change(self.id, FileOp::Sync, self.path(), Request::Sync)
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }

    fn pass_cache_by(&self) {
        self.file.pass_cache_by();
    }
}

impl Drop for ScheduledFile {
    fn drop(&mut self) {
        self.scheduler.shared().drop_file(self.id);
    }
}
