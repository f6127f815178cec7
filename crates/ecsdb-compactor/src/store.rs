//! The files of an open database besides the log's hot end, and the one place that changes which of them count.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ecsdb_core::View;
use ecsdb_io::sync::atomic::{AtomicBool, Ordering};
use ecsdb_io::sync::{Mutex, MutexGuard};
use ecsdb_io::{DirLock, FileKind, Layout, Owner, Urgency, Vfs, is_low_thread};
use ecsdb_recovery::{check_heads, claim, fallback, log_dirs, superfluous};
use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::{Log, LogScan, Lsn};

use crate::archive::ArchivedSegment;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::event::{Event, EventSender};
use crate::info::Task;
use crate::settings::{Archiving, StoreSettings};
use crate::snapshot::Newest;
use crate::stats::Noted;
use crate::trim::{There, Trim};
use crate::turn::{Turn, Turns};

/// The snapshots, the sealed log segments and the manifest of an open database.
pub struct Store {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) archive_vfs: Arc<dyn Vfs>,
    pub(crate) direct_vfs: Arc<dyn Vfs>,
    pub(crate) layout: Layout,
    pub(crate) log: Log,
    pub(crate) events: EventSender,
    settings: Mutex<StoreSettings>,
    /// As published last. Held for moments only.
    manifest: Mutex<Manifest>,
    /// Held while a manifest is published: each is the one before with a change, and of two at a time one would be lost.
    publishing: Mutex<()>,
    /// Had by whoever changes the set of files, for as long as that takes.
    turns: Arc<Turns>,
    /// Held meanwhile.
    work: Mutex<Work>,
    /// Locked while files are deleted.
    pins: Arc<Mutex<usize>>,
    /// Which manifest is live on disk is not known: a publication failed after the rename.
    uncertain: AtomicBool,
    /// Something is still to be trimmed: it failed, or was pinned.
    owes_trim: AtomicBool,
    pub(crate) noted: Mutex<Noted>,
    pub(crate) urgency: Urgency,
    /// Those on the directories; `None` once it is closed, and nothing is written any more.
    locks: Mutex<Option<Vec<Arc<dyn DirLock>>>>,
}

/// The same files three times: scheduled in two classes where there is a scheduler, and as they are.
pub struct StoreFiles {
    /// For snapshots and the manifest.
    pub snapshot: Arc<dyn Vfs>,
    /// For the archive.
    pub archive: Arc<dyn Vfs>,
    /// For looking, which waits for nobody.
    pub direct: Arc<dyn Vfs>,
    /// The locks on their directories, that of the snapshots last.
    pub locks: Vec<Arc<dyn DirLock>>,
}

/// What only the holder of the turn to work needs.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) newest: Option<Newest>,
    /// The snapshot that has the world's own chunks, as far as they have not changed since: what the world was loaded from, or what was last written of
    /// it. Only on this one an increment can be (CKP-5).
    pub(crate) of_world: Option<u64>,
    /// The snapshot that was found whole, to fall back to.
    fallback: Option<u64>,
    /// Those that were not, and were reported.
    doubted: Vec<u64>,
    /// The first files of chains in which a block was found damaged: none of their snapshots is fallen back on (CKP-3).
    rotten: Vec<u64>,
    /// The archived segments, once they were listed.
    pub(crate) archived: Option<Vec<ArchivedSegment>>,
    /// The lock on the archive, once there was something to archive.
    pub(crate) archive_lock: Option<Arc<dyn DirLock>>,
    pub(crate) hole_reported: bool,
    /// Files that the medium did not give when they were to be archived, and how often.
    pub(crate) not_given: HashMap<PathBuf, u32>,
}

impl Work {
    /// A block of the newest snapshot was found damaged: nothing goes on from it.
    pub(crate) fn doubt_newest(&mut self, manifest: &Manifest) {
        (self.of_world, self.fallback) = (None, None);
        self.rotten.extend(manifest.snapshots.last().map(|newest| newest.base));
    }
}

/// While one lives, no file is deleted: for whoever reads them.
#[derive(Debug)]
pub struct Pin(Arc<Mutex<usize>>);

