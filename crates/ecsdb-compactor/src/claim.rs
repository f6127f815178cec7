//! A place for something new: one process has it from before it looks there until what it makes is whole, or gone. What one makes, nobody else
//! touches; what is left of one that was killed is the next one's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::{
    DirEntry, DirLock, EntryKind, FileKind, Layout, LockError, LockKind, Owner, Vfs, create_dir_durably,
};
use ecsdb_snapshot::Manifest;

use crate::error::{Error, Result};

/// The file of a database's settings, which may be there before the database.
pub const SETTINGS: &str = "ecsdb.toml";
/// Who has a lock is noted beside it.
const HOLDER: &str = "LOCK.holder";
/// How often a directory is made that somebody removes meanwhile who gives it up.
const REMOVED_MAX: u32 = 1000;

/// A place that is this one's alone until this is dropped.
#[derive(Debug)]
pub struct Claim<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) layout: &'a Layout,
    /// With the directories that they are on.
    locks: Vec<(PathBuf, Arc<dyn DirLock>)>,
    /// Another attempt was left unfinished there, which may have been anybody's: there may be more than what this one makes.
    pub unfinished: bool,
}

impl<'a> Claim<'a> {
    /// Takes the directories of `layout` for something new. They are there afterwards, and have nothing in them but settings and locks, or what
    /// another attempt left unfinished: the file `mark` in its directory says so.
    ///
    /// # Errors
    /// [`Error::TargetNotEmpty`]; [`Error::Locked`] where somebody is at work; or when a file operation fails. Nothing of others is touched then.
    pub fn take(vfs: &'a dyn Vfs, layout: &'a Layout, mark: &Path) -> Result<Claim<'a>> {
        // Where it is not to be had, not even a lock is left.
        is_unfinished(vfs, layout, mark)?;
        let root = layout.root();
        let mut claim = Claim { vfs, layout, locks: vec![lock(vfs, root)?], unfinished: false };
        // Somebody else may have made something meanwhile, and now nobody can.
        match is_unfinished(vfs, layout, mark).and_then(|unfinished| {
            claim.unfinished = unfinished;
            claim.take_elsewhere()
        }) {
            Ok(()) => Ok(claim),
            Err(e) => {
                claim.release();
                Err(e)
            }
        }
    }

    /// The same of directories that do not lie in that of the database.
    fn take_elsewhere(&mut self) -> Result<()> {
        let Claim { vfs, layout, .. } = *self;
        let elsewhere = [layout.log_dir(), layout.snapshot_dir()];
        for dir in elsewhere.into_iter().filter(|dir| !dir.starts_with(layout.root())) {
            self.locks.push((dir.into(), lock(vfs, dir)?.1));
            if !is_free_elsewhere(vfs, layout, dir, self.unfinished)? {
                return Err(Error::TargetNotEmpty(dir.into()));
            }
        }
        Ok(())
    }

    /// The locks, with the directories that they are on: for whoever makes there what it was taken for.
    pub fn locks(&self) -> impl Iterator<Item = &(PathBuf, Arc<dyn DirLock>)> {
        self.locks.iter()
    }

    /// Gives the place back without its locks' files, unless they are a database's. Who waits for them finds that they are gone.
    pub fn release(self) {
        let Claim { vfs, layout, .. } = self;
        let has_manifests = || Manifest::generations(vfs, layout).is_ok_and(|found| !found.is_empty());
        for (dir, lock) in self.locks.into_iter().rev() {
            let is_used = if dir == layout.root() { has_manifests() } else { Owner::is_said(vfs, &dir) };
            if !is_used && lock.check().is_ok() {
                // The lock last: as soon as it is gone, the note is the next one's.
                drop(vfs.remove(&dir.join(HOLDER)));
                drop(vfs.remove(&Layout::lock_file(&dir)));
            }
        }
    }
}

/// Makes a directory and locks it, again where whoever had it gives it up just then.
fn lock(vfs: &dyn Vfs, dir: &Path) -> Result<(PathBuf, Arc<dyn DirLock>)> {
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
            lock => return Ok((dir.into(), lock?)),
        }
    }
    Ok((dir.into(), attempt()?))
}

/// Whether another attempt was left unfinished there: with a manifest, which comes last, it is a database, and the mark beside it says nothing.
///
/// # Errors
/// [`Error::TargetNotEmpty`] where there is something else; or when a file operation fails.
pub fn is_unfinished(vfs: &dyn Vfs, layout: &Layout, mark: &Path) -> Result<bool> {
    let root = layout.root();
    let entries = match vfs.read_dir(root) {
        Err(e) if e.is_not_found() => return Ok(false),
        entries => entries?,
    };
    let is_mark = |entry: &DirEntry| entry.kind == EntryKind::File && root.join(&entry.name) == mark;
    if entries.iter().any(is_mark) && Manifest::generations(vfs, layout)?.is_empty() {
        return Ok(true);
    }
    match entries.iter().all(is_left_over) {
        true => Ok(false),
        false => Err(Error::TargetNotEmpty(root.into())),
    }
}

/// Whether one of a new database's directories that lies elsewhere than in its own is free for it: empty, or what its own attempt that was left
/// `unfinished` has claimed.
///
/// # Errors
/// When a file operation fails.
pub fn is_free_elsewhere(vfs: &dyn Vfs, layout: &Layout, dir: &Path, unfinished: bool) -> Result<bool> {
    let is_ours = |owner: Owner| owner == Owner::new(owner.database, layout.root());
    if unfinished && Owner::read(vfs, dir)?.is_some_and(is_ours) {
        return Ok(true);
    }
    match vfs.read_dir(dir) {
        Err(e) if e.is_not_found() => Ok(true),
        entries => Ok(entries?.iter().all(is_lock)),
    }
}

fn is_lock(entry: &DirEntry) -> bool {
    entry.kind == EntryKind::File && (Layout::lock_file(Path::new("")) == *entry.name || entry.name == HOLDER)
}

/// What may be there before: settings, and what is left of whoever was killed before it had made anything.
fn is_left_over(entry: &DirEntry) -> bool {
    let is_unpublished =
        || entry.name.strip_suffix(".tmp").is_some_and(|name| FileKind::Manifest.parse(name).is_some());
    entry.name == SETTINGS || is_lock(entry) || (entry.kind == EntryKind::File && is_unpublished())
}
