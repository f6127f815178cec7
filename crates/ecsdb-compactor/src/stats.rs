//! What a store has and has done.

use std::time::Duration;

use ecsdb_io::{FileKind, numbered_files};
use ecsdb_recovery::superfluous;
use ecsdb_snapshot::{Directory, Snapshot, SnapshotEntry};
use ecsdb_wal::{Lsn, segment_files};

use crate::error::Result;
use crate::event::Event;
use crate::info::{Failure, SnapshotInfo, Task};
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
    /// Bytes of those files.
    pub chain_bytes: u64,
    /// Bytes of them that the newest snapshot does not use.
    pub dead_bytes: u64,
    /// Log segments, one that is prepared ahead included.
    pub segments: usize,
    /// Their bytes on disk, preallocated ones included.
    pub log_bytes: u64,
    /// LSN of the last archived transaction; 0 for none.
    pub archived_lsn: Lsn,
    /// Bytes of the archived log; 0 while its directory cannot be listed.
    pub archive_bytes: u64,
    /// The snapshot that this process took last.
    pub last_snapshot: Option<SnapshotInfo>,
    /// Bytes of files that nothing needs any more, to be deleted with the next change.
    pub garbage_bytes: u64,
    /// How each kind of work in the background failed last, the latest failure at the end.
    pub failures: Vec<Failure>,
}

impl StoreStats {
    /// Bytes of snapshots, log and archive.
    pub fn total_bytes(&self) -> u64 {
        self.snapshot_bytes + self.log_bytes + self.archive_bytes
    }

    /// Which part of the files that the newest snapshot lies in it does not use, from 0 to 1.
    pub fn dead_fraction(&self) -> f64 {
        self.dead_bytes as f64 / self.chain_bytes.max(1) as f64
    }
}

/// What is noted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    last_snapshot: Option<SnapshotInfo>,
    archived_lsn: Lsn,
    chain: Option<Chain>,
    /// The snapshot that one of its files was found damaged of, or gone.
    damaged: Option<Damaged>,
    /// The rest was looked up at least once.
    known: bool,
}

#[derive(Debug, Clone, Copy)]
struct Damaged {
    sequence: u64,
    /// A full one was tried in its place, and failed: until there is another snapshot it is taken as it is, which can be loaded perhaps.
    was_tried: bool,
}

/// The files of the newest snapshot.
#[derive(Debug, Clone, Copy)]
struct Chain {
    /// Its number, and that of the first of them.
    sequence: u64,
    base: u64,
    files: usize,
    /// Bytes of its blocks in all files, and of those in its own.
    blocks: u64,
    own_blocks: u64,
    /// When the oldest of the files was begun.
    began_unix_ns: u64,
}

impl Store {
    pub(crate) fn note_snapshot(&self, info: &SnapshotInfo) {
        self.noted.lock().last_snapshot = Some(*info);
    }

    /// The numbers and bytes of the snapshot files.
    pub(crate) fn snapshot_sizes(&self) -> Result<Vec<(u64, u64)>> {
        let dir = self.layout.snapshot_dir();
        let files = numbered_files(&*self.direct_vfs, dir, &[FileKind::Snapshot])?;
        Ok(files.into_iter().map(|file| (file.number, file.bytes)).collect())
    }

    /// Looks at the directories and gives the sizes. O(files). Waits for nobody: while a snapshot or a compaction is under way, what
    /// only its end tells is as it was before.
    ///
    /// # Errors
    /// When a directory cannot be listed, but for that of the archive.
    pub fn stats(&self) -> Result<StoreStats> {
        let known = self.noted.lock().known;
        match self.try_work() {
            Some(mut work) => self.stats_with(&mut work),
            None if known => self.sizes(),
            // Nobody has looked yet: once, without what whoever is at work knows.
            None => self.stats_with(&mut Work::default()),
        }
    }

    fn stats_with(&self, work: &mut Work) -> Result<StoreStats> {
        self.look(work);
        self.sizes()
    }

    /// Notes what only whoever is at work can tell. What cannot be looked at is not known then, and nothing fails for it.
    pub(crate) fn look(&self, work: &mut Work) {
        let newest = match self.newest(work) {
            Ok(newest) => newest.map(|newest| (newest.sequence, newest.directory.clone())),
            Err(e) => {
                tracing::debug!(error = %e, "the newest snapshot cannot be looked at");
                None
            }
        };
        let archived_lsn = match self.archived(work) {
            Ok(archived) => archived.iter().rev().find_map(|segment| segment.last_lsn).unwrap_or_default(),
            // REC-14: whoever archives is told; a look at the rest needs no archive.
            Err(e) => {
                tracing::debug!(error = %e, "the archive cannot be looked at");
                Lsn::ZERO
            }
        };
        let known = self.noted.lock().chain;
        let chain = newest.and_then(|(sequence, directory)| {
            known
                .filter(|known| known.sequence == sequence && self.is_there(known.base))
                .or_else(|| self.chain(sequence, &directory))
        });
        let mut noted = self.noted.lock();
        (noted.known, noted.archived_lsn, noted.chain) = (true, archived_lsn, chain);
    }

    /// Whether a snapshot file is where it should be, as far as can be looked.
    fn is_there(&self, number: u64) -> bool {
        !matches!(self.direct_vfs.file_len(&self.layout.file(FileKind::Snapshot, number)), Ok(None))
    }

