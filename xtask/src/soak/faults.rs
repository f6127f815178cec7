//! The disk, which can be told to fail.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ecsdb::{Around, Disk, FileOp, Hooks, IoError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing can be created, grow or be written: `ENOSPC`.
    Full,
    /// No sync succeeds: `EIO`.
    Sync,
}

/// Which operations fail. All do once so many of their kind succeeded after it was switched on.
#[derive(Debug, Default)]
pub(super) struct Switch {
    /// 0 for none.
    fault: AtomicU8,
    grace: AtomicU64,
    met: AtomicU64,
}

impl Switch {
    pub(super) fn on(&self, fault: Fault, grace: u64) {
        self.met.store(0, Ordering::SeqCst);
        self.grace.store(grace, Ordering::SeqCst);
        self.fault.store(fault as u8 + 1, Ordering::SeqCst);
    }

    /// Gives how many operations failed.
    pub(super) fn off(&self) -> u64 {
        self.fault.store(0, Ordering::SeqCst);
        self.met.load(Ordering::SeqCst)
    }

    /// The disk, behind it.
    pub(super) fn disk() -> Around<Switch> {
        Around::new(Arc::new(Disk), Switch::default())
    }
}

impl Hooks for Switch {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        let kind = match op {
            FileOp::Create | FileOp::Write | FileOp::SetLen => Fault::Full,
            FileOp::Sync | FileOp::SyncDir => Fault::Sync,
            _ => return Ok(()),
        };
        let less = |grace: u64| grace.checked_sub(1);
        if self.fault.load(Ordering::SeqCst) != kind as u8 + 1
            || self.grace.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        {
            return Ok(());
        }
        self.met.fetch_add(1, Ordering::SeqCst);
        let cause = match kind {
            Fault::Full => io::Error::from(io::ErrorKind::StorageFull),
            Fault::Sync => io::Error::other("a fault of the soak"),
        };
        Err(IoError::new(op, path, cause))
    }
}
