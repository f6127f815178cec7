//! Work in the background that somebody asked for: follow it, hold it, stop it, wait for it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use ecsdb_compactor::{Control, Progress};
use ecsdb_io::Process;
use ecsdb_io::sync::block_on;
use ecsdb_wal::LogError;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::nesting::Nesting;

/// A piece of work in the background: a snapshot, a compaction, a copy, a restore. Dropping the handle lets it go on, also when it is
/// paused: nobody else could resume it, and other work would wait for it for ever.
///
/// Wait for it, blocking ([`Job::wait`]) or with `.await`: a job is a future, under any executor.
#[derive(Debug)]
pub struct Job<T> {
    /// In which it is done.
    process: Process,
    control: Control,
    /// The world that it works on.
    world: usize,
    /// `None` once it has given the result.
    result: Option<oneshot::Receiver<Result<T>>>,
    /// Told when the sender is gone, whatever ended the work.
    ended: Weak<()>,
}

/// Where the result of a [`Job`] goes.
pub(crate) struct JobResult<T> {
    sender: oneshot::Sender<Result<T>>,
    _alive: Arc<()>,
}

impl<T> JobResult<T> {
    pub(crate) fn send(self, result: Result<T>) {
        // Nobody may be waiting; and whoever is may panic when it is woken.
        if catch_unwind(AssertUnwindSafe(|| drop(self.sender.send(result)))).is_err() {
            tracing::error!("whoever waits for work in the background panicked when it was woken");
        }
    }
}

impl<T> Job<T> {
    pub(crate) fn new(control: Control, world: usize) -> (Self, JobResult<T>) {
        let (sender, result) = oneshot::channel();
        let alive = Arc::new(());
        let process = Process::current();
        let job = Job { process, control, world, result: Some(result), ended: Arc::downgrade(&alive) };
        (job, JobResult { sender, _alive: alive })
    }

    /// Blocks until it is done; one that is paused is resumed. From here on it runs at the priority of the application, and not at a lower one as
    /// long as nobody waits. Not for async code: use `.await` there.
    ///
    /// # Errors
    /// When it failed or was cancelled; the database goes on, and what was there before is still there. [`Error::Nested`] within a transaction of
    /// this thread, for which it may be waiting itself.
    pub fn wait(self) -> Result<T> {
        self.control.resume();
        block_on(self)
    }

    /// Asks it to stop at its next step; waiting for it then fails with an error for which
    /// [`Error::is_cancelled`] holds, unless it was done already.
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// Holds it at its next step, until [`Job::resume`], or until it is cancelled or the handle is dropped or waited for. Other work in the
    /// background waits meanwhile, unless it is cancelled. A future that was polled before can be paused between two polls, too.
    pub fn pause(&self) {
        self.control.pause();
    }

    /// Lets it go on after [`Job::pause`].
    pub fn resume(&self) {
        self.control.resume();
    }

    /// How far it is, and how long it will still take.
    pub fn progress(&self) -> Progress {
        self.control.progress()
    }

    /// True once it is done or has failed.
    pub fn is_finished(&self) -> bool {
        self.ended.strong_count() == 0
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.control.resume();
    }
}

/// Completes when the work is done or has failed. Polled again after that, it gives [`Error::Finished`].
impl<T> Future for Job<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if Nesting::is_within(self.world) {
            return Poll::Ready(Err(Error::Nested));
        }
        self.control.wait();
        let Some(result) = &mut self.result else { return Poll::Ready(Err(Error::Finished("job"))) };
        let Poll::Ready(received) = Pin::new(result).poll(context) else {
            // REC-12: a fork has not the thread that would tell.
            return match self.process.check() {
                Ok(()) => Poll::Pending,
                Err(forked) => Poll::Ready(Err(LogError::from(forked).into())),
            };
        };
        self.result = None;
        // Without a result the thread is gone without having said anything.
        Poll::Ready(received.unwrap_or(Err(Error::Panicked("background thread"))))
    }
}
