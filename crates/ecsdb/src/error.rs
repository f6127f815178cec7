//! The errors of the facade: what went wrong, and what the caller may do now.

use std::error::Error as StdError;

use ecsdb_snapshot::Error as SnapshotError;

use crate::{ConfigError, LockError, LogError, RecoveryError, StoreError, WorldError};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the database. Its text says everything, its causes included; [`Error::kind`] says what may be done now.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call asked for what is not there, or a stored type does not fit. Nothing was changed.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The transaction's closure gave up with an error of its own. It was rolled back.
    #[error(transparent)]
    Aborted(Box<dyn StdError + Send + Sync>),
    /// The log cannot make anything durable any more. Commits not yet acknowledged may or may not have survived;
    /// reads go on.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Work in the background failed (a snapshot, a compaction, a backup); the database goes on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database could not be opened.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// The call was made within a transaction of the same database and thread, or closing by a waker on a thread of the database's own, for
    /// which it would wait for ever.
    #[error(
        "this thread is at work for this database, and would wait for itself: within a transaction use that one, and let no waker close"
    )]
    Nested,
    /// The database is in memory only.
    #[error("the database is in memory only: there is nothing to {0}")]
    InMemory(&'static str),
    /// The database was opened for reading only.
    #[error("the database was opened for reading only: it takes no {0}")]
    ReadOnly(&'static str),
    /// A ticket or a job was waited for that has given its result already.
    #[error("the {0} has given its result already")]
    Finished(&'static str),
    /// A background task panicked; the database goes on.
    #[error("the {0} panicked; this is a bug of ecsdb")]
    Panicked(&'static str),
}

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Correct the call: it asks for what is not there, exceeds a limit, or is made where it cannot be.
    Call,
    /// The closure's own error: downcast it with [`Error::downcast_ref`].
    Aborted,
    /// The types of the program are not those that are stored: restore the old definition, or give the new one another name.
    Schema,
    /// Correct the setting that the text names.
    Config,
    /// There is no database, no such moment of its past, or no such file of settings.
    NotFound,
    /// There is a database already, or something else where a new one was to go.
    AlreadyExists,
    /// A restore or a backup into that directory was interrupted: make it once more, or remove the directory.
    Unfinished,
    /// Files are not where they were: mount or put back the directory that the text names, or say that they are gone for good.
    Away,
    /// Somebody else has the database open; the text names who.
    Locked,
    /// The database was closed.
    Closed,
    /// Free space, then reopen.
    DiskFull,
    /// Reopen the database: it recovers what was acknowledged.
    Reopen,
    /// What had been acknowledged is damaged: restore a backup, or open with [`Policy::Salvage`](crate::Policy::Salvage).
    Damaged,
    /// The database was written by another version of ecsdb.
    Version,
    /// Somebody asked the work to stop.
    Cancelled,
    /// Try again; what was there before is still there.
    Retry,
    /// A bug of ecsdb.
    Bug,
}

impl ErrorKind {
    /// The kind of any of ecsdb's errors, for whoever uses the crates beneath this one, too; `None` for an error of another kind.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
        let mut kind = error.downcast_ref().map(Error::kind);
        kind = kind.or_else(|| error.downcast_ref().map(recovery_kind));
        kind = kind.or_else(|| error.downcast_ref().map(store_kind));
        kind = kind.or_else(|| error.downcast_ref().map(snapshot_kind));
        kind = kind.or_else(|| error.downcast_ref().map(log_kind));
        kind = kind.or_else(|| error.downcast_ref().map(world_kind));
        kind.or_else(|| error.downcast_ref().map(config_kind))
    }
}

/// The text that is meant for people: it is what `fn main() -> ecsdb::Result<()>` prints.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// What may be done now.
    pub fn kind(&self) -> ErrorKind {
        if self.is_full_disk() {
            return ErrorKind::DiskFull;
        }
        if self.is_cancelled() {
            return ErrorKind::Cancelled;
        }
        match self {
            Error::World(e) => world_kind(e),
            Error::Aborted(_) => ErrorKind::Aborted,
            Error::Log(e) => log_kind(e),
            Error::Store(e) => store_kind(e),
            Error::Recovery(e) => recovery_kind(e),
            Error::Config(e) => config_kind(e),
            Error::Thread(_) => ErrorKind::Retry,
            Error::Closed => ErrorKind::Closed,
            Error::Nested | Error::InMemory(_) | Error::ReadOnly(_) | Error::Finished(_) => ErrorKind::Call,
            Error::Panicked(_) => ErrorKind::Bug,
        }
    }

    /// The error of this type that it is, or that a closure gave up with.
    ///
    /// ```
    /// use ecsdb::prelude::*;
    ///
    /// let db = Database::in_memory();
    /// let refused = db.write(|_| Ok("x".parse::<u32>()?)).unwrap_err();
    /// assert!(refused.downcast_ref::<std::num::ParseIntError>().is_some());
    /// ```
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let error: &(dyn StdError + 'static) = match self {
            Error::World(e) => e,
            Error::Aborted(e) => &**e,
            Error::Log(e) => e,
            Error::Store(e) => e,
            Error::Recovery(e) => e,
            Error::Config(e) => e,
            Error::Thread(e) => e,
            Error::Closed
            | Error::Nested
            | Error::InMemory(_)
            | Error::ReadOnly(_)
            | Error::Finished(_)
            | Error::Panicked(_) => self,
        };
        error.downcast_ref()
    }

    /// The closure's own error by value, if it is of this type; otherwise this error as it was.
    ///
    /// # Errors
    /// This error, when it is of another type.
    pub fn downcast<E: StdError + 'static>(self) -> Result<E, Self> {
        match self {
            Error::Aborted(e) => e.downcast().map(|e| *e).map_err(Error::Aborted),
            other => Err(other),
        }
    }

    /// True when the disk is full: free space, then reopen.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Error::Log(e) => e.is_full_disk(),
            Error::Store(e) => e.is_full_disk(),
            Error::Recovery(e) => e.is_full_disk(),
            _ => false,
        }
    }

    /// True when somebody asked the work to stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Error::Store(e) => e.is_cancelled(),
            Error::Recovery(e) => matches!(e, RecoveryError::Cancelled),
            _ => false,
        }
    }
}

