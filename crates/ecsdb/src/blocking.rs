//! Running what may block for async code, under any runtime or none.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use ecsdb_io::Process;
use ecsdb_io::sync::thread::{self, ThreadId};
use ecsdb_io::sync::{Condvar, Instant, Mutex};
use ecsdb_wal::LogError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::nesting::own_thread;

/// Without work for so long, the thread ends.
const IDLE: Duration = Duration::from_secs(1);

/// A thread for blocking work, which is there while there is some. One is enough, however many wait: transactions happen one after the
/// other anyway.
pub(crate) struct Helper {
    shared: Arc<Shared>,
    process: Process,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Box<dyn FnOnce() + Send>>,
    /// There is one, which looks at `work` before it ends.
    thread: Option<ThreadId>,
    /// Nobody is left who could bring more.
    ended: bool,
}

impl Default for Helper {
    fn default() -> Self {
        Helper { shared: Arc::default(), process: Process::current() }
    }
}

impl Helper {
    /// Runs `work` on the thread. A panic of it goes on in the caller.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        // REC-12: a fork has neither the thread nor whoever held the lock.
        self.process.check().map_err(LogError::from)?;
        if self.shared.queue.lock().thread == Some(thread::current().id()) {
            // Whoever is woken on the thread may do anything (WAL-13), and would wait for itself.
            return Ok(work());
        }
        let (sender, receiver) = oneshot::channel();
        // What the work begins itself belongs to the caller's runtime.
        let runtime = Handle::try_current().ok();
        self.give(Box::new(move || {
            let _within = runtime.as_ref().map(Handle::enter);
            let result = catch_unwind(AssertUnwindSafe(work));
            // Nobody may be waiting any more.
            drop(sender.send(result));
        }))?;
        match receiver.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Error::Panicked("blocking thread")),
        }
    }

    fn give(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        let mut queue = self.shared.queue.lock();
        if queue.thread.is_none() {
            let shared = self.shared.clone();
            let thread = thread::Builder::new().name("ecsdb-blocking".into());
            let run = move || {
                own_thread::serve();
                shared.run();
            };
            let thread = thread.spawn(run).map_err(Error::Thread)?;
            queue.thread = Some(thread.thread().id());
        }
        queue.work.push_back(work);
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // In a fork the lock may be held by a thread that is not here.
        if self.process.is_current() {
            self.shared.queue.lock().ended = true;
            self.shared.changed.notify_all();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            let until = Instant::now() + IDLE;
            while queue.work.is_empty()
                && !queue.ended
                && !self.changed.wait_until(&mut queue, until).timed_out()
            {}
            let Some(work) = queue.work.pop_front() else {
                queue.thread = None;
                return;
            };
            drop(queue);
            // Whoever waits may panic when it is woken, and so may a result that nobody waits for: that is not the others' end.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("whoever waits for an asynchronous call panicked when it was woken");
            }
            queue = self.queue.lock();
        }
    }
}
