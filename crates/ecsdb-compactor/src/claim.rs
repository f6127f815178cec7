//! A place for something new: one process has it from before it looks there until what it makes is whole, or gone. What one makes, nobody else
//! touches; what is left of one that was killed is the next one's.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::{
    Around, DirEntry, DirLock, EntryKind, Layout, LockError, LockKind, Owner, Vfs, create_dir_durably,
    may_be_left_over,
};
use ecsdb_snapshot::Manifest;

use crate::error::{Error, Result};
use crate::held::Held;

/// The file of a database's settings, which may be there before the database.
pub const SETTINGS: &str = "ecsdb.toml";
/// Who has a lock is noted beside it.
const HOLDER: &str = "LOCK.holder";
/// How often a directory is made that somebody removes meanwhile who gives it up.
const REMOVED_MAX: u32 = 1000;

/// A place that is this one's alone until this is dropped.
#[derive(Debug)]
pub struct Claim<'a> {
    vfs: Arc<dyn Vfs>,
    pub(crate) layout: &'a Layout,
    /// With the directories that they are on.
    locks: Vec<(PathBuf, Arc<dyn DirLock>)>,
    /// Another attempt was left unfinished there, which may have been anybody's: there may be more than what this one makes.
    pub unfinished: bool,
}

impl<'a> Claim<'a> {
    /// The directories that are taken for a new database: its own, and those elsewhere in which something of it is made. Its archive is not among
    /// them: nothing is archived before it is whole.
    pub fn dirs(layout: &Layout) -> impl Iterator<Item = &Path> {
        let elsewhere = [layout.log_dir(), layout.snapshot_dir()];
        let elsewhere = elsewhere.into_iter().filter(|dir| !dir.starts_with(layout.root()));
        [layout.root()].into_iter().chain(elsewhere)
    }

