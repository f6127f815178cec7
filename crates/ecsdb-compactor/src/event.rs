//! What happens in the background, as a stream that the application can follow.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ecsdb_io::sync::{Mutex, block_on};
use ecsdb_wal::Lsn;
use futures_core::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::info::{CompactionInfo, Failure, Progress, SnapshotInfo, Task};
use crate::waking::{Handed, Waking, WakingThread};

/// Events kept for a listener that does not keep up.
const BACKLOG: usize = 256;

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// So many events were lost, since the listener did not keep up.
    Missed(u64),
    /// Work has begun.
    Started(Task),
    /// Work that had begun is over: it is done (there may have been nothing to do), has failed, or was cancelled. What it did is said before; why it
    /// failed, after.
    Ended(Task),
    /// How far it is; about twice a second.
    Progress(Task, Progress),
    /// A snapshot is published and verified.
    SnapshotTaken(SnapshotInfo),
    /// A compaction is done.
    Compacted(CompactionInfo),
    /// A copy of the database is complete.
    Copied(SnapshotInfo),
    /// A log segment is in the archive.
    Archived {
        /// Its number.
        segment: u64,
        /// Its last transaction.
        last_lsn: Lsn,
        /// Bytes in the archive.
        bytes: u64,
    },
    /// Files that nothing needs any more are gone.
    Removed {
        /// How many.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// The world was brought back to an earlier moment, as the transaction `lsn`.
    Restored {
        /// The transaction that did it.
        lsn: Lsn,
    },
    /// Settings were changed.
    Reconfigured {
        /// These have taken effect.
        live: Vec<&'static str>,
        /// These take effect when the database is opened with them.
        at_next_opening: Vec<&'static str>,
    },
    /// Work failed; what was there before is still there (CKP-7).
    Failed {
        /// Which.
        task: Task,
        /// Why.
        error: String,
        /// When it is tried again; `None` for work that somebody asked for and was told.
        retry_in: Option<Duration>,
    },
}

/// Where events come from. Clones are the same source. Unless it has a thread to wake listeners on, they are woken where it happens.
#[derive(Debug, Clone)]
pub struct EventSender(Arc<Source>);

#[derive(Debug)]
struct Source {
    /// `None` once it is closed.
    channel: Mutex<Option<Arc<Channel>>>,
    /// One of each kind of work that ever failed.
    failures: Mutex<Vec<Failure>>,
}

#[derive(Debug)]
struct Channel {
    /// `None` only while this is dropped.
    sender: Option<broadcast::Sender<Event>>,
    /// Dropped after the sender, whose end wakes all listeners.
    thread: Option<WakingThread>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        let sender = self.sender.take();
        waking(|| drop(sender));
    }
}

/// Does what may wake listeners on this thread: a panic of theirs is not its end.
fn waking(wakes: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(wakes)).is_err() {
        tracing::error!("whoever listens to events panicked when it was woken");
    }
}

impl Default for EventSender {
    fn default() -> Self {
        EventSender::with(None)
    }
}

impl EventSender {
    /// A source with a thread to wake listeners on, whose first act is `begin`. It ends with the source, once it has woken all.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn with_thread(begin: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        Ok(EventSender::with(Some(WakingThread::start(begin)?)))
    }

    fn with(thread: Option<WakingThread>) -> Self {
        let channel = Arc::new(Channel { sender: Some(broadcast::channel(BACKLOG).0), thread });
        EventSender(Arc::new(Source { channel: Mutex::new(Some(channel)), failures: Mutex::default() }))
    }

    /// Tells all listeners, if there are any, and the `tracing` log.
    pub fn send(&self, event: Event) {
        match &event {
            Event::Failed { task, error, retry_in } => {
                metrics::counter!("ecsdb_background_failures_total", "task" => task.to_string()).increment(1);
                tracing::warn!(%task, error, ?retry_in, "work in the background failed");
                self.note_failure(*task, error);
            }
            Event::Progress(task, progress) => tracing::info!(%task, "{progress}"),
            other => tracing::info!(event = ?other, "background"),
        }
        // Under no lock: without a thread whoever listens is woken here, and may do anything then.
        let Some(channel) = self.channel() else { return };
        if let Some(sender) = &channel.sender {
            waking(|| drop(sender.send(event)));
        }
    }

    fn channel(&self) -> Option<Arc<Channel>> {
        self.0.channel.lock().clone()
    }

    /// Runs `call` where listeners are woken: on the thread, if there is one, and otherwise here.
    pub fn call(&self, call: impl FnOnce() + Send + 'static) {
        match self.channel().as_ref().and_then(|channel| channel.thread.as_ref()) {
            Some(thread) => thread.waking().call(call),
            None => call(),
        }
    }

    fn note_failure(&self, task: Task, error: &str) {
        let mut failures = self.0.failures.lock();
        let before = failures.iter().position(|failure| failure.task == task);
        let times = before.map_or(0, |i| failures.remove(i).times) + 1;
        failures.push(Failure { task, error: error.into(), times });
    }

    /// How each kind of work failed last, the latest failure at the end (CKP-7).
    pub fn failures(&self) -> Vec<Failure> {
        self.0.failures.lock().clone()
    }

    /// A listener for what happens from here on; for nothing once the source is closed.
    pub fn listen(&self) -> Events {
        let channel = self.channel();
        let sender = channel.as_ref().and_then(|channel| channel.sender.as_ref());
        let receiver = sender.map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe);
        let thread = channel.as_ref().and_then(|channel| channel.thread.as_ref());
        let waking = thread.map(|thread| thread.waking().clone());
        Events { stream: BroadcastStream::new(receiver), waking }
    }

    /// Ends the streams of all listeners, once they have taken what there is.
    pub fn close(&self) {
        let channel = self.0.channel.lock().take();
        drop(channel);
    }
}

/// A stream of events. A listener that does not keep up loses the oldest ones, and is told how many ([`Event::Missed`]).
///
/// Wakers are called on a thread of the database that does nothing else, one after the other: one may do anything but wait there for another
/// listener to be woken. A database that was opened without threads calls them where the event happens, where they must not wait for the database.
/// `tracing` subscribers and `metrics` recorders are called where it happens in any case.
#[derive(Debug)]
pub struct Events {
    stream: BroadcastStream<Event>,
    /// `None` for waking where it happens.
    waking: Option<Arc<Waking>>,
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(waking) = self.waking.clone() else { return self.poll_here(context) };
        let handed = Waker::from(Arc::new(Handed { waker: context.waker().clone(), waking }));
        self.poll_here(&mut Context::from_waker(&handed))
    }
}

impl Events {
    /// The next event; `None` once the database is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// As [`Events::next`], blocking the thread. Not for async code: use [`Events::next`] there.
    pub fn blocking_next(&mut self) -> Option<Event> {
        // Its waker is ours, and waits for nothing.
        block_on(poll_fn(|context| self.poll_here(context)))
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.poll_here(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// As polled, to be woken by whoever sends.
    fn poll_here(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        Pin::new(&mut self.stream).poll_next(context).map(|next| {
            next.map(|event| event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(n)| Event::Missed(n)))
        })
    }
}