    /// `None` while its first file cannot be looked at.
    fn chain(&self, sequence: u64, directory: &Directory) -> Option<Chain> {
        let base = directory.numbers().min().unwrap_or(sequence).min(sequence);
        let path = self.layout.file(FileKind::Snapshot, base);
        let began_unix_ns = match Snapshot::open(&*self.direct_vfs, &path) {
            Ok(opened) => opened.header().created_unix_ns,
            Err(e) => {
                if e.is_damage() {
                    self.note_damaged(sequence, &e);
                } else {
                    tracing::debug!(error = %e, "a snapshot cannot be looked at");
                }
                // The increments on it need no more.
                Snapshot::header_of(&*self.direct_vfs, &path).ok()?.created_unix_ns
            }
        };
        Some(Chain {
            sequence,
            base,
            files: directory.files.len(),
            blocks: directory.stored_bytes(),
            own_blocks: directory.stored_bytes_of(sequence),
            began_unix_ns,
        })
    }

    /// Notes that a file of the newest snapshot is damaged, or gone, and tells of it once.
    pub(crate) fn note_damaged(&self, sequence: u64, e: &ecsdb_snapshot::Error) {
        let mut noted = self.noted.lock();
        if noted.damaged.is_none_or(|damaged| damaged.sequence != sequence) {
            noted.damaged = Some(Damaged { sequence, was_tried: false });
            drop(noted);
            let (task, error) = (Task::Snapshot, e.to_string());
            self.events.send(Event::Failed { task, error, retry_in: Some(Duration::ZERO) });
        }
    }

    /// Whether a file of this snapshot was found damaged, or gone, and no full one was tried in vain since.
    fn is_found_damaged(&self, sequence: u64) -> bool {
        self.noted.lock().damaged.is_some_and(|damaged| damaged.sequence == sequence && !damaged.was_tried)
    }

    /// Whether a file of the newest snapshot was found damaged, or gone: the next one is a full one, in its place if it is of the same state.
    pub fn is_newest_damaged(&self) -> bool {
        self.manifest().snapshots.last().is_some_and(|newest| self.is_found_damaged(newest.sequence))
    }

    /// As [`Store::is_newest_damaged`], of this one, and looked at once more: what cannot be read at one time may be at the next.
    pub(crate) fn is_still_damaged(&self, newest: &SnapshotEntry) -> bool {
        if !self.is_found_damaged(newest.sequence) {
            return false;
        }
        let is_damaged = |number| {
            let path = self.layout.file(FileKind::Snapshot, number);
            Snapshot::open(&*self.direct_vfs, &path).is_err_and(|e| e.is_damage())
        };
        let is = is_damaged(newest.base) || is_damaged(newest.sequence);
        if !is {
            self.noted.lock().damaged = None;
        }
        is
    }

    /// A full snapshot in the place of a damaged one failed. It is not tried again and again, by whoever has no room for one, say.
    pub(crate) fn note_not_healed(&self) {
        if let Some(damaged) = &mut self.noted.lock().damaged {
            damaged.was_tried = true;
        }
    }

    /// For a report alone: 0 where a directory cannot be listed.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.sizes().map_or(0, |sizes| sizes.total_bytes())
    }

    fn sizes(&self) -> Result<StoreStats> {
        let manifest = self.manifest();
        let mut stats = StoreStats {
            snapshots: manifest.snapshots.len(),
            failures: self.events.failures(),
            ..StoreStats::default()
        };
        let sizes = self.snapshot_sizes()?;
        stats.snapshot_bytes = sizes.iter().map(|(_, bytes)| bytes).sum();
        let noted = self.noted.lock();
        (stats.last_snapshot, stats.archived_lsn) = (noted.last_snapshot, noted.archived_lsn);
        if let Some(entry) = manifest.snapshots.last() {
            stats.snapshot_lsn = Lsn(entry.lsn);
            if let Some(chain) = noted.chain.filter(|chain| chain.sequence == entry.sequence) {
                let files = sizes.iter().filter(|(n, _)| entry.uses(*n));
                stats.chain_files = chain.files;
                stats.chain_bytes = files.map(|(_, bytes)| bytes).sum();
                // Besides the blocks, the newest file's schema, resources, allocators and directory are in use.
                let live = chain.blocks + entry.bytes.saturating_sub(chain.own_blocks);
                stats.dead_bytes = stats.chain_bytes.saturating_sub(live);
            }
        }
        drop(noted);
        for file in segment_files(&*self.direct_vfs, &[self.layout.log_dir().into()])? {
            (stats.segments, stats.log_bytes) = (stats.segments + 1, stats.log_bytes + file.bytes);
        }
        // REC-14: whoever archives is told.
        let archived =
            segment_files(&*self.direct_vfs, &[self.layout.archive_dir().into()]).unwrap_or_default();
        stats.archive_bytes = archived.iter().map(|file| file.bytes).sum();
        let superfluous = superfluous(&*self.direct_vfs, &self.layout, &manifest)?;
        stats.garbage_bytes = superfluous.garbage.iter().map(|file| file.bytes).sum();
        Ok(stats)
    }

    /// How old the oldest file of the newest snapshot is; `None` without a snapshot, or before [`Store::stats`] has looked.
    pub fn chain_age(&self) -> Option<Duration> {
        let began = self.noted.lock().chain?.began_unix_ns;
        Some(Duration::from_nanos(self.log.now_unix_ns().saturating_sub(began)))
    }
}