impl Drop for Pin {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

impl Store {
    /// The store of a database that recovery has just opened. `urgency` says whether somebody waits for some of its work.
    pub fn new(
        files: StoreFiles,
        layout: Layout,
        log: Log,
        manifest: Manifest,
        settings: StoreSettings,
        events: EventSender,
        urgency: Urgency,
    ) -> Store {
        Store {
            vfs: files.snapshot,
            archive_vfs: files.archive,
            direct_vfs: files.direct,
            layout,
            log,
            events,
            settings: Mutex::new(settings),
            manifest: Mutex::new(manifest),
            publishing: Mutex::default(),
            turns: Arc::default(),
            work: Mutex::default(),
            pins: Arc::default(),
            uncertain: AtomicBool::new(false),
            owes_trim: AtomicBool::new(false),
            noted: Mutex::default(),
            urgency,
            locks: Mutex::new(Some(files.locks)),
        }
    }

    /// Says which snapshot the world was loaded from. An increment shares what has not changed since, and chunks of the same number in a world that was
    /// made otherwise, from the log alone say, may have their rows in another order. Without this the next snapshot is a full one. And whether other
    /// settings hold from here on, by which there is something to be trimmed.
    pub fn goes_on_from(self, snapshot: Option<u64>, owes_trim: bool) -> Store {
        self.work.lock().of_world = snapshot;
        self.owes_trim.store(owes_trim, Ordering::Release);
        self
    }

    /// The control handle of work in the background that begins.
    pub fn control(&self, task: Task) -> Control {
        Control::with(task, self.events.clone(), self.urgency.clone(), self.turns.clone())
    }

    /// Whether somebody waits for some of its work.
    pub fn urgency(&self) -> &Urgency {
        &self.urgency
    }

    /// Where the files lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where its events go.
    pub fn events(&self) -> &EventSender {
        &self.events
    }

    /// The settings in force.
    pub fn settings(&self) -> StoreSettings {
        self.settings.lock().clone()
    }

    /// Changes the settings; what comes next goes by the new ones. What they keep less of is owed to be trimmed.
    pub fn set_settings(&self, settings: StoreSettings) {
        let mut before = self.settings.lock();
        if (before.retention, before.archive) != (settings.retention, settings.archive) {
            self.owes_trim.store(true, Ordering::Release);
        }
        *before = settings;
    }

    /// The manifest that was published last.
    pub fn manifest(&self) -> Manifest {
        self.manifest.lock().clone()
    }

    /// Keeps all files that are there from being deleted while the pin lives. What becomes superfluous meanwhile goes with the next change
    /// after.
    pub fn pin(&self) -> Pin {
        *self.pins.lock() += 1;
        Pin(self.pins.clone())
    }

    /// The turn to work, with what only its holder needs.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), as soon as that is so; or as [`Store::begin`].
    pub(crate) fn turn(&self, control: &Control) -> Result<(Turn<'_>, MutexGuard<'_, Work>)> {
        let turn = control.turn(&self.turns)?;
        let work = self.work.lock();
        self.begin(control)?;
        Ok((turn, work))
    }

    pub(crate) fn try_work(&self) -> Option<MutexGuard<'_, Work>> {
        self.work.try_lock()
    }

