//! The thread on which whoever listens to events is woken: a waker may do anything, and no work of the database waits for that.

use std::collections::VecDeque;
use std::fmt::{Debug, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

use ecsdb_io::sync::thread::{self, JoinHandle};
use ecsdb_io::sync::{Condvar, Mutex};

type Call = Box<dyn FnOnce() + Send>;

/// The calls that the thread makes, in order.
#[derive(Default)]
pub(crate) struct Waking {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    /// One is under way.
    calling: bool,
    /// No more come.
    ended: bool,
}

/// The thread, which ends when this is dropped and all calls are made.
#[derive(Debug)]
pub(crate) struct WakingThread {
    waking: Arc<Waking>,
    thread: Option<JoinHandle<()>>,
}

impl Debug for Waking {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waking").finish_non_exhaustive()
    }
}

impl Waking {
    /// Has the thread call it. A panic of it is its own.
    pub(crate) fn call(&self, call: impl FnOnce() + Send + 'static) {
        self.queue.lock().calls.push_back(Box::new(call));
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            while let Some(call) = queue.calls.pop_front() {
                queue.calling = true;
                drop(queue);
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    tracing::error!("whoever listens to events panicked when it was woken");
                }
                queue = self.queue.lock();
                queue.calling = false;
            }
            if queue.ended {
                return;
            }
            self.changed.wait(&mut queue);
        }
    }
}

impl WakingThread {
    /// Starts it; `begin` is the first that it does.
    pub(crate) fn start(begin: impl FnOnce() + Send + 'static) -> std::io::Result<WakingThread> {
        let waking = Arc::new(Waking::default());
        let of_thread = waking.clone();
        let thread = thread::Builder::new().name("ecsdb-events".into()).spawn(move || {
            begin();
            of_thread.run();
        })?;
        Ok(WakingThread { waking, thread: Some(thread) })
    }

    pub(crate) fn waking(&self) -> &Arc<Waking> {
        &self.waking
    }
}

impl Drop for WakingThread {
    fn drop(&mut self) {
        let mut queue = self.waking.queue.lock();
        queue.ended = true;
        // Who is being woken may wait for this very thread, or be it: nobody waits for the end of that.
        let is_idle = !queue.calling && queue.calls.is_empty();
        drop(queue);
        self.waking.changed.notify_all();
        if let Some(thread) = self.thread.take().filter(|_| is_idle)
            && thread.join().is_err()
        {
            tracing::error!("the thread that wakes listeners panicked");
        }
    }
}

/// What is registered in the place of a listener's waker.
pub(crate) struct Handed {
    pub(crate) waker: Waker,
    pub(crate) waking: Arc<Waking>,
}

impl Wake for Handed {
    fn wake(self: Arc<Self>) {
        let waking = self.waking.clone();
        // With the waker: dropping the last one of a listener may do anything, too.
        waking.call(move || self.waker.wake_by_ref());
    }
}
