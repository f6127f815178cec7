//! The threads that execute operations: made when they are needed, kept, and gone with the executor. Where the system gives none, the executor's
//! own does the work: slower, but it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;

use super::queues::OPERATIONS_AT_ONCE;
use super::shared::Running;
use crate::platform::lower_thread_priority;

/// Threads at the application's priority, and at a low one.
pub(super) struct Workers {
    urgent: Pool,
    low: Pool,
}

struct Pool {
    is_low: bool,
    jobs: Sender<Running>,
    queue: Arc<Mutex<Receiver<Running>>>,
    threads: usize,
    /// Operations that were handed over and are not done.
    busy: Arc<AtomicUsize>,
}

impl Workers {
    pub(super) fn new() -> Self {
        Workers { urgent: Pool::new(false), low: Pool::new(true) }
    }

    pub(super) fn run(&mut self, operation: Running, is_urgent: bool) {
        if is_urgent { &mut self.urgent } else { &mut self.low }.run(operation);
    }
}

impl Pool {
    fn new(is_low: bool) -> Self {
        let (jobs, queue) = channel();
        Pool { is_low, jobs, queue: Arc::new(Mutex::new(queue)), threads: 0, busy: Arc::default() }
    }

    fn run(&mut self, operation: Running) {
        if self.busy.load(Ordering::Relaxed) >= self.threads && self.threads < OPERATIONS_AT_ONCE {
            match self.start_thread() {
                Ok(()) => self.threads += 1,
                Err(e) => tracing::debug!(error = %e, "there is no further thread for disk operations"),
            }
        }
        if self.threads == 0 {
            return operation.run();
        }
        self.busy.fetch_add(1, Ordering::Relaxed);
        // An operation that is dropped books itself as failed.
        drop(self.jobs.send(operation));
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let (queue, busy, is_low) = (self.queue.clone(), self.busy.clone(), self.is_low);
        let work = move || {
            if is_low {
                lower_thread_priority();
            }
            let next = || queue.lock().recv();
            while let Ok(operation) = next() {
                operation.run();
                busy.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let name = if is_low { "ecsdb-io-low" } else { "ecsdb-io-work" };
        std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
    }
}
