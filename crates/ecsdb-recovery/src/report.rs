//! What recovery found and did: a value, a log and a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecsdb_id::Lsn;
use ecsdb_io::{IoError, OpenMode, Vfs};

use serde::Serialize;

use crate::path_text;

/// Whether anything is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataLoss {
    /// Nothing.
    #[default]
    None,
    /// Only what was never acknowledged as durable: writes that a crash interrupted.
    Unacknowledged,
    /// Nothing that is known of; but the log is damaged where a snapshot covers it, or there was no manifest to say where it ended: what came
    /// after that, if anything did, is gone.
    Possible,
    /// Transactions that had been durable.
    Acknowledged,
}

/// A file that was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The file.
    #[serde(serialize_with = "path_text::one")]
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// It, or a file that it needs, was not there. Should it be another time, it counts again.
    pub away: bool,
}

/// What recovery found, chose, rejected, applied and discarded.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// There was no database, and one was made.
    pub created: bool,
    /// This opening's number.
    pub incarnation: u64,
    /// The snapshot that was loaded.
    pub snapshot: Option<LoadedSnapshot>,
    /// Manifests and snapshots that could not be used.
    pub rejected: Vec<Rejected>,
    /// Manifests of other databases, which are left alone.
    #[serde(serialize_with = "path_text::list")]
    pub strangers: Vec<PathBuf>,
    /// Snapshots that the manifest did not know of, since it is older than they are: a salvage went by them.
    #[serde(serialize_with = "path_text::list")]
    pub unlisted: Vec<PathBuf>,
    /// Log segments read.
    pub segments: usize,
    /// Bytes of log verified.
    pub log_bytes: u64,
    /// Transactions replayed.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
    /// Operations on entities or components that are not there; without loss there are none.
    pub skipped: u64,
    /// The last transaction in the world now.
    pub last_lsn: Lsn,
    /// Entities in the world now.
    pub entities: u64,
    /// Bytes cut off the end of the log.
    pub cut_bytes: u64,
    /// A transaction of which only a part was in the log, and which was therefore rolled back.
    pub rolled_back: Option<Lsn>,
    /// What was wrong with the end of the log, if anything was.
    pub tail: Option<String>,
    /// Lost transactions.
    pub lost: Vec<Lost>,
    /// Copies of what was cut or damaged.
    #[serde(serialize_with = "path_text::list")]
    pub set_aside: Vec<PathBuf>,
    /// Leftovers of interrupted operations that were removed.
    #[serde(serialize_with = "path_text::list")]
    pub removed: Vec<PathBuf>,
    /// Whether anything is missing.
    pub data_loss: DataLoss,
    /// Components of which a stored value is refused by the program's type: they are closed, and their bytes kept.
    pub closed: Vec<ClosedComponent>,
    /// How long each step took.
    pub timings: Vec<(&'static str, Duration)>,
}

/// The snapshot that a recovery began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LoadedSnapshot {
    /// The file's number.
    pub sequence: u64,
    /// Its last transaction.
    pub lsn: Lsn,
}

/// A component of which a stored value is refused by the program's type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClosedComponent {
    /// Its stable name.
    pub component: String,
    /// What is wrong with the value.
    pub why: String,
}

/// Transactions that are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The first of them.
    pub first: Lsn,
    /// The last of them; `None` when it is not known.
    pub last: Option<Lsn>,
    /// Why.
    pub why: String,
}

impl RecoveryReport {
    /// The whole time.
    pub fn duration(&self) -> Duration {
        self.timings.iter().map(|(_, time)| *time).sum()
    }
}

/// How a report begins.
const CREATED: &str = "created a new database";
const RECOVERED: &str = "recovered ";

/// Whether a file is a report of ours, by how it begins: another one of such a name is somebody's (CKP-10).
pub(crate) fn is_report(vfs: &dyn Vfs, path: &Path) -> Result<bool, IoError> {
    let file = vfs.open(path, OpenMode::Read)?;
    let mut begins = vec![0; file.len()?.min(CREATED.len() as u64) as usize];
    file.read_exact_at(&mut begins, 0)?;
    Ok([CREATED, RECOVERED].iter().any(|ours| begins.starts_with(ours.as_bytes())))
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            return write!(f, "{CREATED} (incarnation {})", self.incarnation);
        }
        write!(f, "{RECOVERED}{} entities to LSN {}", self.entities, self.last_lsn)?;
        match self.snapshot {
            Some(LoadedSnapshot { sequence, lsn }) => write!(f, ": snapshot {sequence} (LSN {lsn})")?,
            None => write!(f, ": no snapshot")?,
        }
        let many = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (transactions, segments) =
            (many(self.transactions, "transaction"), many(self.segments as u64, "log segment"));
        write!(f, ", {transactions} replayed from {segments}")?;
        write!(f, " in {:.1} ms (incarnation {})", self.duration().as_secs_f64() * 1000.0, self.incarnation)?;
        for ClosedComponent { component, why } in &self.closed {
            write!(f, "; component {component} is closed, its bytes are kept: {why}")?;
        }
        if let Some(tail) = &self.tail {
            write!(f, "\n  end of the log: {tail}; {} bytes cut", self.cut_bytes)?;
        }
        if let Some(lsn) = self.rolled_back {
            write!(f, "\n  rolled back the incomplete transaction {lsn}")?;
        }
        for Rejected { path, reason, away } in &self.rejected {
            write!(f, "\n  passed over {}: {reason}", path.display())?;
            if *away {
                write!(f, " (once it is back, it counts again)")?;
            }
        }
        for path in &self.strangers {
            write!(f, "\n  left alone {}, the manifest of another database", path.display())?;
        }
        for path in &self.unlisted {
            write!(f, "\n  found {}, which the manifest is older than", path.display())?;
        }
        for path in &self.removed {
            write!(f, "\n  removed the leftover {}", path.display())?;
        }
        for path in &self.set_aside {
            write!(f, "\n  set aside {}", path.display())?;
        }
        for Lost { first, last, why } in &self.lost {
            match last {
                None => write!(f, "\n  LOST from LSN {first} on: {why}")?,
                Some(last) => write!(f, "\n  LOST LSN {first} to {last}: {why}")?,
            }
        }
        let loss = match self.data_loss {
            DataLoss::None => "none",
            DataLoss::Unacknowledged => "only what was never acknowledged",
            DataLoss::Possible => "perhaps what came last",
            DataLoss::Acknowledged => "ACKNOWLEDGED TRANSACTIONS",
        };
        write!(f, "\n  data loss: {loss}")
    }
}

/// A step of recovery, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Reading the manifest.
    Manifest,
    /// Loading a snapshot.
    Snapshot {
        /// The file's number.
        sequence: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// Verifying the log.
    Verify,
    /// Verifying a segment of log or archive, where each is read by itself.
    Segment {
        /// The file's number.
        number: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// Replaying the log.
    Replay {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Cutting and setting aside.
    Repair,
    /// Done.
    Done,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Manifest => f.write_str("reading the manifest"),
            Step::Snapshot { sequence, bytes } => write!(f, "loading snapshot {sequence} ({bytes} bytes)"),
            Step::Verify => f.write_str("verifying the log"),
            Step::Segment { number, bytes } => {
                write!(f, "verifying segment {number} of the log ({bytes} bytes)")
            }
            Step::Replay { done, total } => write!(f, "replaying the log: {done} of {total} bytes"),
            Step::Repair => f.write_str("repairing"),
            Step::Done => f.write_str("done"),
        }
    }
}
