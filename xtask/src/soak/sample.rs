//! What is noted each second, and the file it is written to.

use std::path::Path;

use ecsdb::Stats;
use serde::Serialize;

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) snapshot_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) archive_bytes: u64,
    pub(super) total_bytes: u64,
    /// Components in memory, old values included.
    pub(super) memory_bytes: u64,
    pub(super) entities: usize,
    /// Since the beginning.
    pub(super) commits: u64,
    pub(super) durable_lsn: u64,
}

impl Sample {
    pub(super) fn new(seconds: f64, commits: u64, stats: &Stats) -> Self {
        let store = stats.store.clone().unwrap_or_default();
        Sample {
            seconds,
            snapshot_bytes: store.snapshot_bytes,
            log_bytes: store.log_bytes,
            archive_bytes: store.archive_bytes,
            total_bytes: store.total_bytes(),
            memory_bytes: stats.memory_bytes,
            entities: stats.entities,
            commits,
            durable_lsn: stats.durable_lsn.0,
        }
    }
}

pub(super) fn write(samples: &[Sample], path: &Path) -> anyhow::Result<()> {
    if path.extension().is_some_and(|extension| extension == "csv") {
        let mut csv = csv::Writer::from_path(path)?;
        samples.iter().try_for_each(|sample| csv.serialize(sample))?;
        return Ok(csv.flush()?);
    }
    Ok(std::fs::write(path, serde_json::to_string_pretty(samples)? + "\n")?)
}
