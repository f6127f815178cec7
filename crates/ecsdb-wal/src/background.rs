//! The background thread: writes and syncs what nobody blocks for, so that futures are woken, `Batched` records become
//! durable and `Buffered` ones reach the operating system.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ecsdb_io::sync::atomic::{AtomicBool, Ordering};
use ecsdb_io::sync::thread::{self, JoinHandle, Thread};
use ecsdb_io::sync::{Instant, Mutex};

use crate::log::Shared;
use ecsdb_id::Lsn;

/// The thread and the flags by which it is told what to do.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// Something was appended since the thread last looked; it is to look within the flush interval.
    armed: AtomicBool,
    /// It is to look now.
    urgent: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
    join: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(crate) fn start(&self, shared: &Arc<Shared>) -> std::io::Result<()> {
        let weak = Arc::downgrade(shared);
        let join = thread::Builder::new().name("ecsdb-log".into()).spawn(move || run(&weak))?;
        self.thread.get_or_init(|| join.thread().clone());
        *self.join.lock() = Some(join);
        Ok(())
    }

    /// The next append is to [arm](Background::arm) it. Asked, as [`Background::disarm`] is called, with the queue locked.
    #[inline]
    pub(crate) fn rests(&self) -> bool {
        !self.armed.load(Ordering::Relaxed)
    }

    /// After an append: at most one wake-up for each time that the thread went to rest.
    pub(crate) fn arm(&self) {
        if !self.armed.swap(true, Ordering::SeqCst) {
            self.unpark();
        }
    }

    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Somebody waits who cannot lead.
    pub(crate) fn request(&self) {
        if !self.urgent.swap(true, Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// How long it is to rest may have changed.
    pub(crate) fn wake(&self) {
        self.unpark();
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.unpark();
        let join = self.join.lock().take();
        // A waker that drops the last handle closes the log on this thread, which then ends by itself.
        if let Some(join) = join.filter(|_| !self.is_current()) {
            // A panic in there has failed the log already.
            drop(join.join());
        }
    }

    /// True on the thread itself.
    pub(crate) fn is_current(&self) -> bool {
        self.thread.get().is_some_and(|thread| thread.id() == thread::current().id())
    }

    #[cold]
    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

fn run(shared: &Weak<Shared>) {
    let Some(shared) = shared.upgrade() else { return };
    let background = shared.background();
    loop {
        if background.stopped.load(Ordering::SeqCst) {
            return;
        }
        if background.urgent.swap(false, Ordering::SeqCst) {
            serve(&shared, true);
        } else if background.armed.load(Ordering::SeqCst) {
            rest(&shared);
            // Cleared before the look: whatever is appended from here on arms again.
            shared.disarm();
            serve(&shared, shared.wants_sync());
        } else {
            match shared.time_to_rotation() {
                None => thread::park(),
                // A failure is the log's, and is told to whoever comes next.
                Some(Duration::ZERO) => drop(shared.rotate_aged()),
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

/// Lets the flush interval pass, unless somebody is in a hurry.
fn rest(shared: &Shared) {
    let background = shared.background();
    let began = Instant::now();
    while !background.urgent.load(Ordering::SeqCst) && !background.stopped.load(Ordering::SeqCst) {
        let left = shared.flush_interval().saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Leads once. A failure is the log's, and whoever waits is told.
fn serve(shared: &Shared, sync: bool) {
    if sync {
        drop(shared.wait(Lsn(shared.appended())));
    } else if shared.is_behind() && !shared.try_lead(false) {
        // The leader may have taken the queue before the last append: look again.
        shared.background().arm();
    }
}
