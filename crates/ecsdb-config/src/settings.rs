//! The settings, with their defaults and their limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use ecsdb_compactor::{Archiving, Retention, Schedule, StoreSettings};
use ecsdb_io::{Layout, Vfs};
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
    /// The archived log.
    #[serde(default)]
    pub archive: ArchiveSettings,
    /// What of the past is kept.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// Merging.
    #[serde(default)]
    pub compaction: CompactionSettings,
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
    /// A segment is ended this long after its first transaction, however small it is; 0 for never.
    #[serde(with = "humantime_serde")]
    pub segment_age_max: Duration,
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
            segment_age_max: Duration::ZERO,
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
    /// Threads that encode and compress; 0 for half as many as there are cores, so that the application has the others.
    pub threads: usize,
    /// Files that a snapshot may lie in: after so many, less one, increments the next snapshot is a full one. 1 for full ones only.
    pub chain_max: usize,
    /// A snapshot is taken after so many transactions; 0 for never by their number.
    pub after_transactions: u64,
    /// A snapshot is taken after so many bytes of log; 0 for never by bytes.
    pub after_log_bytes: ByteSize,
    /// A snapshot is taken when the log after the one before lies in so many segments, as many short sessions leave it; 0 for never by
    /// their number.
    pub after_segments: u64,
    /// A snapshot is taken this long after the one before, if anything was committed; 0 for never by time.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Bytes a second that snapshots, merges and copies write at most; 0 for as many as the disk takes.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ArchiveSettings {
    /// Keep log segments that recovery does not need any more, so that any moment within the retention can be gone back to. Needs a
    /// limit in `retention`. `false` gives up what is in the archive. When it is not set, what was set last goes on to hold.
    pub enabled: Option<bool>,
    /// Where they lie; `archive` in the database directory unless set.
    pub dir: Option<PathBuf>,
    /// zstd level, 1 to 22; 0 keeps them uncompressed.
    pub compression_level: i32,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        ArchiveSettings { enabled: None, dir: None, compression_level: 3 }
    }
}

/// Settings of what is kept. When none is set, those that were set last go on to hold; of a database of which nothing was ever said, only what
/// recovery needs is kept: the snapshots back to one that shares no file with the newest, and the log after that one. `snapshots_max = 1`
/// says just that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RetentionSettings {
    /// Snapshots at most, and the archived log behind the oldest of them; 0 for no limit by number.
    pub snapshots_max: usize,
    /// How far back any moment can be gone back to; what is only good for more is given up. 0 for no limit by age.
    #[serde(with = "humantime_serde")]
    pub age_max: Duration,
    /// Bytes of snapshots and archive at most, as far as that leaves what recovery needs; 0 for no limit by bytes.
    pub bytes_max: ByteSize,
}

