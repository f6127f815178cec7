//! Open files and locks.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use ecsdb_io::{DirLock, FileOp, IoError, LockKind, OpenMode, Result, VfsFile};

use crate::disk::SimDisk;
use crate::fault::Failure;
use crate::machine::Inner;
use crate::names::Ino;
use crate::state::FILE_LEN_MAX;

/// An open file. It stays readable and writable when its name is removed.
#[derive(Debug)]
pub(crate) struct SimFile {
    disk: SimDisk,
    ino: Ino,
    path: PathBuf,
    mode: OpenMode,
}

impl SimFile {
    /// Opens `ino` on `disk`, whose lock `inner` the caller holds.
    pub(crate) fn new(disk: &SimDisk, inner: &mut Inner, ino: Ino, path: &Path, mode: OpenMode) -> Self {
        *inner.open.entry(ino).or_default() += 1;
        SimFile { disk: disk.clone(), ino, path: path.into(), mode }
    }

    fn check_writable(&self, op: FileOp) -> Result<()> {
        match self.mode {
            OpenMode::ReadWrite => Ok(()),
            OpenMode::Read => Err(IoError::new(op, &self.path, ErrorKind::PermissionDenied.into())),
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut inner = self.disk.inner.lock();
        if let Some(count) = inner.open.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                inner.open.remove(&self.ino);
            }
        }
    }
}

impl VfsFile for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        let mut inner = self.disk.inner.lock();
        inner.pass_reading(FileOp::Metadata, &self.path)?;
        Ok(inner.state.len_of(self.ino))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut inner = self.disk.inner.lock();
        inner.pass_reading(FileOp::Read, &self.path)?;
        Ok(inner.state.files.get(&self.ino).map_or(0, |file| file.live().read(buf, offset)))
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let bytes = bufs.iter().map(|buf| &**buf).collect::<Vec<&[u8]>>().concat();
        let mut inner = self.disk.inner.lock();
        inner.check_power(FileOp::Write, &self.path)?;
        self.check_writable(FileOp::Write)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if end > FILE_LEN_MAX {
            return Err(IoError::new(FileOp::Write, &self.path, ErrorKind::FileTooLarge.into()));
        }
        let detail = format!(" {offset}..{end}");
        let failure = inner.gate(FileOp::Write, &self.path, &detail);
        let wanted = match failure {
            None | Some(Failure::PowerOffAfter) => bytes.len(),
            Some(Failure::ShortWrite(count)) => count.min(bytes.len()),
            Some(_) => 0,
        };
        // What fits is written.
        let fits = inner.state.len_of(self.ino).saturating_add(inner.room()).saturating_sub(offset);
        let written = wanted.min(usize::try_from(fits).unwrap_or(usize::MAX));
        if written > 0 {
            inner.state.write(self.ino, offset, &bytes[..written]);
        }
        match failure {
            None if written == bytes.len() => Ok(()),
            None => Err(IoError::new(FileOp::Write, &self.path, Failure::NoSpace.error())),
            Some(failure) => Err(IoError::new(FileOp::Write, &self.path, failure.error())),
        }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.check_power(FileOp::SetLen, &self.path)?;
        self.check_writable(FileOp::SetLen)?;
        if len > FILE_LEN_MAX {
            return Err(IoError::new(FileOp::SetLen, &self.path, ErrorKind::FileTooLarge.into()));
        }
        if len.saturating_sub(inner.state.len_of(self.ino)) > inner.room() {
            return Err(IoError::new(FileOp::SetLen, &self.path, Failure::NoSpace.error()));
        }
        inner.perform(FileOp::SetLen, &self.path, &format_args!(" to {len}"), |state| {
            state.set_len(self.ino, len)
        })
    }

    fn sync_data(&self) -> Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.check_power(FileOp::Sync, &self.path)?;
        let synced = inner.perform(FileOp::Sync, &self.path, &"", |state| state.edit(self.ino, |f| f.sync()));
        if synced.is_err() {
            inner.state.edit(self.ino, |file| file.fail_sync());
        }
        synced
    }
}

/// The lock belongs to the open file and ends with it, or with the machine.
#[derive(Debug)]
pub(crate) struct SimLock {
    file: SimFile,
    kind: LockKind,
}

impl SimLock {
    /// Locks `file`, which must be marked as locked already.
    pub(crate) fn new(file: SimFile, kind: LockKind) -> Self {
        SimLock { file, kind }
    }
}

impl DirLock for SimLock {
    fn check(&self) -> Result<()> {
        let path = self.file.path();
        let inner = self.file.disk.inner.lock();
        inner.check_power(FileOp::Lock, path)?;
        match inner.state.place(path) {
            Ok(place) if place.ino == Some(self.file.ino) => Ok(()),
            _ => Err(IoError::lock_lost(path)),
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let locked = &mut self.file.disk.inner.lock().locked;
        let is_own = |&(of, by, _): &(_, _, String)| (of, by) == (self.file.ino, self.kind);
        if let Some(own) = locked.iter().position(is_own) {
            locked.swap_remove(own);
        }
    }
}