    /// True while it is not known which manifest is live on disk.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.uncertain.load(Ordering::Acquire)
    }

    /// Publishes the manifest with a change. What the store goes by is what was published.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        self.publish_to(&*self.vfs, change)
    }

    fn publish_to(&self, vfs: &dyn Vfs, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        debug_assert!(!is_low_thread(), "others would wait for a thread that gets a core last");
        let _one = self.publishing.lock();
        self.check_owner()?;
        let mut next = self.manifest();
        change(&mut next);
        // CKP-11: what was said holds until something else is said, whatever comes of this.
        next.kept = self.settings().said(next.kept);
        next.next_segment = next.next_segment.max(self.log.segment() + 1);
        next.log_mark = self.log.mark().unwrap_or(next.log_mark);
        let durable = self.log.durable_lsn().0;
        if next.salvage == 0 {
            next.durable_lsn = durable;
        }
        next.seen_lsn = next.seen_lsn.max(durable);
        let before = next.generation;
        let published = next.publish(vfs, &self.layout);
        // Removing an older generation may fail when the new one is live already.
        self.uncertain.store(next.generation == before, Ordering::Release);
        if next.generation != before {
            *self.manifest.lock() = next;
        }
        Ok(published?)
    }

    /// The next manifest says no more that these were given up: they are not there.
    pub(crate) fn forget_gone(&self, is_gone: impl Fn(&SnapshotEntry) -> bool) {
        let _one = self.publishing.lock();
        self.manifest.lock().gone.retain(|entry| !is_gone(entry));
    }

    /// Refuses to go on where another database lies by now, or nothing: a directory that is away is back one day, and knows nothing of what was
    /// done without it (CKP-11); or where another process may have this one open (REC-12).
    pub(crate) fn check_owner(&self) -> Result<()> {
        let mut manifest = self.manifest();
        for dir in [self.layout.log_dir(), self.layout.snapshot_dir()] {
            Owner::check_claimed(&*self.direct_vfs, dir, manifest.database)?;
        }
        while let Err(e) = manifest.check_there(&*self.direct_vfs, &self.layout) {
            // Looked for beside whoever publishes: it goes once the next but one is there.
            let newer = self.manifest();
            if newer.generation == manifest.generation {
                return Err(e.into());
            }
            manifest = newer;
        }
        let mut locks = self.locks.lock();
        let locks = locks.as_mut().ok_or(Error::Cancelled)?;
        let Some((snapshots, others)) = locks.split_last_mut() else { return Ok(()) };
        others.iter().try_for_each(|lock| lock.check())?;
        if snapshots.check().is_err() {
            // Where snapshots were away at the opening and are mounted again, it is another lock that is to be held. CKP-3: but not on what has come in
            // their place.
            self.check_some_snapshot(&manifest)?;
            *snapshots =
                claim(&*self.direct_vfs, &self.layout, self.layout.snapshot_dir(), manifest.database)?;
        }
        Ok(())
    }

    /// Whether the database's own directory and that of the log are those that this process has locked, wherever its snapshots are.
    pub(crate) fn is_at_home(&self) -> bool {
        let locks = self.locks.lock();
        let others = locks.as_deref().and_then(<[_]>::split_last).map_or(&[][..], |(_, others)| others);
        others.iter().all(|lock| lock.check().is_ok())
            && self.manifest().check_there(&*self.direct_vfs, &self.layout).is_ok()
    }

    /// Refuses a directory of snapshots in which there is none, though there should be.
    fn check_some_snapshot(&self, manifest: &Manifest) -> Result<()> {
        let Manifest { snapshots, away, .. } = manifest;
        let is_none = snapshots.is_empty() && away.is_empty();
        if is_none || self.is_one_there(snapshots.iter().chain(away))? {
            return Ok(());
        }
        Err(Error::SnapshotsAway(self.layout.snapshot_dir().into()))
    }

    /// Whether the file of one of these snapshots is where it should be.
    pub(crate) fn is_one_there<'e>(
        &self,
        entries: impl IntoIterator<Item = &'e SnapshotEntry>,
    ) -> Result<bool> {
        for entry in entries {
            let path = self.layout.file(FileKind::Snapshot, entry.sequence);
            if self.direct_vfs.file_len(&path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Publishes what the settings say of the past, if no manifest says so yet (CKP-11). Waits for a manifest that is just being published, and for no other work.
    ///
    /// # Errors
    /// When the manifest cannot be published.
    pub fn note_settings(&self) -> Result<()> {
        let said = self.manifest().kept;
        if self.settings().said(said) == said { Ok(()) } else { self.publish_to(&*self.direct_vfs, |_| {}) }
    }

    /// Publishes how far the log has come, if no manifest says so yet: what is missing of it at the next opening is then seen.
    ///
    /// # Errors
    /// When the manifest cannot be published; nothing else changes then.
    pub fn note_log(&self) -> Result<()> {
        let manifest = self.manifest();
        if manifest.durable_lsn < self.log.durable_lsn().0 || manifest.next_segment <= self.log.segment() {
            self.publish(|_| {})?;
        }
        self.note_settings()
    }

    /// Ends a salvage, if one is under way: one full snapshot takes the place of all that was there before, and that is set aside, as
    /// a database directory of its own (REC-17). It can be interrupted, and is taken up again where it stopped.
    ///
    /// # Errors
    /// As [`Store::compact`].
    pub fn end_salvage(&self, capture: impl Fn() -> Result<View>, control: &Control) -> Result<()> {
        if self.manifest().salvage != 0 {
            // A full one from the start: an increment would be set aside with what was there before, and say that there was more.
            self.work.lock().of_world = None;
            self.compact(capture, true, control)?;
            self.publish(|manifest| {
                manifest.salvage = 0;
                // What is archived from here on is wanted; what was before stays where it is.
                manifest.salvaged_segments = manifest.first_segment;
            })?;
        }
        Ok(())
    }

    /// Lets go of the directories. Nothing may be written afterwards.
    pub fn close(&self) {
        self.work.lock().archive_lock = None;
        // Not in the middle of a manifest.
        let _one = self.publishing.lock();
        *self.locks.lock() = None;
    }

    /// Archives and deletes what the settings and recovery have no more use for, if that is [owed](Store::owes_trim).
    ///
    /// # Errors
    /// When a file operation fails. It is taken up again where it stopped.
    pub fn trim(&self, control: &Control) -> Result<()> {
        let (_turn, mut work) = self.turn(control)?;
        // Whoever was at work until now may have come to the end of it.
        if self.owes_trim() { self.trim_to(&mut work, false) } else { Ok(()) }
    }

    /// As [`Store::trim`], after something that has succeeded: its failure is not that one's. It is tried again by whoever asks
    /// [`Store::owes_trim`].
    pub(crate) fn trim_after(&self, work: &mut Work) {
        if let Err(e) = self.trim_to(work, false) {
            let retry_in = Some(std::time::Duration::ZERO);
            self.events.send(Event::Failed { task: Task::Retention, error: e.to_string(), retry_in });
        }
    }

    /// True when archiving and deleting has not come to its end: it failed, or a [`Pin`] kept files from being deleted.
    pub fn owes_trim(&self) -> bool {
        self.owes_trim.load(Ordering::Acquire)
    }

    /// Keeps the snapshots from the one on that recovery falls back on (after a compaction that is the newest), the log after it, and what the
    /// settings say beyond that.
    pub(crate) fn trim_to(&self, work: &mut Work, is_compaction: bool) -> Result<()> {
        let trimmed = self.trim_files(work, is_compaction);
        // Whoever asks while the next piece of work is under way is told of how this one ended.
        self.look(work);
        trimmed
    }

    fn trim_files(&self, work: &mut Work, is_compaction: bool) -> Result<()> {
        let _span = tracing::info_span!("retention").entered();
        self.owes_trim.store(true, Ordering::Release);
        let settings = self.settings();
        self.note_settings()?;
        let manifest = self.manifest();
        // CKP-3: what the fallback snapshot does not hold is needed by recovery.
        let fallback = self.fallback(work, &manifest.snapshots, is_compaction)?;
        let covered = fallback.map_or(Lsn::ZERO, |entry| Lsn(entry.lsn));
        let [log, archive] = log_dirs(&self.layout, &manifest);
        // CKP-3: the log says which segment it has come to. A header beyond that is seen, but was not synced, and perhaps never will be.
        let mut first_segment = LogScan::first_needed(&*self.direct_vfs, &[log], covered)?
            .min(self.log.segment())
            .max(manifest.first_segment);
        // A salvage sets the log aside as it was.
        let archives = settings.kept(manifest.kept).archive != 0 && manifest.salvage == 0;
        // REC-14, CKP-7: what the archive does not take stays in the log, and keeps nothing else waiting. It is told at the end.
        let mut refused = Ok(());
        if archives {
            (first_segment, refused) = self.archive_below(work, first_segment);
            if refused.is_ok() {
                refused = self.report_hole(work, first_segment);
            }
        } else if settings.archive == Archiving::Off
            && manifest.salvage == 0
            && let Err(e) = self.list_counted(work, first_segment)
        {
            tracing::warn!(error = %e, "the archive cannot be looked at");
        }
        let (snapshot_sizes, now_unix_ns) = (self.snapshot_sizes()?, self.log.now_unix_ns());
        let nothing = Vec::new();
        // CKP-10: nor is anything given up in one that somebody else may have.
        let is_had = !archives || work.archive_lock.is_some();
        let archived = match self.archived(work) {
            Ok(archived) if is_had => archived,
            // REC-14: nothing goes there now. CKP-11: nothing is given up that nobody has seen, but by a setting that says so.
            unseen => {
                if let Err(e) = unseen {
                    tracing::warn!(error = %e, "the archive cannot be looked at");
                    refused = if archives { refused.and(Err(e)) } else { refused };
                }
                if archives {
                    // CKP-3: without the list nobody tells from where on the past is in the archive.
                    first_segment = manifest.first_segment;
                }
                &nothing
            }
        };
        let mut next = manifest.clone();
        if archives || settings.archive == Archiving::Off {
            next.note_archived(archived.last().map_or(0, |last| last.number + 1));
        }
        let there = There {
            manifest: &manifest,
            fallback,
            first_segment,
            archived,
            archive_first: archive.first,
            snapshot_sizes: &snapshot_sizes,
            now_unix_ns,
        };
        let Trim { first_snapshot, gone, first_archived } = Trim::of(&settings, &there);
        next.give_up_archive_before(first_archived);
        next.first_segment = first_segment;
        if !archives && manifest.salvage == 0 && archived.is_empty() && first_segment > manifest.first_segment
        {
            // CKP-11: the log goes on without a copy, and what is in an archive that is away leads to it no more. It stays, and does not count.
            next.first_archived = next.first_archived.max(next.archive_end);
        }
        if self.is_uncertain() || gone || next != manifest {
            // CKP-4: the manifest first, then the deletions.
            self.publish(|manifest| {
                manifest.give_up_before(first_snapshot);
                manifest.first_segment = next.first_segment;
                manifest.first_archived = next.first_archived;
                manifest.archive_end = next.archive_end;
                manifest.archive_gone = next.archive_gone;
            })?;
        }
        let removed = self.remove_garbage(work, is_had);
        refused?;
        if removed? {
            // What has been changed meanwhile is trimmed by itself.
            let settings_now = self.settings.lock();
            if *settings_now == settings {
                self.owes_trim.store(false, Ordering::Release);
            }
        }
        Ok(())
    }

    /// The snapshot that recovery falls back on. CKP-3: the log goes by what was looked at.
    fn fallback(
        &self,
        work: &mut Work,
        snapshots: &[SnapshotEntry],
        is_compaction: bool,
    ) -> Result<Option<SnapshotEntry>> {
        let database = self.manifest().database;
        fallback(snapshots, is_compaction, |entry| {
            if work.rotten.contains(&entry.base) {
                return Ok(false);
            }
            if work.fallback == Some(entry.sequence) {
                return Ok(true);
            }
            match check_heads(&*self.direct_vfs, &self.layout, database, entry) {
                Ok(()) => {
                    work.fallback = Some(entry.sequence);
                    Ok(true)
                }
                Err(e) if e.is_damage() => {
                    if !work.doubted.contains(&entry.sequence) {
                        work.doubted.push(entry.sequence);
                        let error = format!("{e}; the log behind it is kept");
                        self.events.send(Event::Failed { task: Task::Retention, error, retry_in: None });
                    }
                    Ok(false)
                }
                Err(e) => Err(e.into()),
            }
        })
    }

    /// Deletes what the published manifest does not need, what earlier attempts left over included; in the archive, if that is had. False while
    /// something has to wait.
    ///
    /// # Errors
    /// What kept a file from being deleted. All others are.
    fn remove_garbage(&self, work: &mut Work, is_archive_had: bool) -> Result<bool> {
        // Held until they are gone: a pin taken meanwhile sees only what stays.
        let pins = self.pins.lock();
        if *pins > 0 || self.is_uncertain() {
            return Ok(false);
        }
        let manifest = self.manifest();
        let (mut files, mut bytes) = (0, 0);
        let mut superfluous = superfluous(&*self.direct_vfs, &self.layout, &manifest)?;
        if !is_archive_had {
            superfluous.garbage.retain(|file| file.path.parent() != Some(self.layout.archive_dir()));
        }
        let mut failed = None;
        superfluous.dispose(&*self.vfs, &self.layout, &manifest, |file, disposed| {
            match disposed {
                Ok(Some(_)) => {}
                Ok(None) => (files, bytes) = (files + 1, bytes + file.bytes),
                Err(e) => failed = failed.take().or(Some(e)),
            }
            Ok(())
        })?;
        let still = superfluous.still_gone(&manifest);
        self.forget_gone(|entry| manifest.gone.contains(entry) && !still.contains(entry));
        if let Some(archived) = &mut work.archived {
            archived.retain(|segment| segment.number >= manifest.first_archived);
        }
        drop(pins);
        if files > 0 {
            metrics::counter!("ecsdb_removed_bytes_total").increment(bytes);
            self.events.send(Event::Removed { files, bytes });
        }
        failed.map_or(Ok(true), |e| Err(e.into()))
    }
}
