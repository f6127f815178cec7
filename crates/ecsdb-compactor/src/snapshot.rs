//! Taking snapshots: full, or what changed since the one before.

use std::path::Path;
use std::sync::Arc;

use ecsdb_core::View;
use ecsdb_io::FileKind;
use ecsdb_io::sync::Instant;
use ecsdb_recovery::{bring_back, check_heads};
use ecsdb_snapshot::{Directory, FileRef, Manifest, Snapshot, SnapshotEntry, WriteOptions, Written, write};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::info::SnapshotInfo;
use crate::store::{Store, Work};

/// The newest snapshot's directory: what the next one may share.
pub(crate) struct Newest {
    pub(crate) sequence: u64,
    pub(crate) directory: Arc<Directory>,
}

impl Store {
    /// Writes a snapshot of `view`: an increment while the chain is short enough, else a full one. Then what it makes superfluous
    /// is archived and deleted. When the newest snapshot is of this state or a later one, it is the answer. O(what changed).
    ///
    /// # Errors
    /// When it fails or is cancelled; nothing of it remains then. A failure of what comes after is an event, not an error.
    pub fn snapshot(&self, view: View, control: &Control) -> Result<SnapshotInfo> {
        self.until_durable(&view)?;
        let (_turn, mut work) = self.turn(control)?;
        let info = self.write_snapshot(&mut work, view, control)?;
        self.trim_after(&mut work);
        Ok(info)
    }

    /// What a snapshot or a copy holds must be durable in the log first: were the log to fail now, it would bring back transactions whose commit was
    /// reported as failed. Waited for without the turn, since whoever waits for the log may wake others (WAL-13).
    pub(crate) fn until_durable(&self, view: &View) -> Result<()> {
        Ok(self.log.wait(view.lsn())?)
    }

    /// Of a view that is durable.
    pub(crate) fn write_snapshot(
        &self,
        work: &mut Work,
        view: View,
        control: &Control,
    ) -> Result<SnapshotInfo> {
        let newest = self.manifest().snapshots.last().copied();
        let is_damaged = newest.is_some_and(|newest| self.is_still_damaged(&newest));
        let written = self.write_beside(work, view, is_damaged, control);
        if is_damaged && written.as_ref().is_err_and(|e| !e.is_cancelled()) {
            self.note_not_healed();
        }
        written
    }

    fn write_beside(
        &self,
        work: &mut Work,
        view: View,
        newest_is_damaged: bool,
        control: &Control,
    ) -> Result<SnapshotInfo> {
        let lsn = view.lsn();
        let _span = tracing::info_span!("snapshot", lsn = lsn.0).entered();
        self.check_not_away()?;
        // Of two that were captured one after the other, the older may get its turn last: snapshots never go back.
        let manifest = self.manifest();
        if let Some(newest) = manifest.snapshots.last().filter(|newest| newest.lsn >= lsn.0) {
            return match check_heads(&*self.direct_vfs, &self.layout, manifest.database, newest) {
                // CKP-3: what rests on a damaged file is replaced while the world is there.
                Ok(()) if newest.lsn == lsn.0 && newest_is_damaged => self.write_whole(work, view, control),
                Ok(()) => Ok(SnapshotInfo::existing(newest)),
                // It is no answer if it is not there.
                Err(e) if e.is_damage() && newest.lsn == lsn.0 => self.write_whole(work, view, control),
                Err(e) => Err(e.into()),
            };
        }
        let base = manifest.snapshots.last().map_or(0, |newest| newest.base);
        // Not the files that it has blocks in: while one of them is the full one's, all snapshots since that are needed (CKP-3), and the log.
        let chain = manifest.snapshots.iter().filter(|entry| entry.sequence >= base).count();
        let of_world = work.of_world;
        let newest = self.newest(work)?.filter(|newest| {
            of_world == Some(newest.sequence)
                && !newest_is_damaged
                && chain.max(newest.directory.files.len()) < self.settings().chain_max
        });
        let parent = newest.map(|newest| (newest.sequence, newest.directory.clone()));
        self.write_on(work, view, parent, |_| {}, control)
    }

    /// Writes a full snapshot, since the newest one is damaged. If that is of the same state, this one takes its place.
    pub(crate) fn write_whole(&self, work: &mut Work, view: View, control: &Control) -> Result<SnapshotInfo> {
        if self.newest_lsn() > view.lsn() {
            // CKP-3: snapshots never go back. Whoever took this one since knew what is damaged.
            return self.write_snapshot(work, view, control);
        }
        self.check_not_away()?;
        let takes_its_place = self.newest_lsn() == view.lsn();
        let replace = |manifest: &mut Manifest| {
            if takes_its_place {
                manifest.gone.extend(manifest.snapshots.pop());
            }
        };
        self.write_on(work, view, None, replace, control)
    }

