//! Merging: the log since the newest snapshot, and the chain of increments, into one full snapshot.

use ecsdb_core::View;
use ecsdb_io::FileKind;
use ecsdb_io::sync::Instant;
use ecsdb_snapshot::{Progress, Snapshot, merge};
use ecsdb_wal::Lsn;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::info::{CompactionInfo, SnapshotInfo};
use crate::store::{Store, Work};

impl Store {
    /// Folds the log into the newest snapshot, merges its chain into one full file, and deletes what that covers: all
    /// other snapshots if it is to stand `alone`, or else what recovery does not need, and what the settings do not keep. The merged file's blocks
    /// are compared with those it was made from before anything is deleted (CKP-8). `capture` gives the world as it is: once, or twice where what
    /// was written of it is damaged. O(bytes of the newest snapshot); nobody waits for it.
    ///
    /// # Errors
    /// When it fails or is cancelled; what was there before is still there. When what is covered cannot be archived or deleted: what could be is, and the
    /// new snapshot is the newest one.
    pub fn compact(
        &self,
        capture: impl Fn() -> Result<View>,
        alone: bool,
        control: &Control,
    ) -> Result<CompactionInfo> {
        self.compact_with(capture, control, |work| self.trim_to(work, alone))
    }

    /// As [`Store::compact`], when it is due: it is done once the new snapshot is the newest one. A failure of what comes after is an event, and tried again
    /// by itself (CKP-7).
    ///
    /// # Errors
    /// When it fails or is cancelled; what was there before is still there.
    pub fn compact_when_due(
        &self,
        capture: impl Fn() -> Result<View>,
        control: &Control,
    ) -> Result<CompactionInfo> {
        self.compact_with(capture, control, |work| {
            self.trim_after(work);
            Ok(())
        })
    }

    fn compact_with(
        &self,
        capture: impl Fn() -> Result<View>,
        control: &Control,
        trim: impl FnOnce(&mut Work) -> Result<()>,
    ) -> Result<CompactionInfo> {
        let started = Instant::now();
        let _span = tracing::info_span!("compaction").entered();
        let view = capture()?;
        self.until_durable(&view)?;
        let (mut turn, mut work) = self.turn(control)?;
        let bytes_before = self.total_bytes();
        match self.fold(&mut work, view, control) {
            // CKP-8: nothing is deleted for what is no more what was written. The world itself is still there: as it is now, since a view of before
            // keeps in memory all that was changed meanwhile.
            Err(Error::Snapshot(e)) if e.is_damage() => {
                tracing::warn!(error = %e, "what is compacted is damaged: a full snapshot is written of the world");
                work.doubt_newest(&self.manifest());
                drop((work, turn));
                let view = capture()?;
                self.until_durable(&view)?;
                (turn, work) = self.turn(control)?;
                self.write_whole(&mut work, view, control)?;
            }
            folded => folded?,
        }
        trim(&mut work)?;
        let bytes_after = self.total_bytes();
        let sequence = self.manifest().snapshots.last().map_or(0, |entry| entry.sequence);
        let info = CompactionInfo {
            lsn: self.newest_lsn(),
            sequence,
            bytes_before,
            bytes_after,
            duration: started.elapsed(),
        };
        metrics::histogram!("ecsdb_compaction_seconds").record(info.duration);
        self.events.send(Event::Compacted(info));
        drop(turn);
        Ok(info)
    }

    /// Writes what is new, and makes the newest snapshot a full one, and one that is whole.
    fn fold(&self, work: &mut Work, view: View, control: &Control) -> Result<()> {
        let before = self.manifest().snapshots.last().map(|newest| newest.sequence);
        self.write_snapshot(work, view, control)?;
        control.check()?;
        self.merge_newest(work, control)?;
        self.is_whole(before, control)
    }

    /// Reads the newest snapshot, a full one, back, if it is one that was there `before`: what was written now was read back when it was written.
    fn is_whole(&self, before: Option<u64>, control: &Control) -> Result<()> {
        let newest =
            self.manifest().snapshots.last().copied().filter(|newest| Some(newest.sequence) == before);
        let Some(newest) = newest else { return Ok(()) };
        let snapshot = Snapshot::open(&*self.vfs, &self.layout.file(FileKind::Snapshot, newest.sequence))?;
        let mut follow = control.follow();
        let mut read = |at| follow(Progress { blocks_done: at, blocks: snapshot.bytes(), bytes_written: 0 });
        Ok(snapshot.read_back(control.urgency(), &mut read)?)
    }

    pub(crate) fn newest_lsn(&self) -> Lsn {
        self.manifest().snapshots.last().map_or(Lsn::ZERO, |newest| Lsn(newest.lsn))
    }

    /// Makes the newest snapshot a full one, unless it is.
    fn merge_newest(&self, work: &mut Work, control: &Control) -> Result<()> {
        let started = Instant::now();
        let _span = tracing::info_span!("merge").entered();
        let of_world = work.of_world;
        let Some(newest) = self.newest(work)? else { return Ok(()) };
        let is_of_world = of_world == Some(newest.sequence);
        if newest.directory.numbers().all(|number| number == newest.sequence) {
            return Ok(());
        }
        let chain = Snapshot::open(&*self.vfs, &self.layout.file(FileKind::Snapshot, newest.sequence))?;
        let file = self.reserve_snapshot()?;
        let path = self.layout.file(FileKind::Snapshot, file.sequence);
        let written = merge(&*self.vfs, &chain, &path, file, control.urgency(), &mut control.follow())
            .inspect_err(|_| self.forget_reserved(&path, file.sequence))?;
        // The same state at the same LSN: the new file takes the place of the chain's last link.
        self.adopt(work, &written, |manifest| {
            manifest.gone.extend(manifest.snapshots.pop());
        })?;
        if is_of_world {
            work.of_world = Some(file.sequence);
        }
        let info = SnapshotInfo::new(&written, started.elapsed());
        self.note_snapshot(&info);
        self.events.send(Event::SnapshotTaken(info));
        Ok(())
    }
}
