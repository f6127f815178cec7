//! The one error of file operations: which operation, on which path, and what the system said.

use std::io;
use std::path::{Path, PathBuf};

use crate::platform;

/// A file operation, as named in an [`IoError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileOp {
    /// Opening an existing file.
    Open,
    /// Creating a new file.
    Create,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Changing the length of a file.
    SetLen,
    /// Asking for a length or the existence of a file.
    Metadata,
    /// Syncing a file's data to stable storage.
    Sync,
    /// Syncing a directory's entries to stable storage.
    SyncDir,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Creating a directory.
    CreateDir,
    /// Listing a directory.
    ReadDir,
    /// Taking the directory lock.
    Lock,
    /// Asking for free space.
    FreeSpace,
    /// Asking to be told of changes.
    Watch,
}

impl std::fmt::Display for FileOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FileOp::Open => "open",
            FileOp::Create => "create",
            FileOp::Read => "read",
            FileOp::Write => "write",
            FileOp::SetLen => "set the length of",
            FileOp::Metadata => "look up",
            FileOp::Sync => "sync",
            FileOp::SyncDir => "sync directory",
            FileOp::Rename => "rename",
            FileOp::Remove => "remove",
            FileOp::CreateDir => "create directory",
            FileOp::ReadDir => "list directory",
            FileOp::Lock => "lock",
            FileOp::FreeSpace => "ask for free space at",
            FileOp::Watch => "watch",
        })
    }
}

/// What every fallible function of this crate returns.
pub type Result<T, E = IoError> = std::result::Result<T, E>;

/// A failed file operation, with the operation and the path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {cause}", path.display())]
pub struct IoError {
    /// What was tried.
    pub op: FileOp,
    /// On which path.
    pub path: PathBuf,
    /// What the system said. It stands in the text, so that it is no further cause.
    pub cause: io::Error,
}

impl IoError {
    /// An error for `op` on `path`.
    pub fn new(op: FileOp, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        IoError { op, path: path.into(), cause }
    }

    /// An error for what was not tried on `path`, since the scheduler has stopped.
    pub(crate) fn stopped(op: FileOp, path: &Path) -> Self {
        IoError::new(op, path, io::Error::other(Stopped))
    }

    /// True when it was not even tried, since the scheduler has stopped: it says nothing of the file.
    pub fn is_stopped(&self) -> bool {
        self.cause.get_ref().is_some_and(|cause| cause.is::<Stopped>())
    }

    /// A file that ends at byte `end`, `missing` bytes before the end of what was to be read.
    pub(crate) fn short(path: &Path, end: u64, missing: usize) -> Self {
        let source = io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file ends at byte {end}, {missing} bytes short"),
        );
        IoError::new(FileOp::Read, path, source)
    }

    /// A lock keeps nobody out any more, since its file has lost its name.
    pub fn lock_lost(path: &Path) -> Self {
        let what = "the lock file was removed or replaced while the database is open, and by now another process may have it open, too: close it, \
                    and leave lock files alone";
        IoError::new(FileOp::Lock, path, io::Error::other(what))
    }

    /// True when the disk or the quota is full: free space, then reopen.
    pub fn is_full_disk(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }

    /// True when nothing may be written there: the file system is read-only, or not this user's.
    pub fn is_read_only(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
    }

    /// True when the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    /// True when it is this file that cannot be read, or the medium under it, so that another one may do. Not so when the system is short
    /// of handles or memory, or does not allow it, or nothing was tried: then all others would be taken for damaged, too.
    pub fn is_of_the_file(&self) -> bool {
        use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
        let of_the_file = matches!(
            self.cause.kind(),
            NotFound | UnexpectedEof | IsADirectory | NotADirectory | InvalidData
        );
        self.is_of_the_medium() || (of_the_file && self.is_of_reading())
    }

    /// True when the medium did not give what is there: nothing says that it would not the next time.
    pub fn is_of_the_medium(&self) -> bool {
        let of_the_medium = || self.cause.raw_os_error().is_some_and(platform::is_of_the_medium);
        self.is_of_reading() && (self.cause.kind() == io::ErrorKind::Other || of_the_medium())
    }

    fn is_of_reading(&self) -> bool {
        matches!(self.op, FileOp::Open | FileOp::Read | FileOp::Metadata) && !self.is_stopped()
    }

    /// True when the system does not allow the file to be opened.
    pub fn is_denied(&self) -> bool {
        self.op == FileOp::Open && self.cause.kind() == io::ErrorKind::PermissionDenied
    }

    /// The same failure, told to one more waiter. [`io::Error`] cannot be cloned: the system's code is kept
    /// where there is one, and otherwise the kind and the text, and that nothing was tried.
    pub fn duplicate(&self) -> Self {
        let cause = match self.cause.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None if self.is_stopped() => io::Error::other(Stopped),
            None => io::Error::new(self.cause.kind(), self.cause.to_string()),
        };
        IoError { op: self.op, path: self.path.clone(), cause }
    }
}

/// The cause where an operation was not even tried: whoever was to do it has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the I/O scheduler has stopped")]
struct Stopped;

/// Attaches operation and path to an [`io::Result`].
pub(crate) trait Context<T> {
    fn context(self, op: FileOp, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, op: FileOp, path: &Path) -> Result<T> {
        self.map_err(|source| IoError::new(op, path, source))
    }
}
