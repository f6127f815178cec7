//! What can go wrong with a log: what, where, and what to do.

use std::path::PathBuf;
use std::sync::Arc;

use ecsdb_io::{Forked, IoError};

use crate::reader::Damage;
use ecsdb_id::Lsn;

/// What the fallible functions of this crate return.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// An error of the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A write or a sync failed earlier, so nothing can become durable any more (WAL-5).
    #[error(
        "the log failed, and commits after LSN {durable} are not durable: {cause}. Close and reopen the database"
    )]
    Poisoned {
        /// LSN up to which everything is durable.
        durable: Lsn,
        /// What failed.
        cause: Arc<IoError>,
    },
    /// The disk is full (WAL-6).
    #[error(
        "the disk is full, and commits after LSN {durable} are not durable: {cause}. Free space, then close and reopen \
         the database"
    )]
    DiskFull {
        /// LSN up to which everything is durable.
        durable: Lsn,
        /// What failed.
        cause: Arc<IoError>,
    },
    /// A thread of the log panicked.
    #[error(
        "a thread of the log panicked, and commits after LSN {durable} are not durable; this is a bug of ecsdb"
    )]
    Panicked {
        /// LSN up to which everything is durable.
        durable: Lsn,
    },
    /// The log was opened by a process that this one was forked from (REC-12).
    #[error(transparent)]
    Forked(#[from] Forked),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The transaction is larger than the log takes; nothing was queued (WAL-1).
    #[error(
        "the transaction has {bytes} bytes of changes, and the limit is {limit}: split it, or raise the limit"
    )]
    TransactionTooLarge {
        /// Bytes of the transaction.
        bytes: u64,
        /// The limit set.
        limit: u64,
    },
    /// A wait for a transaction that was never appended.
    #[error("LSN {lsn} was never appended: the last one is {last}")]
    NotAppended {
        /// The LSN asked for.
        lsn: Lsn,
        /// The last one appended.
        last: Lsn,
    },
    /// A file operation failed outside the pipeline.
    #[error(transparent)]
    Io(Arc<IoError>),
    /// A thread could not be started.
    #[error("cannot start a thread of the log: {0}")]
    Thread(Arc<std::io::Error>),
    /// A segment is damaged where a transaction was expected.
    #[error(transparent)]
    Damaged(Damage),
    /// What was asked for lies behind a place where something that had been durable is gone.
    #[error("{damage} ({evidence})")]
    Lost {
        /// The first transaction that is lost.
        first: Lsn,
        /// Where, and what is there instead.
        damage: Box<Damage>,
        /// What proves that it had been durable.
        evidence: String,
        /// Something shows that there were transactions.
        shown: bool,
    },
    /// A segment was written by a newer version (REC-10).
    #[error("{} has format version {found}, and this program reads up to {supported}: use a newer ecsdb", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// A segment was written in a format from before the formats were fixed, which has no migration.
    #[error(
        "{} has format version {found}, of a development version, and this program reads {supported}: write its content out with \
         the program that made it", path.display()
    )]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version read here.
        supported: u32,
    },
    /// A segment belongs to another database.
    #[error("{} belongs to database {found:032x}, not {expected:032x}: it was copied here by mistake, and a segment of that number is needed: move it elsewhere, and put back the right one", path.display())]
    OtherDatabase {
        /// The file.
        path: PathBuf,
        /// The database it belongs to.
        found: u128,
        /// The database asked for.
        expected: u128,
    },
}

impl LogError {
    /// True when it says something of one file alone: nobody who does not need it need care.
    pub fn is_of_the_file(&self) -> bool {
        match self {
            LogError::Io(e) => e.is_of_the_file() || e.is_denied(),
            LogError::NewerVersion { .. } | LogError::OlderVersion { .. } => true,
            _ => self.is_damage(),
        }
    }

    /// True when the medium did not give what is there: it may the next time.
    pub fn is_of_the_medium(&self) -> bool {
        matches!(self, LogError::Io(e) if e.is_of_the_medium())
    }

    /// True when a file or the medium under it, not the system, is at fault: what it held is lost, and nothing else.
    pub fn is_damage(&self) -> bool {
        match self {
            LogError::Damaged(_) | LogError::Lost { .. } => true,
            LogError::Io(e) => e.is_of_the_file(),
            _ => false,
        }
    }
}

impl From<Damage> for LogError {
    fn from(damage: Damage) -> Self {
        LogError::Damaged(damage)
    }
}

impl From<IoError> for LogError {
    fn from(e: IoError) -> Self {
        LogError::Io(Arc::new(e))
    }
}

impl LogError {
    /// True when the disk is full.
    pub fn is_full_disk(&self) -> bool {
        match self {
            LogError::DiskFull { .. } => true,
            LogError::Io(e) => e.is_full_disk(),
            _ => false,
        }
    }
}
