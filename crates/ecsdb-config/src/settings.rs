//! The settings, with their defaults and their limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use ecsdb_io::Layout;
use ecsdb_recovery::Policy;
use ecsdb_wal::LogOptions;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Everything that can be set of a persistent database.
///
/// ```
/// use ecsdb_config::PersistenceConfig;
///
/// let mut config = PersistenceConfig::new("world");
/// config.snapshot.compression_level = 0; // uncompressed
/// config.validate()?;
/// # Ok::<(), ecsdb_config::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PersistenceConfig {
    /// The database directory.
    pub dir: PathBuf,
    /// The write-ahead log.
    #[serde(default)]
    pub log: LogSettings,
    /// The snapshots.
    #[serde(default)]
    pub snapshot: SnapshotSettings,
    /// Opening.
    #[serde(default)]
    pub recovery: RecoverySettings,
}

/// Settings of the write-ahead log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LogSettings {
    /// Where the segments lie; `log` in the database directory unless set.
    pub dir: Option<PathBuf>,
    /// Size of the first segment; each next one is twice as large, up to `segment_bytes_max`.
    pub segment_bytes_first: ByteSize,
    /// Size of a segment at most. A larger transaction gets a segment of its own.
    pub segment_bytes_max: ByteSize,
    /// A `Batched` commit is on stable storage, and a `Buffered` one with the operating system, at the latest
    /// after this time.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// Bytes of committed transactions that may wait to be written; writers wait when there are more.
    pub queue_bytes_max: ByteSize,
    /// Bytes of one transaction's changes at most.
    pub transaction_bytes_max: ByteSize,
}

impl Default for LogSettings {
    fn default() -> Self {
        let options = LogOptions::default();
        LogSettings {
            dir: None,
            segment_bytes_first: ByteSize(options.segment_bytes_first),
            segment_bytes_max: ByteSize(options.segment_bytes_max),
            flush_interval: options.flush_interval,
            queue_bytes_max: ByteSize(options.queue_bytes_max),
            transaction_bytes_max: ByteSize(options.transaction_bytes_max),
        }
    }
}

/// Settings of the snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SnapshotSettings {
    /// Where the snapshots lie; `snapshots` in the database directory unless set.
    pub dir: Option<PathBuf>,
    /// zstd level, 1 to 22; 0 writes uncompressed.
    pub compression_level: i32,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        SnapshotSettings { dir: None, compression_level: 1 }
    }
}

/// Settings of opening a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RecoverySettings {
    /// What is done about damage.
    pub policy: Policy,
    /// Threads that read and decompress snapshots; 0 for as many as there are cores.
    pub threads: usize,
}

impl Default for RecoverySettings {
    fn default() -> Self {
        RecoverySettings { policy: Policy::TruncateTail, threads: 0 }
    }
}

impl PersistenceConfig {
    /// The defaults, for a database in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        PersistenceConfig {
            dir: dir.into(),
            log: LogSettings::default(),
            snapshot: SnapshotSettings::default(),
            recovery: RecoverySettings::default(),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        let log = &self.log;
        at_least(
            "log.segment_bytes_first",
            log.segment_bytes_first,
            SEGMENT_BYTES_MIN,
            "a segment has at least 64 KiB",
        )?;
        at_least(
            "log.segment_bytes_max",
            log.segment_bytes_max,
            log.segment_bytes_first.0,
            "it is not below log.segment_bytes_first",
        )?;
        at_least(
            "log.queue_bytes_max",
            log.queue_bytes_max,
            SEGMENT_BYTES_MIN,
            "the queue has at least 64 KiB",
        )?;
        at_least(
            "log.transaction_bytes_max",
            log.transaction_bytes_max,
            SEGMENT_BYTES_MIN,
            "a transaction may have at least 64 KiB",
        )?;
        if !(Duration::from_micros(100)..=Duration::from_secs(3600)).contains(&log.flush_interval) {
            return Err(Error::OutOfRange {
                setting: "log.flush_interval",
                value: format!("{:?}", log.flush_interval),
                rule: "it is from 100 us to 1 h",
            });
        }
        if !(0..=22).contains(&self.snapshot.compression_level) {
            return Err(Error::OutOfRange {
                setting: "snapshot.compression_level",
                value: self.snapshot.compression_level.to_string(),
                rule: "it is 0 (uncompressed) or a zstd level from 1 to 22",
            });
        }
        Ok(())
    }

    /// Where the files lie.
    pub fn layout(&self) -> Layout {
        let or = |dir: &Option<PathBuf>, default: &Path| dir.clone().unwrap_or_else(|| default.into());
        let layout = Layout::new(&self.dir);
        let (log, snapshots) =
            (or(&self.log.dir, layout.log_dir()), or(&self.snapshot.dir, layout.snapshot_dir()));
        layout.with_log_dir(log).with_snapshot_dir(snapshots)
    }

    /// The log's options.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes_first: self.log.segment_bytes_first.0,
            segment_bytes_max: self.log.segment_bytes_max.0,
            flush_interval: self.log.flush_interval,
            queue_bytes_max: self.log.queue_bytes_max.0,
            transaction_bytes_max: self.log.transaction_bytes_max.0,
            ..LogOptions::default()
        }
    }

    /// The zstd level of snapshots, or `None` for uncompressed ones.
    pub fn snapshot_compression(&self) -> Option<i32> {
        (self.snapshot.compression_level > 0).then_some(self.snapshot.compression_level)
    }
}

const SEGMENT_BYTES_MIN: u64 = 64 << 10;

fn at_least(setting: &'static str, value: ByteSize, least: u64, rule: &'static str) -> Result<()> {
    if value.0 >= least {
        return Ok(());
    }
    Err(Error::OutOfRange { setting, value: value.to_string(), rule })
}
