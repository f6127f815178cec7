//! What an opening takes. Where it is refused, or fails, it gives it back: a directory in which there was nothing of a database, since it is the wrong one or
//! not mounted, has nothing of this one afterwards either (CKP-10).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::{DirLock, FileKind, Layout, LockKind, Owner, Vfs, create_dir_durably, numbered_files};

use crate::claim::{Mark, claim_locked, lock, mark};
use crate::error::Result;

/// Files of which one in a directory shows that it is a database's.
const KINDS: [FileKind; 4] =
    [FileKind::Manifest, FileKind::Segment, FileKind::CompressedSegment, FileKind::Snapshot];

/// The directories that an opening has taken until it is complete.
pub(crate) struct Taken {
    vfs: Arc<dyn Vfs>,
    dirs: Vec<Dir>,
}

struct Dir {
    path: PathBuf,
    lock: Arc<dyn DirLock>,
    /// The files that are made there with the lock, of those that were not there.
    made: Vec<PathBuf>,
    /// It is said whose it is, which it did not say.
    said: Option<u128>,
}

impl Taken {
    pub(crate) fn new(vfs: Arc<dyn Vfs>) -> Taken {
        Taken { vfs, dirs: Vec::new() }
    }

    /// Locks a directory, which is made if it is not there.
    pub(crate) fn lock(&mut self, dir: &Path) -> Result<()> {
        // WAL-12: the directory's own name, too.
        create_dir_durably(&*self.vfs, dir)?;
        let file = Layout::lock_file(dir);
        let mut made = Vec::new();
        // The lock last: as soon as it is gone, the note is the next one's.
        for path in [file.with_extension("holder"), file] {
            if self.vfs.file_len(&path)?.is_none() {
                made.push(path);
            }
        }
        let lock = lock(&*self.vfs, dir, LockKind::Exclusive)?;
        self.dirs.push(Dir { path: dir.into(), lock, made, said: None });
        Ok(())
    }

    /// Locks a directory that is there: whoever has it refuses the opening before anything is changed.
    pub(crate) fn lock_there(&mut self, dir: &Path) -> Result<()> {
        if self.vfs.file_len(dir)?.is_some() { self.lock(dir) } else { Ok(()) }
    }

    /// As [`claim`](crate::claim()), of a directory that may be locked already.
    pub(crate) fn claim(&mut self, layout: &Layout, dir: &Path, database: u128) -> Result<()> {
        let vfs = self.vfs.clone();
        // Before anything is written into what may be another's.
        let was = mark(&*vfs, layout, dir, database)?;
        let is_said = Owner::is_said(&*vfs, dir);
        if !self.dirs.iter().any(|taken| taken.path == dir) {
            self.lock(dir)?;
        }
        let taken = self.dirs.iter_mut().find(|taken| taken.path == dir);
        if let Some(taken) = taken.filter(|_| was == Mark::Empty && !is_said) {
            taken.said = Some(database);
        }
        claim_locked(&*vfs, layout, dir, database)
    }

    /// The locks on directories, in their order.
    pub(crate) fn locks<'d>(&self, dirs: impl IntoIterator<Item = &'d Path>) -> Vec<Arc<dyn DirLock>> {
        let of = |dir: &Path| self.dirs.iter().find(|taken| taken.path == dir);
        dirs.into_iter().filter_map(|dir| Some(of(dir)?.lock.clone())).collect()
    }

    /// From here on they are the database's, whatever becomes of the opening.
    pub(crate) fn keep(&mut self) {
        self.dirs.clear();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let vfs = &*self.vfs;
        for dir in self.dirs.drain(..).rev() {
            // Where there is something of a database, it is that one's.
            let is_used =
                |path: &Path| numbered_files(vfs, path, &KINDS).map_or(true, |found| !found.is_empty());
            if dir.lock.check().is_err() || is_used(&dir.path) {
                continue;
            }
            if let Some(database) = dir.said
                && Owner::read(vfs, &dir.path)
                    .is_ok_and(|said| said.is_some_and(|said| said.database == database))
            {
                drop(Owner::remove(vfs, &dir.path));
            }
            // One that says whose it is has been somebody's before.
            if Owner::is_said(vfs, &dir.path) {
                continue;
            }
            for path in &dir.made {
                drop(vfs.remove(path));
            }
        }
    }
}
