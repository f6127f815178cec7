//! What a run remembers outside of the database, so that it can be interrupted and resumed, and so that the database can be judged.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::load::THREADS;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) entities: usize,
    pub(super) duty: f64,
    /// Seconds that the run took until now.
    pub(super) seconds: f64,
    /// Processes started.
    pub(super) lives: u64,
    pub(super) counts: Counts,
    pub(super) acknowledged: Acknowledged,
    pub(super) failures: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) commits: u64,
    pub(super) acknowledgments: u64,
    pub(super) snapshots: u64,
    pub(super) compactions: u64,
    pub(super) archived: u64,
    pub(super) openings: u64,
    pub(super) slowest_opening_seconds: f64,
    pub(super) kills: u64,
    pub(super) kills_in_opening: u64,
    pub(super) kills_in_restoring: u64,
    pub(super) disk_full: u64,
    pub(super) failed_syncs: u64,
    pub(super) operations_failed: u64,
    pub(super) copies_compared: u64,
    pub(super) worlds_restored: u64,
    pub(super) settings_changed: u64,
    pub(super) verified: u64,
}

/// What has to be there, whatever happens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Acknowledged {
    pub(super) lsn: u64,
    /// Transactions of each thread.
    pub(super) transactions: [u64; THREADS],
}

impl State {
    pub(super) fn new(seed: u64, entities: usize, duty: f64) -> Self {
        State {
            seed,
            entities,
            duty,
            seconds: 0.0,
            lives: 0,
            counts: Counts::default(),
            acknowledged: Acknowledged::default(),
            failures: Vec::new(),
        }
    }

    pub(super) fn load(dir: &Path) -> anyhow::Result<State> {
        let mut state: State = serde_json::from_slice(&std::fs::read(file(dir))?)?;
        anyhow::ensure!(state.failures.is_empty(), "the run failed: {}", state.failures.join("; "));
        // It is not known whether the world was at an earlier moment when the run was interrupted. The LSN grows in any case.
        state.acknowledged.transactions = [0; THREADS];
        Ok(state)
    }

    pub(super) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let new = file(dir).with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        Ok(std::fs::rename(new, file(dir))?)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("soak.json")
}
