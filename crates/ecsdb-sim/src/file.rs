//! One file: what is durable of it, what is live, and the changes between the two that no sync has covered.

use std::sync::Arc;

use crate::content::Content;

/// The unit a disk writes as a whole: a sector is old or new, never a mixture.
pub(crate) const SECTOR: u64 = 512;

/// A file, with or without a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileNode {
    /// What a crash leaves at least.
    durable: Arc<Content>,
    /// What reads see: `durable` with all of `changes` applied.
    live: Arc<Content>,
    changes: Vec<Change>,
}

/// A change that a crash may undo.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Place in the order of all changes of the disk.
    pub(crate) sequence: u64,
    kind: ChangeKind,
    stage: Stage,
    /// The live content right after. A sector that reaches the disk holds what the page cache held, earlier
    /// changes of the same sector included.
    after: Arc<Content>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeKind {
    Write { offset: u64, len: u64 },
    SetLen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next successful sync makes it durable.
    Dirty,
    /// A sync failed after it, and the kernel has marked its pages clean: no later sync writes them. Reads see
    /// it, a crash may or may not.
    Orphaned,
    /// Durable, but kept in its place since an orphan before it is still undecided.
    Synced,
}

/// What a crash does to one change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Lost,
    Kept,
    /// Of a write: some sectors are kept.
    Torn(Tear),
}

/// How a write is torn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tear {
    /// One for each sector that the write touches.
    pub(crate) kept: Vec<bool>,
    pub(crate) beyond: Beyond,
}

/// What a lost sector beyond the file's old end shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Beyond {
    /// The file ends where its last kept sector ends.
    Absent,
    /// The file has its new length; lost sectors are zeros.
    Zeros,
    /// The file has its new length; lost sectors hold whatever lay on the disk before (noise of this seed).
    Garbage(u64),
}

impl FileNode {
    pub(crate) fn durable_as(content: Arc<Content>) -> Self {
        FileNode { durable: Arc::clone(&content), live: content, changes: Vec::new() }
    }

    pub(crate) fn live(&self) -> &Content {
        &self.live
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(crate) fn write(&mut self, sequence: u64, offset: u64, bytes: &[u8]) {
        Arc::make_mut(&mut self.live).write(offset, bytes);
        self.changed(sequence, ChangeKind::Write { offset, len: bytes.len() as u64 });
    }

    pub(crate) fn set_len(&mut self, sequence: u64, len: u64) {
        Arc::make_mut(&mut self.live).set_len(len);
        self.changed(sequence, ChangeKind::SetLen);
    }

    fn changed(&mut self, sequence: u64, kind: ChangeKind) {
        self.changes.push(Change { sequence, kind, stage: Stage::Dirty, after: Arc::clone(&self.live) });
    }

    pub(crate) fn sync(&mut self) {
        for change in &mut self.changes {
            if change.stage == Stage::Dirty {
                change.stage = Stage::Synced;
            }
        }
        let settled = self.changes.iter().take_while(|c| c.stage == Stage::Synced).count();
        if let Some(last) = self.changes.drain(..settled).next_back() {
            self.durable = last.after;
        }
    }

    pub(crate) fn fail_sync(&mut self) {
        for change in &mut self.changes {
            if change.stage == Stage::Dirty {
                change.stage = Stage::Orphaned;
            }
        }
    }

    /// Replaces the content behind the back of the workload: durable at once.
    pub(crate) fn tamper(&mut self, with: impl FnOnce(&mut Content)) {
        with(Arc::make_mut(&mut self.live));
        self.durable = Arc::clone(&self.live);
        self.changes.clear();
    }

    /// Replaces the content with `bytes`: durable at once.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        self.tamper(|content| {
            content.set_len(0);
            content.write(0, bytes);
        });
    }

    /// The content after a crash that did `fates` to the changes, one fate each.
    pub(crate) fn after_crash(&self, fates: &[Fate]) -> Arc<Content> {
        let mut disk = Arc::clone(&self.durable);
        // While nothing is lost, the disk is what the cache was, and no byte needs copying.
        let mut nothing_lost = true;
        for (change, fate) in self.changes.iter().zip(fates) {
            match fate {
                Fate::Kept if nothing_lost => disk = Arc::clone(&change.after),
                Fate::Kept => change.keep(Arc::make_mut(&mut disk)),
                Fate::Lost => nothing_lost = false,
                Fate::Torn(tear) => {
                    nothing_lost = false;
                    change.tear(Arc::make_mut(&mut disk), tear);
                }
            }
        }
        disk
    }
}

impl Change {
    /// True when a crash may lose it.
    pub(crate) fn is_undecided(&self) -> bool {
        self.stage != Stage::Synced
    }

    /// How many sectors a write touches; `None` for a change of length.
    pub(crate) fn sectors(&self) -> Option<usize> {
        match self.kind {
            ChangeKind::Write { offset, len } => {
                Some(((offset + len).div_ceil(SECTOR) - offset / SECTOR) as usize)
            }
            ChangeKind::SetLen => None,
        }
    }

    fn keep(&self, disk: &mut Content) {
        match self.sectors() {
            Some(sectors) => self.tear(disk, &Tear { kept: vec![true; sectors], beyond: Beyond::Absent }),
            None => disk.set_len(self.after.len()),
        }
    }

    fn tear(&self, disk: &mut Content, tear: &Tear) {
        let ChangeKind::Write { offset, len } = self.kind else { return };
        let (old_end, end) = (disk.len(), offset + len);
        if tear.beyond != Beyond::Absent {
            disk.set_len(old_end.max(end));
        }
        let mut sector = offset / SECTOR;
        for run in tear.kept.chunk_by(|a, b| a == b) {
            let start = sector * SECTOR;
            sector += run.len() as u64;
            let stop = sector * SECTOR;
            if run[0] {
                disk.set_len(disk.len().max(stop.min(end)));
                disk.copy_range(&self.after, start, stop.min(disk.len()));
            } else if let Beyond::Garbage(seed) = tear.beyond {
                let start = start.max(offset).max(old_end);
                disk.fill_with_noise(start, stop.min(end), &mut fastrand::Rng::with_seed(seed ^ start));
            }
        }
    }
}
