//! The settings. Text, unit, default, limits and time of effect of each are written here once: the JSON Schema is made from these
//! types, and the checks, the error texts, the example file and the table in the documentation from that.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ecsdb_recovery::Policy;
use ecsdb_wal::LogOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{Directory, Rate, Size, Time, TimeAboveZero, path, path_option, size, time};
use crate::validate::Written;

/// Pages and frames need some room.
const BYTES_MIN: u64 = 64 << 10;
/// What is prepared ahead is on the disk, and each segment may be twice as large as the one before.
const SEGMENT_BYTES_MAX: u64 = 64 << 30;
/// All files of a snapshot are open while it is loaded (IO-1).
const CHAIN_MAX: usize = 128;
const THREADS_MAX: usize = 1024;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "ecsdb.toml", description = "The settings of an ecsdb database.")]
#[non_exhaustive]
pub struct PersistenceConfig {
    /// The database directory. Where a file does not name it, that is the one it is given for, or the one it lies in.
    #[serde(serialize_with = "path")]
    #[schemars(with = "Directory", extend("x-default" = "that of the file", "x-example" = "."))]
    pub dir: PathBuf,
    /// The write-ahead log.
    #[serde(default)]
    pub wal: WalSettings,
    /// The snapshots.
    #[serde(default)]
    pub snapshot: SnapshotSettings,
    /// The archived log.
    #[serde(default)]
    pub archive: ArchiveSettings,
    /// What of the past is kept. When nothing is set here, what was set last goes on to hold.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// Merging. Each may trigger a compaction.
    #[serde(default)]
    pub compaction: CompactionSettings,
    /// Opening.
    #[serde(default)]
    pub recovery: RecoverySettings,
    /// Where some of it was written.
    #[serde(skip)]
    pub(crate) written: Written,
}

/// Settings of the write-ahead log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WalSettings {
    /// Where the log segments lie; `log` in the database directory unless set.
    #[serde(serialize_with = "path_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Directory", extend("x-default" = "`log` in `dir`", "x-example" = "log"))]
    pub dir: Option<PathBuf>,
    /// Size of the first segment of an opening; each next one is twice as large, up to `segment_bytes_max`.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("minimum" = BYTES_MIN, "maximum" = SEGMENT_BYTES_MAX, "x-applies" = "next opening"))]
    pub segment_bytes_first: ByteSize,
    /// Size of a segment at most, never below `segment_bytes_first`. A larger transaction gets a segment of its own.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("minimum" = BYTES_MIN, "maximum" = SEGMENT_BYTES_MAX))]
    pub segment_bytes_max: ByteSize,
    /// A `Batched` commit is on stable storage, and a `Buffered` one with the operating system, at the latest
    /// after this time.
    #[serde(with = "time")]
    #[schemars(with = "TimeAboveZero", extend("x-minimum" = "100us", "x-maximum" = "1h"))]
    pub flush_interval: Duration,
    /// Memory that committed transactions may take while they wait to be written; writers wait when it is more.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("minimum" = BYTES_MIN))]
    pub queue_bytes_max: ByteSize,
    /// Bytes of one transaction's changes at most.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("minimum" = BYTES_MIN))]
    pub transaction_bytes_max: ByteSize,
    /// A segment is ended this long after its first transaction, however small it is; 0 for never.
    #[serde(with = "time")]
    #[schemars(with = "Time")]
    pub segment_age_max: Duration,
    /// The zstd level by which transactions of 4 KiB and more are compressed; 0 for not at all, which is faster unless the disk is slow.
    #[schemars(range(min = 0, max = 22))]
    pub compression_level: i32,
}

impl Default for WalSettings {
    fn default() -> Self {
        let options = LogOptions::default();
        WalSettings {
            dir: None,
            segment_bytes_first: ByteSize(options.segment_bytes_first),
            segment_bytes_max: ByteSize(options.segment_bytes_max),
            flush_interval: options.flush_interval,
            queue_bytes_max: ByteSize(options.queue_bytes_max),
            transaction_bytes_max: ByteSize(options.transaction_bytes_max),
            segment_age_max: Duration::ZERO,
            compression_level: options.compression.unwrap_or(0),
        }
    }
}

/// Settings of the snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SnapshotSettings {
    /// Where the snapshots lie; `snapshots` in the database directory unless set.
    #[serde(serialize_with = "path_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Directory", extend("x-default" = "`snapshots` in `dir`", "x-example" = "snapshots"))]
    pub dir: Option<PathBuf>,
    /// The zstd level; 0 writes uncompressed.
    #[schemars(range(min = 0, max = 22))]
    pub compression_level: i32,
    /// Threads that encode and compress; 0 for half as many as there are cores, so that the application has the others.
    #[schemars(range(max = THREADS_MAX))]
    pub threads: usize,
    /// Files that a snapshot may lie in: after so many, less one, increments the next snapshot is a full one. 1 for full ones only.
    #[schemars(range(min = 1, max = CHAIN_MAX))]
    pub chain_max: usize,
    /// A snapshot is taken after so many transactions; 0 for never by their number.
    pub after_transactions: u64,
    /// A snapshot is taken after so many bytes of log; 0 for never by bytes.
    #[serde(with = "size")]
    #[schemars(with = "Size")]
    pub after_log_bytes: ByteSize,
    /// A snapshot is taken when the log after the one before lies in so many segments, as many short sessions leave it; 0 for never by
    /// their number.
    pub after_segments: u64,
    /// A snapshot is taken this long after the one before, if anything was committed; 0 for never by time.
    #[serde(with = "time")]
    #[schemars(with = "Time")]
    pub interval: Duration,
    /// What snapshots, merges and copies read and write at most; 0 for as much as the disk takes.
    #[serde(with = "size")]
    #[schemars(with = "Rate")]
    pub bytes_per_second_max: ByteSize,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        SnapshotSettings {
            dir: None,
            compression_level: 1,
            threads: 0,
            chain_max: 4,
            after_transactions: 0,
            after_log_bytes: ByteSize(256 << 20),
            after_segments: 64,
            interval: Duration::from_secs(300),
            bytes_per_second_max: ByteSize(0),
        }
    }
}