    /// Writes an increment on `parent`, or a full snapshot; `change` may change the manifest in the step that makes it the newest.
    fn write_on(
        &self,
        work: &mut Work,
        view: View,
        parent: Option<(u64, Arc<Directory>)>,
        change: impl FnOnce(&mut Manifest),
        control: &Control,
    ) -> Result<SnapshotInfo> {
        let (started, settings) = (Instant::now(), self.settings());
        let FileRef { sequence, salt, .. } = self.reserve_snapshot()?;
        let options = WriteOptions {
            database: self.manifest().database,
            sequence,
            // Not before its last transaction, wherever the clock stands by now (IO-2).
            created_unix_ns: self.log.now_unix_ns(),
            compression: settings.compression,
            threads: settings.threads,
            urgency: control.urgency(),
            parent: parent.as_ref().map(|(sequence, directory)| (*sequence, &**directory)),
            salt,
        };
        let path = self.layout.file(FileKind::Snapshot, sequence);
        let written = write(&*self.vfs, &path, view, &options, &mut control.follow())
            .inspect_err(|_| self.forget_reserved(&path, sequence))?;
        let info = SnapshotInfo::new(&written, started.elapsed());
        self.adopt(work, &written, change)?;
        work.of_world = Some(sequence);
        metrics::histogram!("ecsdb_snapshot_seconds").record(info.duration);
        metrics::counter!("ecsdb_snapshot_written_bytes_total").increment(info.bytes);
        self.note_snapshot(&info);
        self.events.send(Event::SnapshotTaken(info));
        Ok(info)
    }

    /// CKP-3, CKP-11: a snapshot goes to where those before it lie. One in a directory that has come in the place of theirs would be away itself
    /// once they are back, and the log behind it gone.
    fn check_not_away(&self) -> Result<()> {
        let (vfs, manifest) = (&*self.direct_vfs, self.manifest());
        if manifest.snapshots.is_empty() && manifest.away.is_empty() {
            return Ok(());
        }
        if self.is_one_there(manifest.snapshots.iter().rev())? {
            return Ok(());
        }
        let mut found = Manifest { snapshots: Vec::new(), ..manifest };
        bring_back(vfs, &self.layout, &mut found)?;
        if found.snapshots.is_empty() {
            return Err(Error::SnapshotsAway(self.layout.snapshot_dir().into()));
        }
        self.publish(|manifest| {
            manifest.snapshots.extend(found.snapshots);
            manifest.snapshots.sort_by_key(|entry| entry.sequence);
            manifest.away = found.away;
        })
    }

    /// Makes a written file the newest snapshot; `change` may change the manifest in the same step.
    pub(crate) fn adopt(
        &self,
        work: &mut Work,
        written: &Written,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let published = self.publish(|manifest| {
            change(manifest);
            let entry = SnapshotEntry::new(&written.header, &written.directory, written.bytes);
            manifest.gone.retain(|gone| gone.sequence != entry.sequence);
            manifest.snapshots.push(entry);
        });
        if let Err(e) = published {
            self.withdraw(written);
            return Err(e);
        }
        let (sequence, directory) = (written.header.sequence, written.directory.clone());
        work.newest = Some(Newest { sequence, directory });
        Ok(())
    }

    /// Removes a written file that no manifest names. Where it lies in what has come in the place of the snapshots' directory, an opening without that would take
    /// it up (CKP-3).
    fn withdraw(&self, written: &Written) {
        let path = self.layout.file(FileKind::Snapshot, written.header.sequence);
        let is_it =
            || Snapshot::open(&*self.direct_vfs, &path).is_ok_and(|found| found.header() == &written.header);
        if !self.is_uncertain()
            && self.is_at_home()
            && !self.manifest().uses(written.header.sequence)
            && is_it()
            && let Err(e) = self.vfs.remove(&path)
        {
            tracing::warn!(error = %e, "a snapshot that no manifest names stays");
        }
    }

    /// The newest snapshot's directory, read from its file if this process has not written it. `None` without a snapshot, or when the
    /// newest one is damaged: the next one is full then.
    pub(crate) fn newest<'w>(&self, work: &'w mut Work) -> Result<Option<&'w Newest>> {
        let Some(entry) = self.manifest().snapshots.last().copied() else { return Ok(None) };
        if work.newest.as_ref().is_none_or(|newest| newest.sequence != entry.sequence) {
            let path = self.layout.file(FileKind::Snapshot, entry.sequence);
            work.newest = match Snapshot::open(&*self.direct_vfs, &path) {
                Ok(snapshot) => Some(Newest {
                    sequence: entry.sequence,
                    directory: Arc::new(snapshot.directory().clone()),
                }),
                Err(e) if e.is_damage() => {
                    self.note_damaged(entry.sequence, &e);
                    None
                }
                Err(e) => return Err(e.into()),
            };
        }
        Ok(work.newest.as_ref())
    }

    /// A number for a snapshot file that none ever had, whatever became of the files before.
    pub(crate) fn reserve_snapshot(&self) -> Result<FileRef> {
        let file = FileRef::new(self.manifest().next_snapshot, self.direct_vfs.random_u64() as u32);
        self.publish(|manifest| {
            manifest.next_snapshot = file.sequence + 1;
            let salt = file.salt.into();
            manifest.gone.push(SnapshotEntry { salt, ..SnapshotEntry::files(file.sequence, file.sequence) });
        })?;
        Ok(file)
    }

    /// A reserved number of which no file came about, so that attempts that fail for days leave nothing behind.
    pub(crate) fn forget_reserved(&self, path: &Path, sequence: u64) {
        if matches!(self.direct_vfs.file_len(path), Ok(None)) {
            self.forget_gone(|gone| gone.sequence == sequence);
        }
    }

    /// Says that work begins, unless it was cancelled, or the directories are another database's by now.
    pub(crate) fn begin(&self, control: &Control) -> Result<(), Error> {
        control.check()?;
        self.check_owner()?;
        control.begin();
        Ok(())
    }
}
