//! The thread that takes snapshots and compacts when they are due, and sleeps otherwise.

use std::sync::Arc;
use std::time::Duration;

use ecsdb_compactor::{Control, Due, Error, Event, Now, Reason, Schedule, Store, Task};
use ecsdb_io::sync::atomic::{AtomicU64, Ordering};
use ecsdb_io::sync::thread::{self, JoinHandle};
use ecsdb_io::sync::{Condvar, Instant, Mutex};
use ecsdb_wal::{Log, LogError};

use crate::nesting::own_thread;
use crate::persistence::SharedWorld;

/// After a failure it is tried again after this time, twice as long each time, up to the second (CKP-7).
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// After about a segment of log, and so many bytes at most, the manifest says how far it has come (REC-13).
const LOG_BYTES_NOTED: u64 = 16 << 20;
/// Dead bytes for which no compaction happens by itself.
const DEAD_BYTES_MIN: u64 = 1 << 20;
/// The thread and what wakes it.
pub(crate) struct Maintenance {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// A commit that reaches one of these wakes the thread.
    wake_lsn: AtomicU64,
    wake_bytes: AtomicU64,
}

struct State {
    stopped: bool,
    paused: bool,
    woken: bool,
    schedule: Schedule,
    /// The control handle of the work under way.
    control: Option<Control>,
}

impl Maintenance {
    pub(crate) fn start(
        store: Arc<Store>,
        log: Log,
        world: SharedWorld,
        schedule: Schedule,
        carried: Carried,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { stopped: false, paused: false, woken: false, schedule, control: None }),
            changed: Condvar::new(),
            wake_lsn: AtomicU64::new(u64::MAX),
            wake_bytes: AtomicU64::new(u64::MAX),
        });
        let now = Instant::now();
        let owner = Arc::as_ptr(&store).addr();
        let mut worker = Worker {
            shared: shared.clone(),
            snapshot_lsn: store.manifest().snapshots.last().map_or(0, |newest| newest.lsn),
            store,
            world,
            snapshot_bytes: 0,
            snapshot_segment: log.segment(),
            carried,
            compacted_lsn: 0,
            snapshot_at: now,
            compacted_at: now,
            left_bytes: 0,
            disk_bytes: 0,
            merged_lsn: 0,
            just_merged: false,
            note_at: log.segment_bytes().min(LOG_BYTES_NOTED),
            failures: 0,
            trim_at: now,
            trim_failures: 0,
            log,
        };
        worker.compacted_lsn = worker.log.appended_lsn().0;
        let thread = thread::Builder::new().name("ecsdb-maintenance".into()).spawn(move || {
            own_thread::enter(owner);
            worker.run();
        })?;
        Ok(Maintenance { shared, thread: Mutex::new(Some(thread)) })
    }

    #[inline]
    pub(crate) fn committed(&self, lsn: u64, log: &Log) {
        if lsn >= self.shared.wake_lsn.load(Ordering::Relaxed)
            || log.appended_bytes() >= self.shared.wake_bytes.load(Ordering::Relaxed)
        {
            self.shared.wake();
        }
    }

    /// What wakes the thread after a commit that does not come through the database handle.
    pub(crate) fn waker(&self) -> impl Fn() + Send + 'static {
        let shared = self.shared.clone();
        move || shared.wake()
    }

    /// Goes by another schedule from here on.
    pub(crate) fn set_schedule(&self, schedule: Schedule) {
        self.shared.state.lock().schedule = schedule;
        self.shared.wake();
    }

    /// Gives up what is under way, so that work by hand gets its turn, and begins nothing until [`Maintenance::resume`].
    pub(crate) fn pause(&self) {
        let mut state = self.shared.state.lock();
        state.paused = true;
        if let Some(control) = &state.control {
            control.cancel();
        }
    }

    pub(crate) fn resume(&self) {
        let mut state = self.shared.state.lock();
        state.paused = false;
        drop(state);
        self.shared.wake();
    }

    /// Cancels what is under way and ends the thread. False when it had panicked.
    pub(crate) fn stop(&self) -> bool {
        let mut state = self.shared.state.lock();
        state.stopped = true;
        if let Some(control) = &state.control {
            control.cancel();
        }
        drop(state);
        self.shared.changed.notify_all();
        let thread = self.thread.lock().take();
        thread.is_none_or(|thread| thread.join().is_ok())
    }
}

impl Shared {
    #[cold]
    fn wake(&self) {
        // One wake-up is enough until the thread has looked.
        self.wake_lsn.store(u64::MAX, Ordering::Relaxed);
        self.wake_bytes.store(u64::MAX, Ordering::Relaxed);
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    /// Sleeps for `time`, or until woken. False when the database closes.
    fn sleep(&self, time: Option<Duration>) -> bool {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.state.lock();
        while !state.stopped && !state.woken {
            match until {
                Some(until) => {
                    if self.changed.wait_until(&mut state, until).timed_out() {
                        break;
                    }
                }
                None => self.changed.wait(&mut state),
            }
        }
        state.woken = false;
        !state.stopped
    }
}

/// How long to wait after one more failure.
fn back_off(failures: &mut u32) -> Duration {
    let wait = RETRY_FIRST.saturating_mul(1 << (*failures).min(10)).min(RETRY_MAX);
    *failures = failures.saturating_add(1);
    wait
}

/// The log behind the newest snapshot that was there already at the opening.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
}

