//! A snapshot under way: progress, cancellation, waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ecsdb_wal::Lsn;
use parking_lot::{Condvar, Mutex};

use crate::error::Result;

/// A snapshot that is being written in the background. Dropping the handle lets it go on.
#[derive(Debug, Clone)]
pub struct SnapshotHandle {
    shared: Arc<Shared>,
}

/// A snapshot that is published and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The file's number.
    pub sequence: u64,
    /// LSN of the last transaction in it.
    pub lsn: Lsn,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of its columns before compression.
    pub raw_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    done: AtomicBool,
    chunks_done: AtomicU64,
    chunks: AtomicU64,
    result: Mutex<Option<Result<SnapshotInfo>>>,
    finished: Condvar,
}

impl SnapshotHandle {
    pub(crate) fn new() -> Self {
        SnapshotHandle { shared: Arc::default() }
    }

    /// Blocks until the snapshot is published and verified. The result is given once; a further call waits for
    /// ever, so share handles for progress and cancellation only.
    ///
    /// # Errors
    /// When it failed or was cancelled; the database goes on, and what was there before is still there.
    pub fn wait(self) -> Result<SnapshotInfo> {
        let mut result = self.shared.result.lock();
        loop {
            match result.take() {
                Some(result) => return result,
                None => self.shared.finished.wait(&mut result),
            }
        }
    }

    /// Asks it to stop; [`SnapshotHandle::wait`] then fails unless it was done already.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Chunks done and chunks to do.
    pub fn progress(&self) -> (u64, u64) {
        (self.shared.chunks_done.load(Ordering::Relaxed), self.shared.chunks.load(Ordering::Relaxed))
    }

    /// True once it is published or has failed.
    pub fn is_finished(&self) -> bool {
        self.shared.done.load(Ordering::Acquire)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn report(&self, done: u64, chunks: u64) {
        self.shared.chunks_done.store(done, Ordering::Relaxed);
        self.shared.chunks.store(chunks, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self, result: Result<SnapshotInfo>) {
        *self.shared.result.lock() = Some(result);
        self.shared.done.store(true, Ordering::Release);
        self.shared.finished.notify_all();
    }
}
