//! What a store has and has done.

use std::time::Duration;

use ecsdb_io::FileKind;
use ecsdb_recovery::garbage;
use ecsdb_wal::{Lsn, segment_files};

use crate::error::Result;
use crate::snapshot::SnapshotInfo;
use crate::store::{Store, Work};

/// What a store has on disk, and what it did last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// LSN of the newest snapshot; 0 for none.
    pub snapshot_lsn: Lsn,
    /// Snapshots that can be gone back to.
    pub snapshots: usize,
    /// Files that the newest snapshot's blocks lie in.
    pub chain_files: usize,
    /// Bytes of all snapshot files.
    pub snapshot_bytes: u64,
    /// Of the files that the newest snapshot lies in: bytes that it does not use.
    pub dead_bytes: u64,
    /// Log segments, one that is prepared ahead included.
    pub segments: usize,
    /// Their bytes on disk, preallocated ones included.
    pub log_bytes: u64,
    /// LSN of the last archived transaction; 0 for none.
    pub archived_lsn: Lsn,
    /// Bytes of the archived log.
    pub archive_bytes: u64,
    /// The snapshot that this process took last.
    pub last_snapshot: Option<SnapshotInfo>,
    /// Bytes of files that nothing needs any more, to be deleted with the next change.
    pub garbage_bytes: u64,
}

impl StoreStats {
    /// Bytes of snapshots, log and archive.
    pub fn total_bytes(&self) -> u64 {
        self.snapshot_bytes + self.log_bytes + self.archive_bytes
    }

    /// Which part of the files that the newest snapshot lies in it does not use, from 0 to 1.
    pub fn dead_fraction(&self) -> f64 {
        self.dead_bytes as f64 / self.snapshot_bytes.max(1) as f64
    }
}

/// What is noted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    last_snapshot: Option<SnapshotInfo>,
    archived_lsn: Lsn,
    /// Blocks and files of the newest snapshot, by its number.
    newest: Option<(u64, usize, u64)>,
}

impl Store {
    pub(crate) fn note_snapshot(&self, info: &SnapshotInfo) {
        self.noted.lock().last_snapshot = Some(*info);
    }

    /// The numbers and bytes of the snapshot files.
    pub(crate) fn snapshot_sizes(&self) -> Result<Vec<(u64, u64)>> {
        let entries = self.vfs.read_dir(self.layout.snapshot_dir())?;
        let sizes = entries.iter().filter_map(|e| Some((FileKind::Snapshot.parse(&e.name)?, e.len)));
        Ok(sizes.collect())
    }

    /// Looks at the directories and gives the sizes. O(files). Waits for nobody: while a snapshot or a compaction is under way, what
    /// only its end tells is as it was before.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn stats(&self) -> Result<StoreStats> {
        match self.try_work() {
            Some(mut work) => self.stats_with(&mut work),
            None => self.sizes(),
        }
    }

    pub(crate) fn stats_with(&self, work: &mut Work) -> Result<StoreStats> {
        let newest = self.newest(work)?;
        let newest = newest.map(|n| (n.sequence, n.directory.files.len(), n.directory.stored_bytes()));
        let archived_lsn = self.archived(work)?.last().map_or(Lsn::ZERO, |last| last.last_lsn);
        let mut noted = self.noted.lock();
        (noted.newest, noted.archived_lsn) = (newest, archived_lsn);
        drop(noted);
        self.sizes()
    }

    fn sizes(&self) -> Result<StoreStats> {
        let manifest = self.manifest();
        let mut stats = StoreStats { snapshots: manifest.snapshots.len(), ..StoreStats::default() };
        let sizes = self.snapshot_sizes()?;
        stats.snapshot_bytes = sizes.iter().map(|(_, bytes)| bytes).sum();
        let noted = self.noted.lock();
        (stats.last_snapshot, stats.archived_lsn) = (noted.last_snapshot, noted.archived_lsn);
        if let Some(entry) = manifest.snapshots.last() {
            stats.snapshot_lsn = Lsn(entry.lsn);
            if let Some((_, files, stored)) = noted.newest.filter(|(number, ..)| *number == entry.sequence) {
                let chain = sizes.iter().filter(|(n, _)| (entry.base..=entry.sequence).contains(n));
                stats.chain_files = files;
                stats.dead_bytes = chain.map(|(_, bytes)| bytes).sum::<u64>().saturating_sub(stored);
            }
        }
        drop(noted);
        for file in segment_files(&*self.vfs, &[self.layout.log_dir()])? {
            (stats.segments, stats.log_bytes) = (stats.segments + 1, stats.log_bytes + file.bytes);
        }
        for file in segment_files(&*self.vfs, &[self.layout.archive_dir()])? {
            stats.archive_bytes += file.bytes;
        }
        for path in garbage(&*self.vfs, &self.layout, &manifest)? {
            stats.garbage_bytes += self.vfs.file_len(&path)?.unwrap_or(0);
        }
        Ok(stats)
    }

    /// How old the newest snapshot's oldest file is, in time; `None` without a snapshot.
    pub fn chain_age(&self) -> Option<Duration> {
        let manifest = self.manifest();
        let newest = manifest.snapshots.last()?;
        let base = manifest.snapshots.iter().find(|entry| entry.sequence >= newest.base)?;
        Some(Duration::from_nanos(self.vfs.now_unix_ns().saturating_sub(base.created_unix_ns)))
    }
}
