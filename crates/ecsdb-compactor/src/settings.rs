//! How the files of a database are kept.

use crate::retention::Retention;

/// How snapshots are written and what is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    /// zstd level of snapshots (1 to 22), or `None` for uncompressed ones.
    pub compression: Option<i32>,
    /// Threads that encode and compress a snapshot.
    pub threads: usize,
    /// Files that a snapshot's blocks may lie in: one more than the increments that may follow a full one. With 1 every snapshot
    /// is full.
    pub chain_max: usize,
    /// What of the past is kept.
    pub retention: Retention,
    /// Keep log segments that recovery does not need, for going back to any moment; `None` drops them.
    pub archive: Option<ArchiveSettings>,
}

/// How log segments are archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// zstd level (1 to 22), or `None` for segments as they are.
    pub compression: Option<i32>,
}
