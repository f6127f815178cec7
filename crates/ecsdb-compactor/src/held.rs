//! The files of a place that somebody has taken for something new.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::{Around, DirLock, FileOp, Hooks, IoError, Layout, Vfs};

use crate::claim::Claim;

/// For whoever makes something at a place that is taken: its locks are those that are held, and no name is changed once one of them is lost. The
/// directory was moved or removed then, and by its name there may be what somebody else has made.
#[derive(Debug)]
pub struct Held {
    locks: Vec<(PathBuf, Arc<dyn DirLock>)>,
}

impl Held {
    /// The files of `vfs`, under the locks of `claim`.
    pub fn of(vfs: Arc<dyn Vfs>, claim: &Claim<'_>) -> Around<Held> {
        Around::new(vfs, Held { locks: claim.locks().cloned().collect() })
    }
}

impl Hooks for Held {
    fn before(&self, op: FileOp, _path: &Path) -> Result<(), IoError> {
        match op {
            FileOp::Create | FileOp::Rename | FileOp::Remove | FileOp::CreateDir => {
                self.locks.iter().try_for_each(|(_, lock)| lock.check())
            }
            _ => Ok(()),
        }
    }

    fn lock(&self, path: &Path) -> Option<Arc<dyn DirLock>> {
        let held = self.locks.iter().find(|(dir, _)| Layout::lock_file(dir) == path);
        held.map(|(_, lock)| lock.clone())
    }
}