struct Worker {
    shared: Arc<Shared>,
    store: Arc<Store>,
    log: Log,
    world: SharedWorld,
    /// Of the newest snapshot: its LSN, the log's byte counter, and when it was found there.
    snapshot_lsn: u64,
    snapshot_bytes: u64,
    /// The segment under way then.
    snapshot_segment: u64,
    carried: Carried,
    snapshot_at: Instant,
    compacted_lsn: u64,
    compacted_at: Instant,
    /// Bytes of log and archive that the last compaction left.
    left_bytes: u64,
    /// When chunks in memory were merged last, and that nothing was done or waited for since.
    merged_lsn: u64,
    just_merged: bool,
    /// Bytes of log and archive at the last look.
    disk_bytes: u64,
    /// The log's byte counter when the manifest is to say again how far it has come.
    note_at: u64,
    failures: u32,
    /// When a trim that came to no end is tried again, and how often it failed.
    trim_at: Instant,
    trim_failures: u32,
}

impl Worker {
    fn run(&mut self) {
        loop {
            let (schedule, paused) = {
                let state = self.shared.state.lock();
                (state.schedule, state.paused)
            };
            if paused {
                if !self.shared.sleep(None) {
                    return;
                }
                continue;
            }
            let trim_in = self.trim_if_owed();
            let looked = self.looked();
            let idle = looked.as_ref().is_ok_and(|now| now.transactions == 0);
            let due = looked.map(|now| schedule.due(&now));
            self.just_merged = matches!(due, Ok(Due::Compaction(Reason::Sparse)));
            let (task, done) = match due {
                Ok(Due::Snapshot(_)) => (Task::Snapshot, self.snapshot()),
                Ok(Due::Compaction(Reason::Sparse)) => (Task::Compaction, self.merge_chunks()),
                Ok(Due::Compaction(_)) => (Task::Compaction, self.compact()),
                Ok(Due::Nothing(time)) => {
                    self.arm(&schedule, idle);
                    if !self.shared.sleep(time.into_iter().chain(trim_in).min()) {
                        return;
                    }
                    continue;
                }
                Err(e) => (Task::Retention, Err(e)),
            };
            match done {
                Ok(()) => self.failures = 0,
                Err(e) if e.is_cancelled() => {}
                // After a failure of the log nothing can become durable any more, nor be taken.
                Err(Error::Log(
                    LogError::Poisoned { .. }
                    | LogError::DiskFull { .. }
                    | LogError::Panicked { .. }
                    | LogError::Closed,
                )) => {
                    if !self.shared.sleep(None) {
                        return;
                    }
                }
                Err(e) => {
                    let wait = back_off(&mut self.failures);
                    let (error, retry_in) = (e.to_string(), Some(wait));
                    self.store.events().send(Event::Failed { task, error, retry_in });
                    if !self.shared.sleep(Some(wait)) {
                        return;
                    }
                }
            }
            if self.shared.state.lock().stopped {
                return;
            }
        }
    }

    /// Archives and deletes what an earlier attempt did not, and says when to try again. Nothing else waits for it (CKP-7).
    fn trim_if_owed(&mut self) -> Option<Duration> {
        if !self.store.owes_trim() {
            self.trim_failures = 0;
            return None;
        }
        let left = self.trim_at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        let trimmed = self.under_control(Task::Retention, |control| self.store.trim(control));
        if trimmed.is_ok() && !self.store.owes_trim() {
            self.trim_failures = 0;
            return None;
        }
        let wait = back_off(&mut self.trim_failures);
        self.trim_at = Instant::now() + wait;
        if let Err(e) = trimmed.as_ref()
            && !e.is_cancelled()
        {
            let (task, error, retry_in) = (Task::Retention, e.to_string(), Some(wait));
            self.store.events().send(Event::Failed { task, error, retry_in });
        }
        Some(wait)
    }

