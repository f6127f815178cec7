//! What can go wrong with the work in the background. Whatever it is, what was there before is still there.

use std::any::Any;
use std::path::PathBuf;

use ecsdb_io::{IoError, LockError};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of taking, merging, archiving or copying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A snapshot or a manifest could not be written or read.
    #[error(transparent)]
    Snapshot(#[from] ecsdb_snapshot::Error),
    /// The log failed, or a segment could not be read.
    #[error(transparent)]
    Log(#[from] ecsdb_wal::LogError),
    /// An earlier moment could not be read.
    #[error(transparent)]
    Recovery(#[from] ecsdb_recovery::Error),
    /// A value could not be encoded.
    #[error(transparent)]
    World(#[from] ecsdb_core::Error),
    /// Somebody else is at work in the target directory, or has it open.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The directory that something new should go to has something in it.
    #[error("{} is not empty: something new needs a directory of its own", .0.display())]
    TargetNotEmpty(PathBuf),
    /// The directory that a copy should go to is one of the database's own.
    #[error("{} is within the database itself: a copy needs a directory of its own", .0.display())]
    TargetWithin(PathBuf),
    /// The archive had segments that are still wanted, and its directory is empty or not there.
    #[error(
        "the archive in {} is away: it had log segments that are still wanted. Mount it or put it back; meanwhile nothing is archived, and \
         nothing that belongs there is deleted. If it is gone for good, say so with `archive.enabled = false`", .0.display()
    )]
    ArchiveAway(PathBuf),
    /// None of the snapshots is there: the directory is another one than that in which they lie.
    #[error(
        "the snapshots are away: none of them is in {}. Mount it or put them back; meanwhile no other one is taken and nothing is given up, so that \
         the log grows. If they are gone for good, say so with `ecsdb repair`, or open it once with the policy `salvage`", .0.display()
    )]
    SnapshotsAway(PathBuf),
    /// A copied file does not hold what it was copied from.
    #[error("{} does not read back as it was written: {what}. It is removed, and what it was made from is kept", path.display())]
    NotVerified {
        /// The copy.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Code that it called panicked: that of a value that was to be encoded, say.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// It was cancelled.
    #[error("it was cancelled; what was there before is still there")]
    Cancelled,
}

impl Error {
    /// What code that was called panicked with.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Error {
        Error::Panicked(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (None, Some(text)) => (*text).into(),
            (None, None) => "without a word".into(),
        })
    }

    /// True when the disk is full: free space, then try again.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Error::Io(e) => e.is_full_disk(),
            Error::Snapshot(e) => e.is_full_disk(),
            Error::Log(e) => e.is_full_disk(),
            Error::Recovery(e) => e.is_full_disk(),
            _ => false,
        }
    }

    /// True when somebody asked it to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Error::Cancelled
                | Error::Snapshot(ecsdb_snapshot::Error::Cancelled)
                | Error::Recovery(ecsdb_recovery::Error::Cancelled)
        )
    }
}