fn world_kind(e: &WorldError) -> ErrorKind {
    match e {
        WorldError::SchemaMismatch { .. } | WorldError::NameTaken { .. } => ErrorKind::Schema,
        WorldError::Malformed { .. } => ErrorKind::Damaged,
        WorldError::Poisoned => ErrorKind::Reopen,
        _ => ErrorKind::Call,
    }
}

fn log_kind(e: &LogError) -> ErrorKind {
    match e {
        LogError::NewerVersion { .. } | LogError::OlderVersion { .. } => ErrorKind::Version,
        LogError::Damaged(_) | LogError::Lost { .. } | LogError::OtherDatabase { .. } => ErrorKind::Damaged,
        LogError::Closed => ErrorKind::Closed,
        LogError::TransactionTooLarge { .. } | LogError::Forked(_) => ErrorKind::Call,
        // Outside the pipeline: nothing that was committed depends on it.
        LogError::Io(_) | LogError::Thread(_) => ErrorKind::Retry,
        LogError::NotAppended { .. } => ErrorKind::Bug,
        _ => ErrorKind::Reopen,
    }
}

fn snapshot_kind(e: &SnapshotError) -> ErrorKind {
    match e {
        SnapshotError::NewerVersion { .. } | SnapshotError::OlderVersion { .. } => ErrorKind::Version,
        SnapshotError::Encode(e) => world_kind(e),
        SnapshotError::World {
            cause: WorldError::SchemaMismatch { .. } | WorldError::NameTaken { .. },
            ..
        } => ErrorKind::Schema,
        SnapshotError::TooLarge { .. } => ErrorKind::Call,
        SnapshotError::Cancelled => ErrorKind::Cancelled,
        SnapshotError::Io(_) | SnapshotError::Compress(_) => ErrorKind::Retry,
        _ => ErrorKind::Damaged,
    }
}