/// Settings of the archived log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ArchiveSettings {
    /// Keep log segments that recovery does not need any more, so that any moment within the retention can be gone back to: as far as
    /// 10 GiB of snapshots and archive reach, unless `retention` says something else. `false` gives up what is in the archive. When it is
    /// not set, what was set last goes on to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("x-default" = "as before", "x-example" = "true"))]
    pub enabled: Option<bool>,
    /// Where they lie; `archive` in the database directory unless set.
    #[serde(serialize_with = "path_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Directory", extend("x-default" = "`archive` in `dir`", "x-example" = "archive"))]
    pub dir: Option<PathBuf>,
    /// The zstd level (seekable); 0 keeps them uncompressed.
    #[schemars(range(min = 0, max = 22))]
    pub compression_level: i32,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        ArchiveSettings { enabled: None, dir: None, compression_level: 3 }
    }
}

/// Settings of what is kept. When none is set, those that were set last go on to hold. Of a database of which nothing was ever said, only what
/// recovery needs is kept: the snapshots back to one that shares no file with the newest, and the log after that one. `snapshots_max = 1`
/// says just that. With an archive, and nothing said of what it may take, 10 GiB of snapshots and archive are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RetentionSettings {
    /// Snapshots at most, never fewer than recovery needs, and the archived log behind the oldest of them; 0 for no limit by number.
    pub snapshots_max: usize,
    /// How far back any moment can be gone back to, as time is measured by the log; what is only good for more is given up. 0 for no limit
    /// by age.
    #[serde(with = "time")]
    #[schemars(with = "Time")]
    pub age_max: Duration,
    /// Bytes of snapshots and archive at most, as far as that leaves what recovery needs; 0 for no limit by bytes.
    #[serde(with = "size")]
    #[schemars(with = "Size")]
    pub bytes_max: ByteSize,
    /// Nothing of the past is given up, however much room it takes. Then there are no limits beside it.
    pub unlimited: bool,
}

impl RetentionSettings {
    /// Whether anything is said. Limits of 0 alone are none, and say nothing.
    pub fn is_said(&self) -> bool {
        *self != RetentionSettings::default()
    }
}

/// Settings of merging. Each may trigger a compaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CompactionSettings {
    /// A compaction this long after the last one, if anything was committed; 0 for never by time.
    #[serde(with = "time")]
    #[schemars(with = "Time")]
    pub interval: Duration,
    /// A compaction when log and archive take more; 0 for never by bytes.
    #[serde(with = "size")]
    #[schemars(with = "Size")]
    pub log_bytes_max: ByteSize,
    /// A compaction when the oldest file that the newest snapshot lies in is older; 0 for never by age.
    #[serde(with = "time")]
    #[schemars(with = "Time")]
    pub snapshot_age_max: Duration,
    /// A compaction when more than this part of the snapshot files is dead; 0 for never by waste.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dead_fraction_max: f64,
    /// Chunks in memory are merged when more than this part of them could be freed by filling the others; 0 for never.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sparse_fraction_max: f64,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        CompactionSettings {
            interval: Duration::ZERO,
            log_bytes_max: ByteSize(0),
            snapshot_age_max: Duration::ZERO,
            dead_fraction_max: 0.5,
            sparse_fraction_max: 0.5,
        }
    }
}

/// Settings of opening a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RecoverySettings {
    /// What is done about damage: `strict` refuses any but a torn tail, `truncate-tail` passes over what older files make up for, `salvage`
    /// goes on with what was before the first loss.
    #[schemars(with = "String", extend("enum" = ["strict", "truncate-tail", "salvage"], "x-applies" = "next opening"))]
    pub policy: Policy,
    /// Threads that read and decompress snapshots; 0 for as many as there are cores.
    #[schemars(range(max = THREADS_MAX), extend("x-applies" = "next opening"))]
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
            wal: WalSettings::default(),
            snapshot: SnapshotSettings::default(),
            archive: ArchiveSettings::default(),
            retention: RetentionSettings::default(),
            compaction: CompactionSettings::default(),
            recovery: RecoverySettings::default(),
            written: Written::default(),
        }
    }
    /// Lets nothing happen by itself: no snapshot, no compaction and no end of a segment that nobody asked for. What is
    /// archived and given up after a snapshot is still as the settings say.
    ///
    /// ```
    /// use ecsdb_config::PersistenceConfig;
    ///
    /// let mut config = PersistenceConfig::new("world");
    /// config.manual();
    /// assert_eq!(config.schedule(), Default::default());
    /// ```
    pub fn manual(&mut self) {
        self.wal.segment_age_max = Duration::ZERO;
        let snapshot = &mut self.snapshot;
        (snapshot.after_transactions, snapshot.after_log_bytes) = (0, ByteSize(0));
        (snapshot.after_segments, snapshot.interval) = (0, Duration::ZERO);
        let compaction = &mut self.compaction;
        (compaction.interval, compaction.snapshot_age_max) = (Duration::ZERO, Duration::ZERO);
        compaction.log_bytes_max = ByteSize(0);
        (compaction.dead_fraction_max, compaction.sparse_fraction_max) = (0.0, 0.0);
    }
}
