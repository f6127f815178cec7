//! The errors of the facade, coarse on purpose: what may the caller do now?

use crate::{ConfigError, LogError, RecoveryError, StoreError, WorldError};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the database.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call asked for what is not there, or a stored layout does not fit. Nothing was changed; correct the
    /// call.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The transaction's closure gave up with an error of its own. It was rolled back.
    #[error("{0}")]
    Aborted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The log cannot make anything durable any more. Commits not yet acknowledged may or may not have survived;
    /// reads go on. Reopen the database, after having freed space if the disk is full
    /// ([`Error::is_full_disk`]).
    #[error(transparent)]
    Log(#[from] LogError),
    /// Work in the background failed (a snapshot, a compaction, a copy); the database goes on, and it may be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database could not be opened.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// A transaction was begun within another one of the same thread, which would wait for itself for ever.
    #[error("a transaction is under way on this thread: use that one")]
    Nested,
    /// The database is in memory only.
    #[error("the database is in memory only: there is nothing to {0}")]
    InMemory(&'static str),
    /// A background task panicked; the database goes on.
    #[error("the {0} panicked; this is a bug of ecsdb")]
    Panicked(&'static str),
}

/// The text that is meant for people: it is what `fn main() -> ecsdb::Result<()>` prints.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// For a closure that gives up: its transaction is rolled back, and this error returned.
    ///
    /// ```
    /// use ecsdb::prelude::*;
    ///
    /// let db = Database::in_memory();
    /// let refused = db.write(|tx| -> ecsdb::Result<()> {
    ///     tx.spawn(());
    ///     Err(ecsdb::Error::abort("not today"))
    /// });
    /// assert_eq!(refused.unwrap_err().to_string(), "not today");
    /// assert!(db.view().is_empty());
    /// ```
    pub fn abort(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Aborted(why.into())
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
        matches!(self, Error::Store(e) if e.is_cancelled())
    }
}
