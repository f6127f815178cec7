//! The I/O scheduler: disk operations are queued by priority and executed by background Tokio tasks, so that a snapshot
//! or a copy to the archive never stands in the way of the log.
//!
//! | file | what |
//! |---|---|
//! | `priority` | the classes and their statistics |
//! | `bucket` | the rate limit of a class |
//! | `request` | one operation: merged, executed, answered |
//! | `queues` | which is next; no threads, no waiting |
//! | `shared` | the queues behind their lock, and who waits for whom |
//! | `executor` | the task that takes and executes |
//! | `workers` | the threads that execute |
//! | `vfs` | files that use all this |

mod bucket;
mod executor;
mod priority;
mod queues;
mod request;
mod shared;
mod vfs;
mod workers;

use std::io;
use std::sync::Arc;

use tokio::runtime::Builder;

use crate::process::Process;
use crate::urgency::Urgency;
use crate::vfs::Vfs;
pub use priority::{Priority, PriorityStats, SchedulerStats};
use queues::Phase;
use shared::Shared;
use workers::Workers;

/// How a [`Scheduler`] works.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Bytes of writes that may be queued in each priority. Who writes more waits; a single larger write passes alone.
    /// 8 MiB unless said otherwise.
    pub queue_bytes_max: u64,
    /// Bytes up to which adjacent writes to one file are merged into one. 1 MiB unless said otherwise; 0 merges none.
    pub merge_bytes_max: usize,
    /// Bytes per second that each priority (by [`Priority::index`]) may read and write together, `None` for as many as
    /// the disk does. No limits unless said otherwise; see [`Scheduler::set_rate_limit`].
    pub rate_limits: [Option<u64>; Priority::ALL.len()],
    /// Whether somebody waits for what is done. While nobody does, it runs at a lower processor priority than the application's
    /// ([`lower_thread_priority`](crate::lower_thread_priority)), but for [`Priority::Log`] and
    /// [`Priority::Recovery`], for which somebody may wait at any time. Nobody does unless said otherwise.
    /// While some of it is given up there is no limit on any rate.
    pub urgency: Urgency,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        SchedulerOptions {
            queue_bytes_max: 8 << 20,
            merge_bytes_max: 1 << 20,
            rate_limits: [None; Priority::ALL.len()],
            urgency: Urgency::new(|| ()),
        }
    }
}

/// Queues disk operations by [`Priority`] and executes them in the background, on a Tokio runtime of its own: it
/// can be used, and dropped, within another runtime and without one.
///
/// Code uses it through a [`Vfs`] (see [`Scheduler::vfs`]). The first request of the highest priority that has one is
/// always next; within a priority, first come, first served. Of each priority one write or sync is executed at a time, begun while none of a
/// higher one is, since a disk syncs no faster for being asked twice; a few reads run beside them, and each priority has a place for reads
/// that no lower one can take. So a request never waits for lower ones.
///
/// Clones are cheap and are the same scheduler. Dropping the last one, and the last file that uses it, waits until
/// everything accepted was executed.
///
/// ```
/// use std::sync::Arc;
/// use ecsdb_io::{Disk, Priority, Scheduler, SchedulerOptions, Vfs};
///
/// let scheduler = Scheduler::start(SchedulerOptions::default())?;
/// scheduler.set_rate_limit(Priority::Archive, Some(20 << 20));
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("copy");
/// let archive = scheduler.vfs(Arc::new(Disk), Priority::Archive);
/// let file = archive.create(&path)?;
/// for block in 0..100 {
///     file.write_at(&[7; 1000], block * 1000)?; // queued
/// }
/// file.sync_data()?; // executed and durable
///
/// let stats = scheduler.stats()[Priority::Archive];
/// assert_eq!(stats.writes_requested, 100);
/// assert!(stats.writes_executed <= 100); // adjacent ones were merged
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Scheduler {
    owner: Arc<Owner>,
}

/// Ends with the last clone.
#[derive(Debug)]
struct Owner {
    /// Whose threads these are.
    process: Process,
    shared: Arc<Shared>,
}