/// Settings of merging. Each may trigger a compaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CompactionSettings {
    /// This long after the last one, if anything was committed; 0 for never by time.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// When log and archive take more; 0 for never by bytes.
    pub log_bytes_max: ByteSize,
    /// When the oldest file that the newest snapshot lies in is older; 0 for never by age.
    #[serde(with = "humantime_serde")]
    pub snapshot_age_max: Duration,
    /// When more than this part of the snapshot files is dead, from 0 to 1; 0 for never by waste.
    pub dead_fraction_max: f64,
    /// When this part of the chunks in memory could be freed by filling the others, from 0 to 1; 0 for never. Merges in memory only.
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
            archive: ArchiveSettings::default(),
            retention: RetentionSettings::default(),
            compaction: CompactionSettings::default(),
            recovery: RecoverySettings::default(),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.layout()?;
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
        // What is prepared ahead is on the disk, and each segment may be twice as large as the one before.
        if log.segment_bytes_max.0 > SEGMENT_BYTES_MAX {
            return Err(Error::OutOfRange {
                setting: "log.segment_bytes_max",
                value: log.segment_bytes_max.to_string(),
                rule: "a segment has at most 64 GiB, but for a single transaction that needs more",
            });
        }
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
        threads("snapshot.threads", self.snapshot.threads)?;
        threads("recovery.threads", self.recovery.threads)?;
        level("snapshot.compression_level", self.snapshot.compression_level)?;
        level("archive.compression_level", self.archive.compression_level)?;
        if !(1..=CHAIN_MAX).contains(&self.snapshot.chain_max) {
            return Err(Error::OutOfRange {
                setting: "snapshot.chain_max",
                value: self.snapshot.chain_max.to_string(),
                rule: "a snapshot lies in 1 to 128 files",
            });
        }
        if self.archive.enabled == Some(true) && self.retention == RetentionSettings::default() {
            return Err(Error::OutOfRange {
                setting: "archive.enabled",
                value: "true".into(),
                rule: "without a limit in `retention` nothing would be kept in the archive: set age_max, bytes_max or snapshots_max",
            });
        }
        fraction("compaction.dead_fraction_max", self.compaction.dead_fraction_max)?;
        fraction("compaction.sparse_fraction_max", self.compaction.sparse_fraction_max)
    }

    /// Checks that `new` differs from these settings only in what can change while a database runs.
    ///
    /// # Errors
    /// [`Error::Fixed`], with the first setting that cannot.
    pub fn unchanged_while_running(&self, new: &PersistenceConfig) -> Result<()> {
        let fixed = [
            ("dir", self.dir == new.dir),
            ("log", self.log == new.log),
            ("snapshot.dir", self.snapshot.dir == new.snapshot.dir),
            ("archive.dir", self.archive.dir == new.archive.dir),
            ("recovery", self.recovery == new.recovery),
        ];
        match fixed.into_iter().find(|(_, same)| !same) {
            Some((setting, _)) => Err(Error::Fixed { setting }),
            None => Ok(()),
        }
    }

    /// Where the files lie, by names that hold wherever the program goes afterwards.
    ///
    /// # Errors
    /// When a directory has no name, or two of them are the same.
    pub fn layout(&self) -> Result<Layout> {
        let or = |dir: &Option<PathBuf>, default: &Path| dir.clone().unwrap_or_else(|| default.into());
        let layout = Layout::new(&self.dir);
        let log = or(&self.log.dir, layout.log_dir());
        let snapshots = or(&self.snapshot.dir, layout.snapshot_dir());
        let archive = or(&self.archive.dir, layout.archive_dir());
        let named =
            [("dir", &self.dir), ("log.dir", &log), ("snapshot.dir", &snapshots), ("archive.dir", &archive)];
        for (setting, dir) in named {
            if dir.as_os_str().is_empty() {
                let rule = "it has to name a directory; `.` is the working directory";
                return Err(Error::OutOfRange { setting, value: "empty".into(), rule });
            }
        }
        distinct(
            layout.with_log_dir(&log).with_snapshot_dir(&snapshots).with_archive_dir(&archive).absolute()?,
        )
    }

    /// Where the files lie in `vfs`, whatever links lead there.
    ///
    /// # Errors
    /// As [`PersistenceConfig::layout`], or when the system refuses.
    pub fn layout_in(&self, vfs: &dyn Vfs) -> Result<Layout> {
        distinct(self.layout()?.real(vfs)?)
    }

    /// The log's options.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes_first: self.log.segment_bytes_first.0,
            segment_bytes_max: self.log.segment_bytes_max.0,
            flush_interval: self.log.flush_interval,
            queue_bytes_max: self.log.queue_bytes_max.0,
            transaction_bytes_max: self.log.transaction_bytes_max.0,
            segment_age_max: unless_zero(self.log.segment_age_max),
            ..LogOptions::default()
        }
    }

    /// How snapshots are written and what is kept.
    pub fn store_settings(&self) -> StoreSettings {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let retention = &self.retention;
        StoreSettings {
            compression: unless_zero(self.snapshot.compression_level),
            threads: unless_zero(self.snapshot.threads).unwrap_or((cores / 2).max(1)),
            chain_max: self.snapshot.chain_max,
            // CKP-11: what is not said gives nothing up.
            retention: (*retention != RetentionSettings::default()).then(|| Retention {
                snapshots_max: unless_zero(retention.snapshots_max),
                age_max: unless_zero(retention.age_max),
                bytes_max: unless_zero(retention.bytes_max.0),
            }),
            archive: match self.archive.enabled {
                None => Archiving::AsBefore,
                Some(false) => Archiving::Off,
                Some(true) => Archiving::On(ecsdb_compactor::ArchiveSettings {
                    compression: unless_zero(self.archive.compression_level),
                }),
            },
            keep_all: false,
        }
    }

    /// When snapshots and compactions are due.
    pub fn schedule(&self) -> Schedule {
        let (snapshot, compaction) = (&self.snapshot, &self.compaction);
        Schedule {
            snapshot_transactions: unless_zero(snapshot.after_transactions),
            snapshot_interval: unless_zero(snapshot.interval),
            snapshot_log_bytes: unless_zero(snapshot.after_log_bytes.0),
            snapshot_segments: unless_zero(snapshot.after_segments),
            compaction_interval: unless_zero(compaction.interval),
            compaction_log_bytes: unless_zero(compaction.log_bytes_max.0),
            compaction_snapshot_age: unless_zero(compaction.snapshot_age_max),
            compaction_dead_fraction: unless_zero(compaction.dead_fraction_max),
            compaction_sparse_fraction: unless_zero(compaction.sparse_fraction_max),
        }
    }

    /// Bytes a second that background work may write; `None` for no limit.
    pub fn bytes_per_second_max(&self) -> Option<u64> {
        unless_zero(self.snapshot.bytes_per_second_max.0)
    }
}

