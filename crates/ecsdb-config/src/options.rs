//! What each crate makes of the settings.

use ecsdb_compactor::{Archiving, Retention, Schedule, StoreSettings};
use ecsdb_wal::LogOptions;

use crate::settings::PersistenceConfig;

impl PersistenceConfig {
    /// The log's options.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes_first: self.wal.segment_bytes_first.0,
            segment_bytes_max: self.wal.segment_bytes_max.0,
            flush_interval: self.wal.flush_interval,
            queue_bytes_max: self.wal.queue_bytes_max.0,
            transaction_bytes_max: self.wal.transaction_bytes_max.0,
            segment_age_max: unless_zero(self.wal.segment_age_max),
            compression: unless_zero(self.wal.compression_level),
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
            retention: match retention {
                _ if retention.unlimited => Some(Retention::UNLIMITED),
                _ if !retention.is_said() => None,
                _ => Some(Retention {
                    snapshots_max: unless_zero(retention.snapshots_max),
                    age_max: unless_zero(retention.age_max),
                    bytes_max: unless_zero(retention.bytes_max.0),
                }),
            },
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