impl Scheduler {
    /// Starts the executor.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(options: SchedulerOptions) -> io::Result<Scheduler> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let urgency = options.urgency.clone();
        let scheduler = Scheduler::with(&options);
        let shared = scheduler.owner.shared.clone();
        // No thread of the runtime's own: one that the system refuses would be a panic.
        let thread = std::thread::Builder::new().name("ecsdb-io".into());
        let started = thread.spawn(move || {
            let mut workers = Workers::new();
            let run = |operation, is_urgent| workers.run(operation, is_urgent);
            runtime.block_on(executor::execute(shared, urgency, run));
        });
        match started {
            Ok(_) => Ok(scheduler),
            Err(e) => {
                // Nobody else will.
                scheduler.shared().stop();
                Err(e)
            }
        }
    }

    fn with(options: &SchedulerOptions) -> Scheduler {
        let shared = Arc::new(Shared::new(options.queue_bytes_max, options.merge_bytes_max));
        let to_wake = Arc::downgrade(&shared);
        options.urgency.on_give_up(move || {
            if let Some(shared) = to_wake.upgrade() {
                shared.wake.notify_one();
            }
        });
        for (priority, limit) in Priority::ALL.into_iter().zip(options.rate_limits) {
            shared.queues.lock().set_rate_limit(priority, limit);
        }
        Scheduler { owner: Arc::new(Owner { process: Process::current(), shared }) }
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// `inner`, with the files opened through it scheduled at `priority`. Do not schedule what is scheduled already.
    ///
    /// - A write is copied and queued, and returns at once; only the bound of its priority makes it wait. Until a sync
    ///   has returned, its bytes may be in this process's memory alone: unlike with a bare file, they do not outlive it.
    /// - A sync waits until the earlier writes of its file were executed, then syncs, and returns the first error of any.
    /// - After a failed write or sync, every later write, sync and change of length of that handle returns the same
    ///   failure, and nothing is tried again (WAL-5). Reads go on.
    /// - Reads, and asking for or changing the length, wait for the queued writes of their file.
    /// - Names pass straight through. What looks at a file by its name (opening, length) waits for its queued
    ///   writes, and listing for those of this priority and higher ones; renaming does too, and returns their
    ///   failure. Two handles of one file, open at the same time, are in no order with each other but by syncs.
    /// - A file that is dropped with writes queued has them executed; their failure, which nobody is left to be told of,
    ///   is logged.
    ///
    /// All of these block the calling thread while they wait, as a bare file does.
    pub fn vfs(&self, inner: Arc<dyn Vfs>, priority: Priority) -> Arc<dyn Vfs> {
        Arc::new(vfs::ScheduledVfs { scheduler: self.clone(), inner, priority })
    }

    /// Limits the bytes per second that a priority reads and writes, from now on; `None` lifts the limit. What a tenth of
    /// a second allows may pass at once. While a priority waits for its limit the others go on. A limit of 0 holds the
    /// priority's requests back until it is changed or the scheduler closed.
    pub fn set_rate_limit(&self, priority: Priority, bytes_per_second: Option<u64>) {
        self.shared().queues.lock().set_rate_limit(priority, bytes_per_second);
        self.shared().wake.notify_one();
    }

    /// What happened so far, and what is queued. O(1).
    pub fn stats(&self) -> SchedulerStats {
        self.shared().queues.lock().stats()
    }

    /// Accepts nothing more (whoever tries gets an error), executes what was accepted, without regard to rate limits, and
    /// ends the threads. Blocks until then. Calling it again does nothing.
    ///
    /// A write that fails meanwhile is told to nobody but the log, so sync before.
    pub fn close(&self) {
        self.owner.close();
    }
}

impl Owner {
    fn close(&self) {
        let mut queues = self.shared.queues.lock();
        if queues.phase == Phase::Open {
            queues.phase = Phase::Closing;
        }
        self.shared.wake.notify_one();
        self.shared.wake_writers();
        while queues.phase != Phase::Stopped {
            self.shared.stopped.wait(&mut queues);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // In a fork there is no thread that would execute anything, or end.
        if self.process.is_current() {
            self.close();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
