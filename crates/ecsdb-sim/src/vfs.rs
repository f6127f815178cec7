//! The simulated disk as a `Vfs`: checks that change nothing, then the operation.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::{
    DirEntry, DirLock, EntryKind, FileOp, IoError, LockError, LockKind, OpenMode, Result, Vfs, VfsFile,
};

use crate::disk::SimDisk;
use crate::handle::{SimFile, SimLock};
use crate::machine::Inner;
use crate::names::Ino;
use crate::state::{Place, State, names};

/// How far each reading moves the virtual clock.
const CLOCK_TICK_NS: u64 = 1_000;

impl Vfs for SimDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::Create, path)?;
        let place = at(FileOp::Create, path, inner.state.place(path))?;
        if place.ino.is_some() {
            return Err(IoError::new(FileOp::Create, path, ErrorKind::AlreadyExists.into()));
        }
        let ino = inner.perform(FileOp::Create, path, &"", |state| state.create_file(&place))?;
        Ok(Arc::new(SimFile::new(self, &mut inner, ino, path, OpenMode::ReadWrite)))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        let mut inner = self.inner.lock();
        inner.pass_reading(FileOp::Open, path)?;
        let ino = at(FileOp::Open, path, inner.state.file_at(path))?;
        Ok(Arc::new(SimFile::new(self, &mut inner, ino, path, mode)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::Rename, from)?;
        let check = |state: &State| -> io::Result<(Place, Place, Ino)> {
            let (source, target) = (state.place(from)?, state.place(to)?);
            let ino = source.ino.ok_or(ErrorKind::NotFound)?;
            match target.ino {
                Some(replaced) if replaced == ino => {}
                Some(replaced) if state.is_dir(replaced) => return Err(ErrorKind::IsADirectory.into()),
                Some(_) if state.is_dir(ino) => return Err(ErrorKind::NotADirectory.into()),
                _ if state.is_dir(ino) && names(to).starts_with(&names(from)) => {
                    return Err(ErrorKind::InvalidInput.into());
                }
                _ => {}
            }
            Ok((source, target, ino))
        };
        let (source, target, ino) = at(FileOp::Rename, from, check(&inner.state))?;
        if target.ino == Some(ino) {
            return Ok(());
        }
        let detail = format_args!(" to {}", to.display()).to_string();
        inner.perform(FileOp::Rename, from, &detail, |state| state.rename(&source, &target, ino))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::Remove, path)?;
        let ino = at(FileOp::Remove, path, inner.state.file_at(path))?;
        let place = at(FileOp::Remove, path, inner.state.place(path))?;
        inner.perform(FileOp::Remove, path, &"", |state| state.remove(&place, ino))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::Remove, path)?;
        let ino = at(FileOp::Remove, path, inner.state.dir(path))?;
        if !inner.state.entries(ino).is_empty() {
            return Err(IoError::new(FileOp::Remove, path, ErrorKind::DirectoryNotEmpty.into()));
        }
        let place = at(FileOp::Remove, path, inner.state.place(path))?;
        inner.perform(FileOp::Remove, path, &"", |state| state.remove(&place, ino))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::CreateDir, path)?;
        let mut parent = PathBuf::from("/");
        for name in names(path) {
            parent.push(name);
            let place = at(FileOp::CreateDir, &parent, inner.state.place(&parent))?;
            match place.ino {
                None => {
                    inner.perform(FileOp::CreateDir, &parent, &"", |state| state.create_dir(&place))?;
                }
                Some(ino) if inner.state.is_dir(ino) => {}
                Some(_) => {
                    return Err(IoError::new(FileOp::CreateDir, parent, ErrorKind::NotADirectory.into()));
                }
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::SyncDir, path)?;
        let dir = at(FileOp::SyncDir, path, inner.state.dir(path))?;
        let synced = inner.perform(FileOp::SyncDir, path, &"", |state| state.sync_dir(dir));
        if synced.is_err() {
            inner.state.fail_sync_dir(dir);
        }
        let Inner { state, open, .. } = &mut *inner;
        state.forget_unreachable(open);
        synced
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let mut inner = self.inner.lock();
        inner.pass_reading(FileOp::ReadDir, path)?;
        let state = &inner.state;
        let dir = at(FileOp::ReadDir, path, state.dir(path))?;
        let entry = |(name, ino): (&Arc<str>, &Ino)| DirEntry {
            name: name.to_string(),
            kind: if state.is_dir(*ino) { EntryKind::Dir } else { EntryKind::File },
            len: state.len_of(*ino),
        };
        Ok(state.entries(dir).iter().map(entry).collect())
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        let mut inner = self.inner.lock();
        inner.pass_reading(FileOp::Metadata, path)?;
        match inner.state.place(path) {
            Ok(place) => Ok(place.ino.map(|ino| inner.state.len_of(ino))),
            Err(e) if e.kind() == ErrorKind::IsADirectory => Ok(Some(0)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(IoError::new(FileOp::Metadata, path, e)),
        }
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        let mut inner = self.inner.lock();
        inner.check_power(FileOp::Lock, path)?;
        let place = at(FileOp::Lock, path, inner.state.place(path))?;
        if let Some(ino) = place.ino {
            if inner.state.is_dir(ino) {
                return Err(IoError::new(FileOp::Lock, path, ErrorKind::IsADirectory.into()).into());
            }
            let keeps_out = |by: LockKind| [by, kind].contains(&LockKind::Exclusive);
            if let Some((.., by)) = inner.locked.iter().find(|&&(of, by, _)| of == ino && keeps_out(by)) {
                return Err(LockError::Held { path: path.into(), holder: by.clone() });
            }
        }
        let ino = inner.perform(FileOp::Lock, path, &format_args!(" for {holder}"), |state| {
            place.ino.unwrap_or_else(|| state.create_file(&place))
        })?;
        inner.locked.push((ino, kind, holder.into()));
        Ok(Arc::new(SimLock::new(SimFile::new(self, &mut inner, ino, path, OpenMode::ReadWrite), kind)))
    }

    /// What the quota leaves; unknown without a quota.
    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        let mut inner = self.inner.lock();
        inner.pass_reading(FileOp::FreeSpace, path)?;
        Ok(inner.quota.map(|_| inner.room()))
    }

    fn now_unix_ns(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.clock_ns += CLOCK_TICK_NS;
        inner.clock_ns
    }

    fn random_u64(&self) -> u64 {
        self.inner.lock().rng.u64(..)
    }
}
fn at<T>(op: FileOp, path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| IoError::new(op, path, source))
}
