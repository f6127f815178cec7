//! Why a database could not be opened, and what to do.

use std::path::PathBuf;

use ecsdb_io::{IoError, LockError};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of opening a database. Nothing was changed, but for what earlier steps of an interrupted operation were due
/// to do anyway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Another process, or another handle of this one, has the database open.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// There are data files, but no manifest that says what they are.
    #[error(
        "{} has {files} snapshot and log files but no valid manifest ({reason}): {}", dir.display(), without_manifest(*files, *salvage)
    )]
    NoManifest {
        /// The database directory.
        dir: PathBuf,
        /// Data files there.
        files: usize,
        /// What is wrong with the manifests that there are.
        reason: String,
        /// That was found by the policy `salvage`, and in none of the files is anything that it could go on with.
        salvage: bool,
    },
    /// There is a database where a new one was to be made.
    #[error("there is a database in {} already", dir.display())]
    DatabaseExists {
        /// The directory.
        dir: PathBuf,
    },
    /// A copy was being written there, and is not finished: a restore or a backup was interrupted.
    #[error(
        "{} is a copy that was not finished: restore or back up into it once more, or remove it", dir.display()
    )]
    Unfinished {
        /// The directory.
        dir: PathBuf,
    },
    /// One of the directories belongs to another database.
    #[error(
        "{} belongs to {owner}, and not to the one in {}: give each database directories of its own (`wal.dir`, `snapshot.dir`, \
         `archive.dir`)", dir.display(), database.display()
    )]
    ForeignDirectory {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: String,
        /// The database that was to be opened.
        database: PathBuf,
    },
    /// There is no database to read.
    #[error("there is no database in {}", dir.display())]
    NoDatabase {
        /// The directory.
        dir: PathBuf,
    },
    /// The moment asked for is not within what is retained.
    #[error("{asked} is not among what is retained: {there}")]
    OutOfRange {
        /// The moment.
        asked: String,
        /// What there is.
        there: String,
    },
    /// The moment is retained, but every snapshot that it could be built from is damaged.
    #[error("{asked} is out of reach, since what it would be built from is damaged: {what}")]
    NoBase {
        /// The moment.
        asked: String,
        /// What is wrong with the newest of the snapshots.
        what: String,
    },
    /// The log is damaged where it had been durable: acknowledged transactions are lost.
    #[error(
        "{} from LSN {first_lost} on: {what}. The log was looked for in {}: a directory that is \
         wrong or not mounted looks the same. If it is the right one, restore a backup, or open with the policy `salvage` (on the \
         command line `ecsdb repair`) to go on with what was before the loss, which a look at LSN {} (`--lsn`) shows", loss(*shown),
         dir.display(), first_lost.saturating_sub(1)
    )]
    Corrupt {
        /// The first LSN that is lost.
        first_lost: u64,
        /// Where and why.
        what: String,
        /// Something shows that there were such transactions. A segment that is lost without that may have had none.
        shown: bool,
        /// The directory of the log.
        dir: PathBuf,
    },
    /// A part of the past is missing or damaged, which only the archive had. No state that is built from a later snapshot needs it.
    #[error(
        "the archive has lost transactions from LSN {first_lost} on: {what}. The archive was looked for in {}: a directory that is wrong \
         or not mounted looks the same. If it is the right one, put the file back from a backup of the archive; opening the database \
         does not need it, and what comes after the loss is there (`ecsdb wal ls`)", dir.display()
    )]
    ArchiveLost {
        /// The first LSN that is lost.
        first_lost: u64,
        /// Where and why.
        what: String,
        /// The directory of the archive.
        dir: PathBuf,
    },
    /// The log does not go back to the newest snapshot that validates.
    #[error("{}. If that is the right directory, {SALVAGE}", gap_text(*snapshot, *log_begins, looked))]
    Gap {
        /// LSN of the snapshot; 0 for none.
        snapshot: u64,
        /// Last LSN before the first one in the log.
        log_begins: u64,
        /// Which snapshots were looked for, where, and what became of them.
        looked: String,
    },
    /// A salvage finds another loss each time that it looks: nothing is given up for that.
    #[error(
        "the disk does not give the same twice, and nothing is given up for that: look at the disk, and open it again. The last time, {why}"
    )]
    Unsteady {
        /// What was lost in the last look.
        why: String,
    },
    /// A file that the policy `strict` does not pass over.
    #[error("{what}; the policy `strict` does not open a database with any damage")]
    Strict {
        /// Which file, and what is wrong.
        what: String,
    },
    /// A file has a number that leaves too few for what is to come.
    #[error(
        "a file in {} has the number {highest}, which no database reaches: it is a stranger's. Move it elsewhere", dir.display()
    )]
    NumbersUsedUp {
        /// The database.
        dir: PathBuf,
        /// The number.
        highest: u64,
    },
    /// A logged transaction cannot be applied although its checksum holds.
    #[error("the transaction with LSN {lsn} cannot be applied: {cause}")]
    Apply {
        /// Its LSN.
        lsn: u64,
        /// Why.
        cause: ecsdb_core::Error,
    },
    /// The program's components do not fit the stored ones.
    #[error(transparent)]
    World(#[from] ecsdb_core::Error),
    /// A snapshot or a manifest could not be read or written.
    #[error(transparent)]
    Snapshot(#[from] ecsdb_snapshot::Error),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ecsdb_wal::LogError),
    /// Whoever followed an earlier moment being put together stopped it. Nothing was changed.
    #[error("going back to an earlier moment was cancelled; nothing was changed")]
    Cancelled,
}

/// What can be done where only the policy `salvage` opens.
const SALVAGE: &str =
    "restore a backup, or open with the policy `salvage` (on the command line `ecsdb repair`)";

/// What a gap is, without what can be done about it.
pub(crate) fn gap_text(snapshot: u64, log_begins: u64, looked: &str) -> String {
    format!(
        "the log begins after LSN {log_begins}, but the newest snapshot that validates ends with LSN {snapshot}: the transactions between \
         them are lost. {looked}"
    )
}

fn without_manifest(files: usize, salvage: bool) -> &'static str {
    match (files, salvage) {
        (0, _) | (_, true) => {
            "nothing can be gone on with. If it is the right directory, and those of log and snapshots, too (one that is wrong or not \
             mounted looks the same as one that was emptied), restore a backup"
        }
        _ => {
            "restore the manifest from a backup, or open with the policy `salvage` (on the command line `ecsdb repair`)"
        }
    }
}

fn loss(shown: bool) -> &'static str {
    match shown {
        true => "acknowledged transactions are lost",
        false => {
            "a segment of the log is lost, and nothing shows that it had transactions; if it had, they are lost"
        }
    }
}

impl Error {
    /// A segment of another database lies in the place of one of the log.
    pub fn is_stranger(&self) -> bool {
        matches!(self, Error::Log(ecsdb_wal::LogError::OtherDatabase { .. }))
    }

    /// True when the disk is full: free space, then try again.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Error::Io(e) | Error::Locked(LockError::Io(e)) => e.is_full_disk(),
            Error::Snapshot(e) => e.is_full_disk(),
            Error::Log(e) => e.is_full_disk(),
            _ => false,
        }
    }
}
