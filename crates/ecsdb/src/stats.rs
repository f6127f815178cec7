//! One look at everything: how far the log is, what is on disk, what waits.

use std::time::Duration;

use ecsdb_compactor::StoreStats;
use ecsdb_io::SchedulerStats;
use ecsdb_wal::{LogStats, Lsn};

/// What a database has and does, at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Entities alive.
    pub entities: usize,
    /// Bytes of their components in memory.
    pub live_bytes: u64,
    /// Bytes of component memory in this process, the old values that views still hold included: what exceeds `live_bytes` is
    /// room for growth and the price of copy-on-write.
    pub memory_bytes: u64,
    /// Which part of the chunks in memory could be freed by filling the others, from 0 to 1.
    pub sparse_fraction: f64,
    /// The last transaction committed.
    pub lsn: Lsn,
    /// The last one that is on stable storage.
    pub durable_lsn: Lsn,
    /// The first moment that can be gone back to, with its time in nanoseconds since 1970-01-01 UTC: every transaction from there to
    /// `durable_lsn` can. `None` in memory, or where nothing leads to the present.
    pub earliest: Option<(Lsn, u64)>,
    /// How long the last capture for a snapshot kept the writers waiting.
    pub last_stall: Duration,
    /// The log; `None` in memory.
    pub log: Option<LogStats>,
    /// Snapshots, log files and archive; `None` in memory.
    pub store: Option<StoreStats>,
    /// The queues of background input and output; `None` in memory or without threads.
    pub io: Option<SchedulerStats>,
}
