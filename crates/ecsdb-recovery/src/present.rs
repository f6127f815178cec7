//! Whether there is a database, and its manifest, for whoever only looks at it.

use std::sync::Arc;

use ecsdb_io::{DirLock, Layout, LockError, LockKind, Vfs};
use ecsdb_snapshot::Manifest;

use crate::error::{Error, Result};
use crate::policy::{Existence, Policy};
use crate::report::RecoveryReport;
use crate::{claim, find};

/// Locks a database that nobody has open, for reading it (as others may meanwhile), and gives its manifest. Where nothing can be written (a full disk, a read-only
/// one) and no lock file is there, nothing is locked: `None`, and a warning (REC-15).
///
/// # Errors
/// When there is no database, none of its manifests is valid, somebody has it open, or one of its directories is another's.
pub fn lock_closed(vfs: &dyn Vfs, layout: &Layout) -> Result<(Option<Arc<dyn DirLock>>, Manifest)> {
    // Looked for first: a lock file makes no database. And again, for what it is once nobody can change it.
    manifest(vfs, layout)?;
    let lock = match claim::lock(vfs, layout.root(), LockKind::Shared) {
        Ok(lock) => Some(lock),
        Err(LockError::Io(e)) if e.is_full_disk() || e.is_read_only() => {
            tracing::warn!(error = %e, "nothing is locked: nobody may have the database open meanwhile");
            None
        }
        Err(e) => return Err(e.into()),
    };
    let manifest = manifest(vfs, layout)?;
    claim::refuse_foreign(vfs, layout, Some(manifest.database))?;
    Ok((lock, manifest))
}

/// The newest manifest of a database that somebody may have open, for looking at its files. Nothing is locked and nothing written, so nobody is
/// disturbed. A file that it names may be gone before it is read, since whoever has it open goes on: look again then.
///
/// # Errors
/// When there is no database, none of its manifests is valid, or one of its directories is another's.
pub fn look(vfs: &dyn Vfs, layout: &Layout) -> Result<Manifest> {
    let manifest = manifest(vfs, layout)?;
    claim::refuse_foreign(vfs, layout, Some(manifest.database))?;
    Ok(manifest)
}

/// Whether there is a database, as it has to be or not.
pub(crate) fn check_existence(vfs: &dyn Vfs, layout: &Layout, existence: Existence) -> Result<()> {
    if existence == Existence::Any {
        return Ok(());
    }
    let absent = match manifest(vfs, layout) {
        Err(e @ Error::Unfinished { .. }) => return Err(e),
        Err(Error::NoDatabase { .. }) => true,
        Err(Error::Io(e) | Error::Snapshot(ecsdb_snapshot::Error::Io(e))) => e.is_not_found(),
        // One that is damaged is one, too.
        _ => false,
    };
    match existence {
        Existence::Required if absent => Err(Error::NoDatabase { dir: layout.root().into() }),
        Existence::Refused if !absent => Err(Error::DatabaseExists { dir: layout.root().into() }),
        _ => Ok(()),
    }
}

fn manifest(vfs: &dyn Vfs, layout: &Layout) -> Result<Manifest> {
    let mut report = RecoveryReport::default();
    let manifest = find::manifest(vfs, layout, Policy::TruncateTail, &mut report)?;
    if report.created {
        return Err(Error::NoDatabase { dir: layout.root().into() });
    }
    Ok(manifest)
}
