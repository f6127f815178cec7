//! Whose the directories of a database are, and who has them open (CKP-10, REC-12).

use std::path::Path;
use std::sync::Arc;

use ecsdb_io::{
    DirLock, FileKind, Layout, LockError, LockKind, Owner, Vfs, create_dir_durably, numbered_files,
};
use ecsdb_snapshot::Manifest;

use crate::aside::move_aside;
use crate::error::{Error, Result};
use crate::moment::time_text;
use crate::superfluous::whose;

/// What a directory says of whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// This database's, and it says so.
    Ours,
    /// It does not say, but files of this database are in it; or it was another's whose directory has become this one.
    Unmarked,
    /// There is nothing of a database in it, or it is not there.
    Empty,
}

/// Locks one of a database's directories: for changing it, alone; for reading it, with whoever else reads.
///
/// # Errors
/// When somebody else holds it, or the lock file cannot be used.
pub(crate) fn lock(vfs: &dyn Vfs, dir: &Path, kind: LockKind) -> Result<Arc<dyn DirLock>, LockError> {
    let now = time_text(vfs.now_unix_ns() / 1_000_000_000 * 1_000_000_000);
    let holder = format!("process {} since {now}", std::process::id());
    vfs.try_lock(&Layout::lock_file(dir), kind, &holder)
}

/// Refuses to read from directories that say that they are another database's, or (without a manifest that says which this one is) that
/// they are of one in another place.
pub(crate) fn refuse_foreign(vfs: &dyn Vfs, layout: &Layout, database: Option<u128>) -> Result<()> {
    for dir in [layout.log_dir(), layout.snapshot_dir()] {
        match Owner::read(vfs, dir)? {
            Some(said)
                if database.map_or(!is_of(vfs, layout, dir, &said), |database| said.database != database) =>
            {
                return Err(foreign(layout, dir, format!("the database in {}", said.root.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn foreign(layout: &Layout, dir: &Path, owner: String) -> Error {
    Error::ForeignDirectory { dir: dir.into(), owner, database: layout.root().into() }
}

/// Whether a directory is the database's in `layout`, and says so. Nothing is written.
///
/// # Errors
/// [`Error::ForeignDirectory`], or when a file operation fails.
pub fn mark(vfs: &dyn Vfs, layout: &Layout, dir: &Path, database: u128) -> Result<Mark> {
    let foreign = |owner: String| Err(foreign(layout, dir, owner));
    match Owner::read(vfs, dir)? {
        Some(said) if said.database != database => {
            foreign(format!("the database in {}", said.root.display()))
        }
        Some(said) if is_of(vfs, layout, dir, &said) => Ok(Mark::Ours),
        // The database was moved, or else it was copied, and both would write here.
        // Where nobody can look whether it is still there, it may be.
        Some(said) if !said.is_exact() || is_there(vfs, &said) => {
            foreign(format!("the database in {}, of which this one is a copy", said.root.display()))
        }
        Some(_) => Ok(Mark::Unmarked),
        None => match database_of_files(vfs, dir, database)? {
            Some(found) if found == database => Ok(Mark::Unmarked),
            Some(found) => foreign(format!("a database with the identity {found:032x}")),
            None => Ok(Mark::Empty),
        },
    }
}

/// Makes a directory the database's: it is there, locked, and says whose it is.
///
/// # Errors
/// As [`mark`]; or when somebody has it locked, or a file operation fails.
pub fn claim(vfs: &dyn Vfs, layout: &Layout, dir: &Path, database: u128) -> Result<Arc<dyn DirLock>> {
    // Before anything is written into what may be another's.
    mark(vfs, layout, dir, database)?;
    // WAL-12: the directory's own name, too.
    create_dir_durably(vfs, dir)?;
    let lock = lock(vfs, dir, LockKind::Exclusive)?;
    claim_locked(vfs, layout, dir, database)?;
    Ok(lock)
}

/// As [`claim`], of a directory that is locked.
pub(crate) fn claim_locked(vfs: &dyn Vfs, layout: &Layout, dir: &Path, database: u128) -> Result<()> {
    // And again, for what it is once nobody can change it.
    if mark(vfs, layout, dir, database)? != Mark::Ours {
        if let Some(strangers) = Owner::strangers(vfs, dir)? {
            let aside = move_aside(vfs, layout, &strangers)?;
            tracing::warn!(
                path = %strangers.display(), target = %aside.display(),
                "a file that has the name of what says whose a directory is, and is somebody's, was set aside"
            );
        }
        match Owner::new(database, layout.root()).write(vfs, dir) {
            // REC-14: a directory of somebody's is in the file's place. Whose the files here are, they say themselves.
            Err(e) if e.cause.kind() == std::io::ErrorKind::IsADirectory => {
                tracing::warn!(error = %e, "it cannot be noted whose a directory is");
            }
            written => written?,
        }
    }
    Ok(())
}

/// Whether a directory is within that of this database, or says that it is of the one there, by whatever name.
fn is_of(vfs: &dyn Vfs, layout: &Layout, dir: &Path, said: &Owner) -> bool {
    let this = Owner::new(said.database, layout.root());
    dir.starts_with(layout.root())
        || *said == this
        || vfs.real_path(&said.root).is_ok_and(|root| root == layout.root())
}

/// Whether a database of this identity lies in the directory that `owner` names. What cannot be looked at cannot be written to, either.
fn is_there(vfs: &dyn Vfs, owner: &Owner) -> bool {
    let layout = Layout::new(&owner.root);
    let generations = Manifest::generations(vfs, &layout).unwrap_or_default();
    generations.into_iter().any(|generation| {
        Manifest::read(vfs, &layout.file(FileKind::Manifest, generation))
            .is_ok_and(|manifest| manifest.database == owner.database)
    })
}

/// The database that the files in a directory are of: this one, if any of them is; `None` if there is none that can be read.
fn database_of_files(vfs: &dyn Vfs, dir: &Path, database: u128) -> Result<Option<u128>> {
    let mut found = None;
    for kind in [FileKind::Segment, FileKind::CompressedSegment, FileKind::Snapshot] {
        for file in numbered_files(vfs, dir, &[kind])? {
            if let Some(of_file) = whose(vfs, kind, &file.path)?.database() {
                if of_file == database {
                    return Ok(Some(of_file));
                }
                found = found.or(Some(of_file));
            }
        }
    }
    Ok(found)
}