/// Zero stands for "not set" in a file and in the environment, where there is no other way to say it.
fn unless_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn level(setting: &'static str, level: i32) -> Result<()> {
    if (0..=22).contains(&level) {
        return Ok(());
    }
    let rule = "it is 0 (uncompressed) or a zstd level from 1 to 22";
    Err(Error::OutOfRange { setting, value: level.to_string(), rule })
}

fn threads(setting: &'static str, threads: usize) -> Result<()> {
    if threads <= THREADS_MAX {
        return Ok(());
    }
    Err(Error::OutOfRange { setting, value: threads.to_string(), rule: "there are at most 1024 threads" })
}

fn fraction(setting: &'static str, fraction: f64) -> Result<()> {
    if (0.0..=1.0).contains(&fraction) {
        return Ok(());
    }
    Err(Error::OutOfRange { setting, value: fraction.to_string(), rule: "it is a part, from 0 to 1" })
}

/// All files of a snapshot are open while it is loaded (IO-1).
const CHAIN_MAX: usize = 128;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 64 << 30;
const THREADS_MAX: usize = 1024;

fn at_least(setting: &'static str, value: ByteSize, least: u64, rule: &'static str) -> Result<()> {
    if value.0 >= least {
        return Ok(());
    }
    Err(Error::OutOfRange { setting, value: value.to_string(), rule })
}

/// Refuses two names of one directory.
fn distinct(layout: Layout) -> Result<Layout> {
    let dirs = [
        ("dir", layout.root()),
        ("log.dir", layout.log_dir()),
        ("snapshot.dir", layout.snapshot_dir()),
        ("archive.dir", layout.archive_dir()),
    ];
    for (i, (setting, dir)) in dirs.into_iter().enumerate() {
        if dirs[..i].iter().any(|(_, other)| *other == dir) {
            let value = dir.display().to_string();
            let rule =
                "the database, its log, its snapshots and its archive each need a directory of their own";
            return Err(Error::OutOfRange { setting, value, rule });
        }
    }
    Ok(layout)
}