    /// Says which commit is to wake the thread: the next one after rest (`idle`, as the last look found it), and the one that makes a
    /// snapshot due.
    fn arm(&self, schedule: &Schedule, idle: bool) {
        let lsn = match schedule.snapshot_transactions {
            _ if idle => self.snapshot_lsn + 1,
            Some(n) => self.snapshot_lsn.saturating_add(n),
            None => u64::MAX,
        };
        let snapshot = schedule
            .snapshot_log_bytes
            .map(|n| self.snapshot_bytes.saturating_add(n).saturating_sub(self.carried.bytes));
        // What is appended is not what is on disk, segments being preallocated: looked at again after half as much.
        let compaction = schedule.compaction_log_bytes.map(|max| {
            let missing = max.saturating_sub(self.disk_bytes).max(max / 2).max(1);
            self.log.appended_bytes().saturating_add(missing)
        });
        let bytes = snapshot.into_iter().chain(compaction).fold(self.note_at, u64::min);
        self.shared.wake_lsn.store(lsn, Ordering::Relaxed);
        self.shared.wake_bytes.store(bytes, Ordering::Relaxed);
        // What was committed between the look and the arming has not woken anybody.
        let (appended, appended_bytes) = self.log.appended_in_order();
        if appended.0 >= lsn || appended_bytes >= bytes {
            self.shared.wake();
        }
    }

    fn looked(&mut self) -> Result<Now, Error> {
        let control = self.store.control(Task::Retention);
        control.run(|control| {
            // Not at a low priority: writers wait for whoever holds the world, and others for the files' bookkeeping.
            let view = self.world.hold()?.view();
            let sparse_fraction = control.urgency().once(|| view.sparsity());
            self.look(sparse_fraction)
        })
    }

    fn look(&mut self, sparse_fraction: f64) -> Result<Now, Error> {
        let appended = self.log.appended_bytes();
        if appended >= self.note_at {
            self.store.note_log()?;
            self.note_at = appended.saturating_add(self.log.segment_bytes().min(LOG_BYTES_NOTED));
        }
        let stats = self.store.stats()?;
        if stats.snapshot_lsn.0 > self.snapshot_lsn {
            // Somebody else took one.
            self.note_snapshot(stats.snapshot_lsn.0);
        }
        self.disk_bytes = stats.log_bytes + stats.archive_bytes;
        let appended = self.log.appended_lsn().0;
        Ok(Now {
            transactions: appended.saturating_sub(self.snapshot_lsn),
            log_bytes: self.carried.bytes + self.log.appended_bytes() - self.snapshot_bytes,
            segments: self.carried.segments + 1 + self.log.segment().saturating_sub(self.snapshot_segment),
            since_snapshot: self.snapshot_at.elapsed(),
            since_compaction: self.compacted_at.elapsed(),
            changed_since_compaction: appended > self.compacted_lsn,
            log_bytes_on_disk: self.disk_bytes,
            log_bytes_left: self.left_bytes,
            chain_age: self.store.chain_age(),
            chain_files: stats.chain_files,
            // A small database has little to gain.
            dead_fraction: if stats.dead_bytes < DEAD_BYTES_MIN { 0.0 } else { stats.dead_fraction() },
            // What could not be merged before can only be merged after something was changed.
            sparse_fraction: if appended > self.merged_lsn { sparse_fraction } else { 0.0 },
            just_merged: self.just_merged,
            newest_damaged: self.store.is_newest_damaged(),
        })
    }

    fn note_snapshot(&mut self, lsn: u64) {
        self.snapshot_lsn = lsn;
        self.carried = Carried::default();
        self.snapshot_bytes = self.log.appended_bytes();
        self.snapshot_segment = self.log.segment();
        self.snapshot_at = Instant::now();
    }

    /// Runs work under a control handle through which closing the database cancels it.
    fn under_control<T>(
        &self,
        task: Task,
        work: impl FnOnce(&Control) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let control = self.store.control(task);
        let mut state = self.shared.state.lock();
        if state.stopped || state.paused {
            return Err(Error::Cancelled);
        }
        state.control = Some(control.clone());
        drop(state);
        let result = control.run(work);
        self.shared.state.lock().control = None;
        result
    }

    fn snapshot(&mut self) -> Result<(), Error> {
        let bytes = self.log.appended_bytes();
        let view = self.world.capture()?;
        let info = self.under_control(Task::Snapshot, |control| self.store.snapshot(view, control))?;
        self.note_snapshot(info.lsn.0);
        self.snapshot_bytes = bytes;
        Ok(())
    }

    fn compact(&mut self) -> Result<(), Error> {
        let bytes = self.log.appended_bytes();
        let capture = || Ok(self.world.capture()?);
        let info =
            self.under_control(Task::Compaction, |control| self.store.compact_when_due(capture, control))?;
        self.note_snapshot(info.lsn.0);
        self.snapshot_bytes = bytes;
        (self.compacted_lsn, self.compacted_at) = (info.lsn.0, Instant::now());
        // Done is done, whatever can be listed.
        if let Ok(left) = self.store.stats() {
            self.left_bytes = left.log_bytes + left.archive_bytes;
        }
        Ok(())
    }

    fn merge_chunks(&mut self) -> Result<(), Error> {
        let appended = self.log.appended_lsn().0;
        self.under_control(Task::Compaction, |control| self.world.compact_chunks(control))?;
        self.merged_lsn = appended;
        Ok(())
    }
}
