//! What is told of work in the background: which it is, how far it is, what it did, why it failed.

use std::time::Duration;

use ecsdb_snapshot::{SnapshotEntry, Written};
use ecsdb_wal::Lsn;

/// Work in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Taking a snapshot.
    Snapshot,
    /// Merging snapshots and log, and sparse chunks in memory.
    Compaction,
    /// Writing a copy of the database.
    Copy,
    /// Going back to an earlier moment.
    Restore,
    /// Archiving and dropping log segments, dropping old snapshots.
    Retention,
    /// Changing the settings of the running database.
    Reconfigure,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Task::Snapshot => "snapshot",
            Task::Compaction => "compaction",
            Task::Copy => "copy",
            Task::Restore => "restore",
            Task::Retention => "retention",
            Task::Reconfigure => "change of settings",
        })
    }
}

/// How far some work is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Parts done; what a part is depends on the work (blocks of a snapshot, say).
    pub done: u64,
    /// Parts in all; 0 while that is not known.
    pub total: u64,
    /// Bytes written.
    pub bytes: u64,
    /// How long it will still take if it goes on as it went; `None` while that is not known.
    pub remaining: Option<Duration>,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} done, {} bytes written", self.done, self.total, self.bytes)?;
        match self.remaining {
            Some(left) => write!(f, ", about {:.1} s left", left.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// A snapshot that is published and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// The file's number.
    pub sequence: u64,
    /// LSN of the last transaction in it.
    pub lsn: Lsn,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of its columns before compression.
    pub raw_bytes: u64,
    /// The file it is an increment of; 0 for a full snapshot.
    pub parent: u64,
    /// Columns in the file.
    pub blocks_written: u64,
    /// Columns found unchanged in older files.
    pub blocks_shared: u64,
    /// How long it took; zero when the newest snapshot was up to date.
    pub duration: Duration,
}

impl SnapshotInfo {
    pub(crate) fn new(written: &Written, duration: Duration) -> Self {
        SnapshotInfo {
            sequence: written.header.sequence,
            lsn: Lsn(written.header.lsn),
            bytes: written.bytes,
            raw_bytes: written.raw_bytes,
            parent: written.header.parent,
            blocks_written: written.blocks_written,
            blocks_shared: written.blocks_shared,
            duration,
        }
    }

    pub(crate) fn existing(entry: &SnapshotEntry) -> Self {
        SnapshotInfo {
            sequence: entry.sequence,
            lsn: Lsn(entry.lsn),
            bytes: entry.bytes,
            raw_bytes: 0,
            parent: entry.parent,
            blocks_written: 0,
            blocks_shared: 0,
            duration: Duration::ZERO,
        }
    }
}

/// A compaction that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionInfo {
    /// LSN of the full snapshot that it leaves.
    pub lsn: Lsn,
    /// That snapshot's number.
    pub sequence: u64,
    /// Bytes of snapshots, log and archive before.
    pub bytes_before: u64,
    /// Bytes of them after. When the one before is kept to fall back to, more is freed with the next snapshot.
    pub bytes_after: u64,
    /// How long it took.
    pub duration: Duration,
}

/// How a kind of work failed last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Which.
    pub task: Task,
    /// Why.
    pub error: String,
    /// How often it has failed since the opening.
    pub times: u64,
}