    /// Takes the directories of `layout` for something new. They are there afterwards, and have nothing in them but settings and locks, or what
    /// another attempt left unfinished: the file `mark` in its directory says so.
    ///
    /// # Errors
    /// [`Error::TargetNotEmpty`]; [`Error::Locked`] where somebody is at work; or when a file operation fails. Nothing of others is touched then.
    pub fn take(vfs: Arc<dyn Vfs>, layout: &'a Layout, mark: &Path) -> Result<Claim<'a>> {
        // Where one of them is not to be had, not even a lock is left.
        may_be_had(&*vfs, layout, mark)?;
        let mut claim = Claim { vfs, layout, locks: Vec::new(), unfinished: false };
        match claim.lock_all(mark) {
            Ok(()) => Ok(claim),
            Err(e) => {
                claim.release();
                Err(e)
            }
        }
    }

    fn lock_all(&mut self, mark: &Path) -> Result<()> {
        for dir in Claim::dirs(self.layout) {
            self.locks.push((dir.into(), lock(&*self.vfs, dir)?));
        }
        // Somebody else may have made something meanwhile, and now nobody can.
        self.unfinished = may_be_had(&*self.vfs, self.layout, mark)?;
        Ok(())
    }

    /// The locks, with the directories that they are on: for whoever makes there what it was taken for.
    pub fn locks(&self) -> impl Iterator<Item = &(PathBuf, Arc<dyn DirLock>)> {
        self.locks.iter()
    }

    /// Makes sure that the place is still this one's: that its directories are those that have their names now.
    ///
    /// # Errors
    /// When one was moved, removed or replaced, or cannot be looked at.
    pub fn check(&self) -> Result<()> {
        Ok(self.locks.iter().try_for_each(|(_, lock)| lock.check())?)
    }

    /// The files for what is made there.
    pub(crate) fn files(&self) -> Around<Held> {
        Held::of(self.vfs.clone(), self)
    }

    /// Gives the place back without its locks' files, unless they are a database's. Who waits for them finds that they are gone.
    pub fn release(mut self) {
        let locks = std::mem::take(&mut self.locks);
        let (vfs, layout) = (&*self.vfs, self.layout);
        let has_manifests = || Manifest::generations(vfs, layout).is_ok_and(|found| !found.is_empty());
        for (dir, lock) in locks.into_iter().rev() {
            let is_used = if dir == layout.root() { has_manifests() } else { Owner::is_said(vfs, &dir) };
            let file = Layout::lock_file(&dir);
            // There may have been something else of that name before.
            if !is_used && lock.check().is_ok() && matches!(vfs.file_len(&file), Ok(Some(0))) {
                // The lock last: as soon as it is gone, the note is the next one's.
                drop(vfs.remove(&dir.join(HOLDER)));
                drop(vfs.remove(&file));
            }
        }
    }
}

/// Makes a directory and locks it, again where whoever had it gives it up just then.
fn lock(vfs: &dyn Vfs, dir: &Path) -> Result<Arc<dyn DirLock>> {
    let holder = format!("process {}, which makes something new there", std::process::id());
    let attempt = || -> Result<Arc<dyn DirLock>> {
        create_dir_durably(vfs, dir)?;
        Ok(vfs.try_lock(&Layout::lock_file(dir), LockKind::Exclusive, &holder)?)
    };
    let is_gone = |e: &Error| match e {
        Error::Io(e) | Error::Locked(LockError::Io(e)) => e.is_not_found(),
        _ => false,
    };
    for _ in 1..REMOVED_MAX {
        match attempt() {
            Err(e) if is_gone(&e) => {}
            lock => return lock,
        }
    }
    attempt()
}

/// Whether another attempt was left unfinished in the directories, all of which can be had.
fn may_be_had(vfs: &dyn Vfs, layout: &Layout, mark: &Path) -> Result<bool> {
    let unfinished = is_unfinished(vfs, layout, mark)?;
    // Beside what was left unfinished there may be anything, a file of the name of a directory, too.
    for dir in layout.data_dirs().into_iter().chain([layout.report_dir()]) {
        match vfs.read_dir(dir) {
            Err(e) if e.cause.kind() == ErrorKind::NotADirectory => {
                return Err(Error::TargetNotEmpty(dir.into()));
            }
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    for dir in Claim::dirs(layout).filter(|dir| *dir != layout.root()) {
        if !is_free_elsewhere(vfs, layout, dir, unfinished)? {
            return Err(Error::TargetNotEmpty(dir.into()));
        }
    }
    Ok(unfinished)
}

/// Whether another attempt was left unfinished there: with a manifest, which comes last, it is a database, and the mark beside it says nothing.
///
/// # Errors
/// [`Error::TargetNotEmpty`] where there is something else; or when a file operation fails.
pub fn is_unfinished(vfs: &dyn Vfs, layout: &Layout, mark: &Path) -> Result<bool> {
    let root = layout.root();
    let entries = match vfs.read_dir(root) {
        Err(e) if e.is_not_found() => return Ok(false),
        Err(e) if e.cause.kind() == ErrorKind::NotADirectory => {
            return Err(Error::TargetNotEmpty(root.into()));
        }
        entries => entries?,
    };
    // A mark is empty: what has anything in it is somebody's, and would be removed as one (CKP-10).
    let is_mark =
        |entry: &DirEntry| entry.kind == EntryKind::File && entry.len == 0 && root.join(&entry.name) == mark;
    let unfinished = entries.iter().any(is_mark) && Manifest::generations(vfs, layout)?.is_empty();
    for entry in &entries {
        let fits = match is_lock(vfs, root, entry)? {
            Some(is_ours) => is_ours,
            // Beside what was left unfinished there may be anything.
            None => unfinished || is_left_over(vfs, root, entry)?,
        };
        if !fits {
            return Err(Error::TargetNotEmpty(root.into()));
        }
    }
    Ok(unfinished)
}

/// Whether one of a new database's directories that lies elsewhere than in its own is free for it: empty, or what its own attempt that was left
/// `unfinished` has claimed. One directory may lie in another one.
///
/// # Errors
/// When a file operation fails.
pub fn is_free_elsewhere(vfs: &dyn Vfs, layout: &Layout, dir: &Path, unfinished: bool) -> Result<bool> {
    let entries = match vfs.read_dir(dir) {
        Err(e) if e.is_not_found() => return Ok(true),
        entries => entries?,
    };
    let is_ours = |owner: Owner| owner == Owner::new(owner.database, layout.root());
    let is_claimed = unfinished && Owner::read(vfs, dir)?.is_some_and(is_ours);
    for entry in &entries {
        let fits = match is_lock(vfs, dir, entry)? {
            Some(is_ours) => is_ours,
            None => is_claimed || is_way(vfs, layout, dir, entry)? || is_owner(vfs, dir, entry, unfinished)?,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an entry is a directory of the new database's, which is looked at by itself, or has nothing in it but the way to one.
fn is_way(vfs: &dyn Vfs, layout: &Layout, dir: &Path, entry: &DirEntry) -> Result<bool> {
    let path = dir.join(&entry.name);
    let own = || [layout.root()].into_iter().chain(layout.data_dirs());
    if entry.kind != EntryKind::Dir || !own().any(|own| own.starts_with(&path)) {
        return Ok(false);
    }
    Ok(own().any(|own| own == path) || is_free_elsewhere(vfs, layout, &path, false)?)
}

/// Whether what has the name of a lock, or of the note beside it, is one: `None` for any other name. A lock is empty, and whatever somebody else has
/// written into a file of its name would be removed with it.
fn is_lock(vfs: &dyn Vfs, dir: &Path, entry: &DirEntry) -> Result<Option<bool>> {
    let is_ours = || match may_be_left_over(vfs, &dir.join(&entry.name), b"process ") {
        // Where locks are mandatory, nobody can read it as long as it is true. Whoever has it is told of by the lock.
        Err(e) if e.cause.kind() != ErrorKind::PermissionDenied => Ok(true),
        is_ours => is_ours,
    };
    let is_file = entry.kind == EntryKind::File;
    if Layout::lock_file(Path::new("")) == *entry.name {
        return Ok(Some(is_file && entry.len == 0));
    }
    if entry.name == HOLDER {
        return Ok(Some(is_file && is_ours()?));
    }
    Ok(None)
}

/// What may be there before: settings, and what is left of whoever was killed before it had made anything.
fn is_left_over(vfs: &dyn Vfs, dir: &Path, entry: &DirEntry) -> Result<bool> {
    let is_manifest = || Manifest::is_left_over(vfs, dir, &entry.name);
    Ok(entry.name == SETTINGS || (entry.kind == EntryKind::File && is_manifest()?))
}

/// Whether it was about to be said whose the directory is. Where an attempt was left `unfinished` that is it, whatever a power cut has made of the file.
fn is_owner(vfs: &dyn Vfs, dir: &Path, entry: &DirEntry, unfinished: bool) -> Result<bool> {
    let is_ours = || -> Result<bool> {
        Ok((unfinished && entry.name == Owner::UNPUBLISHED) || Owner::is_left_over(vfs, dir, &entry.name)?)
    };
    Ok(entry.kind == EntryKind::File && is_ours()?)
}
