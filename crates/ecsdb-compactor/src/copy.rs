//! A world as a database directory of its own, which opens by itself: backups, and moments gone back to.

use std::path::Path;
use std::sync::Arc;

use ecsdb_core::View;
use ecsdb_io::sync::Instant;
use ecsdb_io::{
    FileKind, Layout, Owner, Priority, Scheduler, SchedulerOptions, Vfs, create_dir_durably,
    remove_temporaries,
};
use ecsdb_snapshot::{Kept, Manifest, SnapshotEntry, WriteOptions, write};

use crate::claim::Claim;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::info::SnapshotInfo;
use crate::settings::StoreSettings;
use crate::store::Store;

impl Store {
    /// Writes `view` into the directory of `layout`, as [`write_database`] does, on this store's schedule and with its settings.
    ///
    /// # Errors
    /// As [`write_database`].
    pub fn copy_to(&self, layout: &Layout, view: View, control: &Control) -> Result<SnapshotInfo> {
        self.begin(control)?;
        refuse_within(&self.layout, layout)?;
        self.until_durable(&view)?;
        let kept = self.manifest().kept;
        let info = write_database(self.vfs.clone(), layout, view, &self.settings(), kept, control)?;
        self.events.send(Event::Copied(info));
        Ok(info)
    }
}

/// Files for a copy of a database that is not open here, whose scheduler would see to the rate.
pub struct Limited(Arc<dyn Vfs>);

impl Limited {
    /// The files of `vfs`, which are read and written at most at this rate; `None` for as fast as they are, and so once the work under
    /// `control`, which has begun, is cancelled.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        bytes_per_second: Option<u64>,
        control: &Control,
    ) -> std::io::Result<Limited> {
        if bytes_per_second.is_none() {
            return Ok(Limited(vfs));
        }
        let options = SchedulerOptions { urgency: control.urgency().clone(), ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(options)?;
        scheduler.set_rate_limit(Priority::Snapshot, bytes_per_second);
        Ok(Limited(scheduler.vfs(vfs, Priority::Snapshot)))
    }

    /// The files.
    pub fn vfs(&self) -> Arc<dyn Vfs> {
        self.0.clone()
    }
}

/// Refuses to write a copy of the database in `own` into one of its own directories.
///
/// # Errors
/// [`Error::TargetWithin`].
pub fn refuse_within(own: &Layout, copy: &Layout) -> Result<()> {
    let within = |dir: &Path| copy.root().starts_with(dir) || dir.starts_with(copy.root());
    if within(own.root()) || own.data_dirs().into_iter().any(within) {
        return Err(Error::TargetWithin(copy.root().into()));
    }
    Ok(())
}

/// Writes `view` into the directory of `layout` as a new database: one full snapshot and a manifest. It has an identity of its
/// own, since from here on it has a history of its own: log segments of the original never count as its. LSNs go on after the
/// view's. What was noted of retention and archive of the original, `kept`, and what the settings say of them goes on to hold there (CKP-11).
/// The manifest comes last, so a copy that was interrupted is not taken for a database. O(bytes).
///
/// # Errors
/// As [`Claim::take`], or when it fails or is cancelled: the place says that it is unfinished then, and can be had for another attempt.
pub fn write_database(
    vfs: Arc<dyn Vfs>,
    layout: &Layout,
    view: View,
    settings: &StoreSettings,
    kept: Kept,
    control: &Control,
) -> Result<SnapshotInfo> {
    Claim::take(vfs, layout, &layout.unfinished_file())?.write(view, settings, kept, control)
}

impl Claim<'_> {
    /// Makes everything of a copy but what it holds: from here on the place says that it is unfinished, and what an earlier attempt left is gone.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn begin(&self) -> Result<Manifest> {
        let (files, layout) = (self.files(), self.layout);
        let vfs: &dyn Vfs = &files;
        // From here on until it is removed, the directory is neither a database nor free for a new one.
        if !self.unfinished {
            vfs.create(&layout.unfinished_file())?;
        }
        vfs.sync_dir(layout.root())?;
        remove_temporaries(vfs, layout.root(), &[FileKind::Manifest])?;
        let dirs = [layout.snapshot_dir(), layout.log_dir()];
        dirs.into_iter().try_for_each(|dir| create_dir_durably(vfs, dir))?;
        let path = layout.file(FileKind::Snapshot, 1);
        if self.unfinished && vfs.file_len(&path)?.is_some() {
            vfs.remove(&path)?;
        }
        let manifest = Manifest { next_snapshot: 2, ..Manifest::with_new_identity(vfs) };
        for dir in dirs {
            remove_temporaries(vfs, dir, &[FileKind::Snapshot])?;
            Owner::new(manifest.database, layout.root()).write(vfs, dir)?;
        }
        Ok(manifest)
    }

    /// As [`write_database`].
    ///
    /// # Errors
    /// When it fails or is cancelled; the place says that it is unfinished then.
    pub fn write(
        &self,
        view: View,
        settings: &StoreSettings,
        kept: Kept,
        control: &Control,
    ) -> Result<SnapshotInfo> {
        let started = Instant::now();
        let (files, layout) = (self.files(), self.layout);
        let vfs: &dyn Vfs = &files;
        let _span = tracing::info_span!("copy", to = %layout.root().display()).entered();
        let path = layout.file(FileKind::Snapshot, 1);
        let lsn = view.lsn().0;
        let kept = settings.said(kept);
        let mut manifest = Manifest { durable_lsn: lsn, seen_lsn: lsn, kept, ..self.begin()? };
        let options = WriteOptions {
            database: manifest.database,
            sequence: 1,
            created_unix_ns: vfs.now_unix_ns(),
            compression: settings.compression,
            threads: settings.threads,
            urgency: control.urgency(),
            salt: vfs.random_u64() as u32,
            parent: None,
        };
        let written = write(vfs, &path, view, &options, &mut control.follow())?;
        // It was read back since the last step, which can take as long as writing it.
        if let Err(e) = control.check() {
            vfs.remove(&path)?;
            return Err(e);
        }
        manifest.snapshots.push(SnapshotEntry::new(&written.header, &written.directory, written.bytes));
        manifest.publish(vfs, layout)?;
        vfs.remove(&layout.unfinished_file())?;
        vfs.sync_dir(layout.root())?;
        Ok(SnapshotInfo::new(&written, started.elapsed()))
    }
}
