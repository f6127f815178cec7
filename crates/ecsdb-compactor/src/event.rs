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

/// Where events come from. Clones are the same source.
#[derive(Debug, Clone)]
pub struct EventSender(Arc<Source>);

#[derive(Debug)]
struct Source {
    /// `None` once it is closed.
    sender: Mutex<Option<broadcast::Sender<Event>>>,
    /// One of each kind of work that ever failed.
    failures: Mutex<Vec<Failure>>,
}

impl Default for EventSender {
    fn default() -> Self {
        let sender = Mutex::new(Some(broadcast::channel(BACKLOG).0));
        EventSender(Arc::new(Source { sender, failures: Mutex::default() }))
    }
}

impl EventSender {
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
        // Whoever listens is woken, and may do anything then: under no lock, and a panic of its own is not this thread's end.
        let Some(sender) = self.0.sender.lock().clone() else { return };
        if catch_unwind(AssertUnwindSafe(|| drop(sender.send(event)))).is_err() {
            tracing::error!("whoever listens to events panicked when it was woken");
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
        let sender = self.0.sender.lock();
        let receiver = sender.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe);
        Events(BroadcastStream::new(receiver))
    }

    /// Ends the streams of all listeners, once they have taken what there is.
    pub fn close(&self) {
        let sender = self.0.sender.lock().take();
        drop(sender);
    }
}

/// A stream of events. A listener that does not keep up loses the oldest ones, and is told how many ([`Event::Missed`]).
#[derive(Debug)]
pub struct Events(BroadcastStream<Event>);

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        Pin::new(&mut self.0).poll_next(context).map(|next| {
            next.map(|event| event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(n)| Event::Missed(n)))
        })
    }
}

impl Events {
    /// The next event; `None` once the database is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// As [`Events::next`], blocking the thread. Not for async code: use [`Events::next`] there.
    pub fn blocking_next(&mut self) -> Option<Event> {
        block_on(self.next())
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        match Pin::new(self).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}
