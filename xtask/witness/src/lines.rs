//! The journal: what the process claims, a line of JSON each, in a pipe or a file outside of the database.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What the process claims.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Line {
    /// The database is open.
    Opened {
        /// Of the last transaction.
        lsn: u64,
        /// Its number in the history.
        number: u64,
        /// Of what the view shows.
        digest: u64,
    },
    /// Transactions up to this one are on stable storage.
    Durable {
        /// Of the last of them.
        lsn: u64,
        /// Its number in the history.
        number: u64,
    },
    /// What it does from here on.
    Doing(String),
    /// A snapshot or a merged one is published; what it made superfluous is archived and deleted.
    Published,
    /// A copy of a moment is complete.
    Copied {
        /// Of its last transaction.
        lsn: u64,
        /// Its number in the history.
        number: u64,
        /// Relative to the base.
        dir: String,
    },
    /// The engine returned an error; nothing is done after it.
    Error(String),
    /// All was done, and the database closed.
    Done,
}

/// A line of the journal; `None` for one that is cut short.
#[must_use]
pub fn parse(line: &str) -> Option<Line> {
    serde_json::from_str(line).ok()
}

pub(crate) struct Journal(Mutex<File>);

impl Journal {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        Ok(Journal(Mutex::new(file.with_context(|| format!("opening {}", path.display()))?)))
    }

    pub(crate) fn say(&self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        // In one write, so that a line is there or not.
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.write_all(text.as_bytes())?)
    }
}
