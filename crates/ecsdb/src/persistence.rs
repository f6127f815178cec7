//! The durable half of an open database: log, manifest, lock, and the snapshots under way.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use ecsdb_core::View;
use ecsdb_io::{DirLock, FileKind, Layout, Vfs};
use ecsdb_recovery::RecoveryReport;
use ecsdb_snapshot::{Manifest, SnapshotEntry, Stopped, WriteOptions, write};
use ecsdb_wal::{Log, Lsn, Threads};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::snapshot::{SnapshotHandle, SnapshotInfo};

pub(crate) struct Persistence {
    pub(crate) layout: Layout,
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
    snapshots: Arc<Snapshots>,
    threads: Threads,
    tasks: Mutex<Vec<(SnapshotHandle, JoinHandle<()>)>>,
    lock: Mutex<Option<Box<dyn DirLock>>>,
}

/// What the snapshot threads share. They never hold the database itself, so that dropping it ends them.
struct Snapshots {
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    log: Log,
    compression: Option<i32>,
    /// Held while a snapshot is written: one at a time.
    manifest: Mutex<Manifest>,
}

impl Persistence {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from the parts that recovery gives")]
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        layout: Layout,
        log: Log,
        manifest: Manifest,
        lock: Box<dyn DirLock>,
        report: RecoveryReport,
        compression: Option<i32>,
        threads: Threads,
    ) -> Self {
        let snapshots = Arc::new(Snapshots {
            vfs,
            layout: layout.clone(),
            log: log.clone(),
            compression,
            manifest: Mutex::new(manifest),
        });
        Persistence {
            layout,
            log,
            report,
            snapshots,
            threads,
            tasks: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(crate) fn snapshot(&self, view: View) -> Result<SnapshotHandle> {
        let handle = SnapshotHandle::new();
        let (snapshots, task) = (self.snapshots.clone(), handle.clone());
        let work = move || task.finish(snapshots.take(&view, &task));
        if self.threads == Threads::None {
            work();
            return Ok(handle);
        }
        let thread =
            std::thread::Builder::new().name("ecsdb-snapshot".into()).spawn(work).map_err(Error::Thread)?;
        let mut tasks = self.tasks.lock();
        tasks.retain(|(handle, _)| !handle.is_finished());
        tasks.push((handle.clone(), thread));
        Ok(handle)
    }

    /// Ends the background work, closes the log, and releases the directory, in this order.
    pub(crate) fn close(&self) -> Result<()> {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for (handle, _) in &tasks {
            handle.cancel();
        }
        let mut panicked = false;
        for (_, thread) in tasks {
            panicked |= thread.join().is_err();
        }
        let closed = self.log.close();
        drop(self.lock.lock().take());
        closed?;
        if panicked { Err(Error::Panicked("snapshot thread")) } else { Ok(()) }
    }
}

impl Snapshots {
    fn take(&self, view: &View, handle: &SnapshotHandle) -> Result<SnapshotInfo> {
        let started = Instant::now();
        let mut manifest = self.manifest.lock();
        // What a snapshot holds must be durable in the log first: were the log to fail now, the snapshot would
        // bring back transactions whose commit was reported as failed.
        self.log.wait(Lsn(view.lsn()))?;
        let sequence = manifest.next_snapshot;
        let options = WriteOptions {
            database: manifest.database,
            sequence,
            compression: self.compression,
            threads: 1,
            parent: None,
        };
        let path = self.layout.file(FileKind::Snapshot, sequence);
        let written = write(&*self.vfs, &path, view, &options, &mut |progress| {
            handle.report(progress.blocks_done, progress.blocks);
            if handle.is_cancelled() { ControlFlow::Break(Stopped) } else { ControlFlow::Continue(()) }
        })?;
        let mut next = manifest.clone();
        next.next_snapshot = sequence + 1;
        next.durable_lsn = self.log.durable_lsn().0;
        next.snapshots.push(SnapshotEntry::new(&written.header, &written.directory, written.bytes));
        next.publish(&*self.vfs, &self.layout)?;
        *manifest = next;
        tracing::info!(sequence, lsn = view.lsn(), bytes = written.bytes, "snapshot taken");
        Ok(SnapshotInfo {
            sequence,
            lsn: Lsn(view.lsn()),
            bytes: written.bytes,
            raw_bytes: written.raw_bytes,
            duration: started.elapsed(),
        })
    }
}
