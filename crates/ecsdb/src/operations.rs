//! Work in the background: snapshots, compaction, backups, going back, and what tells of it.

use std::path::PathBuf;
use std::sync::Arc;

use ecsdb_compactor::{CompactionInfo, EventSender, Events, SnapshotInfo, Task};
use ecsdb_core::View;
use ecsdb_recovery::{Moment, Step, Verified};
use ecsdb_snapshot::SnapshotEntry;
use ecsdb_wal::Lsn;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::maintenance::Maintenance;
use crate::persistence::Persistence;
use crate::restore;
use crate::stats::Stats;

impl Database {
    /// Begins a snapshot of the world as of now, in the background. Afterwards what it makes superfluous is archived and deleted, as
    /// the settings say.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// db.write(|tx| Ok(tx.spawn(())))?;
    /// let info = db.snapshot()?.wait()?; // or `.await`
    /// assert_eq!(info.lsn, db.lsn());
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InMemory`], [`Error::Closed`], or when the thread cannot be started.
    pub fn snapshot(&self) -> Result<Job<SnapshotInfo>> {
        self.with_files("snapshot", |persistence| {
            let (store, view) = (persistence.store.clone(), persistence.world.capture()?);
            persistence.job(Task::Snapshot, move |control| Ok(store.snapshot(view, control)?))
        })
    }

    /// The snapshots that can be gone back to, oldest first.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let info = db.snapshot()?.wait()?;
    /// assert_eq!(db.snapshots()?.last().unwrap().sequence, info.sequence);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InMemory`], or [`Error::Closed`].
    pub fn snapshots(&self) -> Result<Vec<SnapshotEntry>> {
        self.with_files("list", |persistence| Ok(persistence.store.manifest().snapshots))
    }

    /// Reads and checks every file of this database while it goes on, and changes nothing. Nothing is deleted meanwhile. What is being
    /// written just now is no fault. For a database that nobody has open there is [`verify`](crate::verify). O(bytes).
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// db.write(|tx| Ok(tx.spawn(())))?;
    /// assert!(db.verify(|step| eprintln!("{step}"))?.faults.is_empty());
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::snapshots`], also when it is closed meanwhile, or when a file operation fails. Damage is in the result.
    pub fn verify(&self, mut progress: impl FnMut(&Step)) -> Result<Verified> {
        self.with_files("verify", |persistence| restore::verify_running(persistence, &mut progress))
    }

    /// Begins a compaction in the background: sparse chunks in memory are merged, the log is folded into a snapshot, the chain of
    /// increments is merged into one full file, and everything that this covers is deleted, the older snapshots included, as far as
    /// the retention settings do not keep them. Nobody waits for it.
    ///
    /// # Errors
    /// As [`Database::snapshot`].
    pub fn compact(&self) -> Result<Job<CompactionInfo>> {
        self.with_files("compact", |persistence| {
            let (store, world) = (persistence.store.clone(), persistence.world.clone());
            persistence.job(Task::Compaction, move |control| {
                world.compact_chunks(control)?;
                Ok(store.compact(|| Ok(world.capture()?), true, control)?)
            })
        })
    }

    /// Begins writing the world as of now into the directory `path`, as a database of its own which opens by itself. The directory
    /// must be empty or not there.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path().join("world"))?;
    /// db.write(|tx| Ok(tx.spawn(())))?;
    /// db.backup_to(dir.path().join("backup"))?.wait()?;
    /// assert_eq!(Database::open(dir.path().join("backup"))?.view()?.len(), 1);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::snapshot`].
    pub fn backup_to(&self, path: impl Into<PathBuf>) -> Result<Job<SnapshotInfo>> {
        self.with_files("back up", |persistence| {
            let (store, view) = (persistence.store.clone(), persistence.world.capture()?);
            let layout = restore::other(&*persistence.recovery_vfs, path)?;
            persistence.job(Task::Copy, move |control| Ok(store.copy_to(&layout, view, control)?))
        })
    }

    /// Begins bringing the world back to an earlier moment of its own past, as one more transaction: what happened since is undone,
    /// and is still there to be gone back to. Gives the LSN of that transaction, which is durable then.
    ///
    /// The earlier world is put together in the background; writers wait only while it is compared with the present one and the difference
    /// applied. Ids of entities that were made since become invalid, and may be given out again.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let ship = db.write(|tx| Ok(tx.spawn(())))?;
    /// let before = db.lsn();
    /// db.write(|tx| Ok(tx.despawn(ship)?))?;
    /// db.restore(Moment::Lsn(before))?.wait()?;
    /// assert!(db.view()?.contains(ship));
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::snapshot`]. The job fails when the moment is not among what is retained (the error names the range), or when the
    /// difference is larger than `wal.transaction_bytes_max`.
    pub fn restore(&self, moment: Moment) -> Result<Job<Lsn>> {
        self.with_files("restore", |persistence| restore::into_running(persistence, None, moment))
    }

    /// Begins building a view of the world as it was at an earlier moment of its own past, in the background, out of snapshots and log. Nothing is
    /// written, and the running world does not notice. It takes as much memory as that world had. O(bytes).
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let ship = db.write(|tx| Ok(tx.spawn(())))?;
    /// let before = db.lsn();
    /// db.write(|tx| Ok(tx.despawn(ship)?))?;
    /// let past = db.view_at(Moment::Lsn(before))?.wait()?;
    /// assert!(past.contains(ship) && !db.view()?.contains(ship));
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::restore`].
    pub fn view_at(&self, moment: Moment) -> Result<Job<View>> {
        self.with_files("view the past", |persistence| restore::into_view(persistence, moment))
    }

    /// As [`Database::restore`], from another database's directory: a backup. Nobody else may have it open.
    ///
    /// # Errors
    /// As [`Database::restore`]; components must have the same layout in both.
    pub fn restore_from(&self, path: impl Into<PathBuf>, moment: Moment) -> Result<Job<Lsn>> {
        self.with_files("restore", |persistence| {
            restore::into_running(persistence, Some(path.into()), moment)
        })
    }

    /// Begins writing the world as it was at an earlier moment into the directory `path`, as a database of its own. The running
    /// database goes on as it is.
    ///
    /// # Errors
    /// As [`Database::restore`] and [`Database::backup_to`].
    pub fn restore_to(&self, path: impl Into<PathBuf>, moment: Moment) -> Result<Job<SnapshotInfo>> {
        self.with_files("restore", |persistence| restore::into_directory(persistence, path.into(), moment))
    }

    /// Ends the log segment under way, so that it can be archived; it is the next snapshot that does so.
    ///
    /// # Errors
    /// [`Error::InMemory`], or when the log failed.
    pub fn rotate_log(&self) -> Result<()> {
        self.with_files("rotate", |persistence| Ok(persistence.log.rotate()?))
    }

    /// What happens in the background, from here on. In memory nothing ever does.
    ///
    /// ```
    /// # use ecsdb::{Event, prelude::*};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let mut events = db.events();
    /// db.write(|tx| Ok(tx.spawn(())))?;
    /// db.snapshot()?.wait()?;
    /// while let Some(event) = events.blocking_next() {
    ///     if let Event::SnapshotTaken(info) = event {
    ///         println!("snapshot {} has {} bytes", info.sequence, info.bytes);
    ///         break;
    ///     }
    /// }
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    pub fn events(&self) -> Events {
        match &self.inner.persistence {
            Some(persistence) => persistence.events.listen(),
            None => EventSender::default().listen(),
        }
    }

    /// One look at everything. O(chunks + files): for a display or a log, not for each tick.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// db.write(|tx| Ok(tx.spawn(())))?;
    /// let stats = db.stats()?;
    /// assert_eq!((stats.entities, stats.lsn, stats.durable_lsn), (1, Lsn(1), Lsn(1)));
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// When a directory cannot be listed, as [`Database::view`], or [`Error::Closed`].
    pub fn stats(&self) -> Result<Stats> {
        match &self.inner.persistence {
            Some(_) => self.with_files("look at", |persistence| self.look(Some(persistence))),
            None => self.look(None),
        }
    }

    fn look(&self, persistence: Option<&Persistence>) -> Result<Stats> {
        let view = self.inner.fresh_view()?;
        Ok(Stats {
            entities: view.len(),
            live_bytes: view.live_bytes(),
            memory_bytes: ecsdb_core::memory_in_use(),
            sparse_fraction: view.sparsity(),
            lsn: view.lsn(),
            durable_lsn: self.durable_lsn(),
            last_stall: self.inner.world.last_stall(),
            earliest: persistence.and_then(Persistence::earliest),
            log: persistence.map(|persistence| persistence.log.stats()),
            store: persistence.map(|persistence| persistence.store.stats()).transpose()?,
            io: persistence.and_then(|persistence| Some(persistence.scheduler.as_ref()?.stats())),
        })
    }

    /// Holds the snapshots and compactions that happen by themselves until [`Database::resume_background`]; one under way is given
    /// up, and begun again then. The log grows meanwhile. In memory there are none.
    pub fn pause_background(&self) {
        if let Some(maintenance) = self.maintenance() {
            maintenance.pause();
        }
    }

    /// Lets snapshots and compactions happen by themselves again.
    pub fn resume_background(&self) {
        if let Some(maintenance) = self.maintenance() {
            maintenance.resume();
        }
    }

    fn maintenance(&self) -> Option<&Maintenance> {
        self.inner.check_process().ok()?;
        self.inner.persistence.as_ref()?.maintenance.as_ref()
    }

    /// Does something with what the database has on disk. When it is closed meanwhile its files are not its own any more, and whatever is
    /// wrong with them then, or not, is no word about it: that is [`Error::Closed`].
    pub(crate) fn with_files<T>(
        &self,
        purpose: &'static str,
        with: impl FnOnce(&Arc<Persistence>) -> Result<T>,
    ) -> Result<T> {
        let done = with(self.persistence(purpose)?);
        self.inner.not_closed()?;
        done
    }

    fn persistence(&self, purpose: &'static str) -> Result<&Arc<Persistence>> {
        if self.inner.read_only.is_some() {
            return Err(Error::ReadOnly(purpose));
        }
        let persistence = self.inner.persistence.as_ref().ok_or(Error::InMemory(purpose))?;
        self.inner.check_process()?;
        self.inner.not_within_a_transaction()?;
        self.inner.not_closed()?;
        Ok(persistence)
    }
}
