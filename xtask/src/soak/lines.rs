//! What the process under load tells the one that judges it, a line of JSON each, through a pipe: what was told outlives a kill.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::load::THREADS;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    /// So many transactions of a thread, the last of them under this LSN, are on stable storage.
    Durable { worker: u32, transactions: u64, lsn: u64 },
    /// A database was opened.
    Opened { lsn: u64, transactions: [u64; THREADS], seconds: f64, report: String },
    /// It was closed in order, and the next opening has to find this.
    Closed,
    /// From here until [`Line::Restored`] the world may be at an earlier moment.
    Restoring,
    /// It is at the moment before again.
    Restored,
    /// A copy of an earlier moment was made, opened and compared.
    Copied,
    /// A fault was switched on, and so many operations met it before the log gave up.
    Fault { kind: String, met: u64 },
    /// Settings were changed.
    Configured,
    /// What the engine says of itself, about each second.
    Stats(Stats),
    /// A check failed.
    Failed { why: String },
    /// The process is done, as it was asked to.
    Done,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Stats {
    /// Transactions committed since the last of these lines.
    pub(super) commits: u64,
    pub(super) entities: usize,
    pub(super) durable_lsn: u64,
    /// Component memory, old values included.
    pub(super) memory_bytes: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) archive_bytes: u64,
    pub(super) snapshots: u64,
    pub(super) compactions: u64,
    pub(super) archived: u64,
}

/// The pipe.
pub(super) struct Journal;

impl Journal {
    pub(super) fn say(&self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        // In one write, so that threads do not mix their lines.
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
