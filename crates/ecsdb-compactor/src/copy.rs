//! A world as a database directory of its own, which opens by itself: backups, and moments gone back to.

use std::time::Instant;

use ecsdb_core::View;
use ecsdb_io::{DirEntry, FileKind, Layout, TEMPORARY_SUFFIX, Vfs, create_dir_durably, remove_temporaries};
use ecsdb_snapshot::{Manifest, SnapshotEntry, WriteOptions, write};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::settings::StoreSettings;
use crate::snapshot::SnapshotInfo;
use crate::store::Store;

impl Store {
    /// Writes `view` into the directory of `layout`, as [`write_database`] does, on this store's schedule and with its settings.
    ///
    /// # Errors
    /// As [`write_database`].
    pub fn copy_to(&self, layout: &Layout, view: View, control: &Control) -> Result<SnapshotInfo> {
        self.begin(control)?;
        let own = [
            self.layout.root(),
            self.layout.log_dir(),
            self.layout.snapshot_dir(),
            self.layout.archive_dir(),
        ];
        if own.iter().any(|dir| layout.root().starts_with(dir)) {
            return Err(Error::TargetWithin(layout.root().into()));
        }
        // A copy holds nothing whose commit may still be reported as failed.
        self.log.wait(view.lsn())?;
        let info = write_database(&*self.vfs, layout, view, &self.settings(), control)?;
        self.events.send(Event::Copied(info));
        Ok(info)
    }
}

/// What an attempt that was cancelled or interrupted leaves: everything but a manifest.
fn is_leftover(layout: &Layout, entry: &DirEntry) -> bool {
    let path = layout.root().join(&entry.name);
    path == layout.lock_file()
        || entry.name.ends_with(TEMPORARY_SUFFIX)
        || (entry.is_dir && (path == layout.snapshot_dir() || path == layout.log_dir()))
}

/// Writes `view` into the directory of `layout` as a new database: one full snapshot and a manifest. It has an identity of its
/// own, since from here on it has a history of its own: log segments of the original never count as its. LSNs go on after the
/// view's. The manifest comes last, so a copy that was interrupted is not taken for a database. O(bytes).
///
/// # Errors
/// [`Error::TargetNotEmpty`], or when it fails or is cancelled: what was written so far is removed as far as possible.
pub fn write_database(
    vfs: &dyn Vfs,
    layout: &Layout,
    view: View,
    settings: &StoreSettings,
    control: &Control,
) -> Result<SnapshotInfo> {
    let started = Instant::now();
    let _span = tracing::info_span!("copy", to = %layout.root().display()).entered();
    let root = layout.root();
    if vfs.file_len(root)?.is_some() && !vfs.read_dir(root)?.iter().all(|entry| is_leftover(layout, entry)) {
        return Err(Error::TargetNotEmpty(root.into()));
    }
    for dir in [root, layout.snapshot_dir(), layout.log_dir()] {
        create_dir_durably(vfs, dir)?;
    }
    let _lock = vfs.try_lock(&layout.lock_file(), "a copy being written")?;
    // Whatever else is in there than an earlier attempt's leavings is not ours to remove.
    for dir in [layout.snapshot_dir(), layout.log_dir()] {
        remove_temporaries(vfs, dir)?;
        let path = layout.file(FileKind::Snapshot, 1);
        for entry in vfs.read_dir(dir)? {
            if dir.join(&entry.name) != path {
                return Err(Error::TargetNotEmpty(dir.into()));
            }
            vfs.remove(&path)?;
        }
    }
    let lsn = view.lsn().0;
    let mut manifest =
        Manifest { next_snapshot: 2, durable_lsn: lsn, seen_lsn: lsn, ..Manifest::with_new_identity(vfs) };
    let options = WriteOptions {
        database: manifest.database,
        sequence: 1,
        compression: settings.compression,
        threads: settings.threads,
        parent: None,
    };
    let path = layout.file(FileKind::Snapshot, 1);
    let written = write(vfs, &path, view, &options, &mut control.follow())?;
    manifest.snapshots.push(SnapshotEntry::new(&written.header, &written.directory, written.bytes));
    manifest.publish(vfs, layout)?;
    Ok(SnapshotInfo::new(&written, started.elapsed()))
}