fn store_kind(e: &StoreError) -> ErrorKind {
    match e {
        StoreError::Snapshot(e) => snapshot_kind(e),
        StoreError::Log(e) => log_kind(e),
        StoreError::Recovery(e) => recovery_kind(e),
        StoreError::World(e) => world_kind(e),
        StoreError::Locked(e) => lock_kind(e),
        StoreError::TargetNotEmpty(_) => ErrorKind::AlreadyExists,
        StoreError::TargetWithin(_) => ErrorKind::Call,
        StoreError::SnapshotsAway(_) | StoreError::ArchiveAway(_) => ErrorKind::Away,
        StoreError::Cancelled => ErrorKind::Cancelled,
        StoreError::Panicked(_) => ErrorKind::Bug,
        _ => ErrorKind::Retry,
    }
}

fn lock_kind(e: &LockError) -> ErrorKind {
    match e {
        LockError::Held { .. } => ErrorKind::Locked,
        LockError::Io(_) => ErrorKind::Retry,
    }
}

fn config_kind(e: &ConfigError) -> ErrorKind {
    match e {
        // No setting is wrong where the system refuses, unless it is given what is no name.
        ConfigError::NoFile(_) => ErrorKind::NotFound,
        ConfigError::Io(e) if e.cause.kind() != std::io::ErrorKind::InvalidInput => ErrorKind::Retry,
        _ => ErrorKind::Config,
    }
}

fn recovery_kind(e: &RecoveryError) -> ErrorKind {
    match e {
        RecoveryError::Locked(e) => lock_kind(e),
        RecoveryError::NoDatabase { .. } | RecoveryError::OutOfRange { .. } => ErrorKind::NotFound,
        RecoveryError::DatabaseExists { .. } => ErrorKind::AlreadyExists,
        RecoveryError::Unfinished { .. } => ErrorKind::Unfinished,
        RecoveryError::ForeignDirectory { .. } => ErrorKind::Config,
        RecoveryError::World(e) => world_kind(e),
        RecoveryError::Log(e) => log_kind(e),
        RecoveryError::Snapshot(e) => snapshot_kind(e),
        RecoveryError::Io(_) | RecoveryError::Unsteady { .. } => ErrorKind::Retry,
        RecoveryError::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Damaged,
    }
}

/// Why a transaction's closure gives up: any error. `?` makes one of whatever error there is.
///
/// The transaction is rolled back, and `write` returns the error: as what it is where it is one of ecsdb's, else as
/// [`Error::Aborted`].
///
/// ```
/// use ecsdb::prelude::*;
///
/// let db = Database::in_memory();
/// let refused = db.write(|tx| -> Result<(), Abort> {
///     tx.spawn(());
///     Err(Abort::new("not today"))
/// });
/// assert_eq!(refused.unwrap_err().to_string(), "not today");
/// assert!(db.view()?.is_empty());
/// # Ok::<(), ecsdb::Error>(())
/// ```
// It is no `std::error::Error` itself, so that it can be made of every one.
pub struct Abort(Box<dyn StdError + Send + Sync>);

impl Abort {
    /// An error with this text, or this error.
    pub fn new(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Abort(why.into())
    }
}

impl std::fmt::Debug for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Abort {
    fn from(e: E) -> Self {
        Abort(Box::new(e))
    }
}

impl From<Abort> for Error {
    fn from(Abort(why): Abort) -> Self {
        let why = match why.downcast::<Error>() {
            Ok(error) => return *error,
            Err(why) => why,
        };
        match why.downcast::<WorldError>() {
            Ok(error) => Error::World(*error),
            Err(why) => Error::Aborted(why),
        }
    }
}
