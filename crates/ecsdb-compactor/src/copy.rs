//! A world as a database directory of its own, which opens by itself: backups, and moments gone back to.

use std::time::Instant;

use ecsdb_core::View;
use ecsdb_io::{FileKind, Layout, Vfs};
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
        let info = write_database(&*self.vfs, layout, view, &self.settings(), control)?;
        self.events.send(Event::Copied(info));
        Ok(info)
    }
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
    for dir in [layout.root(), layout.snapshot_dir(), layout.log_dir()] {
        if vfs.file_len(dir)?.is_some() && !vfs.read_dir(dir)?.is_empty() {
            return Err(Error::TargetNotEmpty(dir.into()));
        }
    }
    for dir in [layout.root(), layout.snapshot_dir(), layout.log_dir()] {
        vfs.create_dir_all(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            vfs.sync_dir(parent)?;
        }
    }
    let _lock = vfs.try_lock(&layout.lock_file(), "a copy being written")?;
    let lsn = view.lsn();
    let mut manifest = Manifest {
        next_snapshot: 2,
        durable_lsn: lsn,
        seen_lsn: lsn,
        ..Manifest::new(u128::from(vfs.random_u64()) << 64 | u128::from(vfs.random_u64()))
    };
    let options = WriteOptions {
        database: manifest.database,
        sequence: 1,
        compression: settings.compression,
        threads: settings.threads,
        parent: None,
    };
    let path = layout.file(FileKind::Snapshot, 1);
    let written = write(vfs, &path, view, &options, &mut |progress| {
        control.step(progress.blocks_done, progress.blocks, progress.bytes_written)
    })?;
    manifest.snapshots.push(SnapshotEntry::new(&written.header, &written.directory, written.bytes));
    manifest.publish(vfs, layout)?;
    Ok(SnapshotInfo::new(&written, started.elapsed()))
}
