//! The durable half of an open database: log, store, lock, and the work in the background.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ecsdb_compactor::{Control, Error as StoreError, Event, EventSender, Store, StoreSettings, Task};
use ecsdb_config::{Changes, PersistenceConfig};
use ecsdb_core::{View, World};
use ecsdb_io::sync::atomic::{AtomicU64, Ordering};
use ecsdb_io::sync::thread::{self, JoinHandle, ThreadId};
use ecsdb_io::sync::{Condvar, Instant, Mutex, MutexGuard};
use ecsdb_io::{Priority, Scheduler, Vfs};
use ecsdb_recovery::RecoveryReport;
use ecsdb_wal::{Log, LogError, Lsn, Threads};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::maintenance::{Carried, Maintenance};
use crate::nesting::{Nesting, own_thread};

pub(crate) struct Persistence {
    /// For reading what there was: a restore gives way to the log.
    pub(crate) recovery_vfs: Arc<dyn Vfs>,
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
    pub(crate) store: Arc<Store>,
    pub(crate) events: EventSender,
    pub(crate) world: SharedWorld,
    /// `None` where nothing may run in the background.
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) maintenance: Option<Maintenance>,
    /// As they were accepted last.
    pub(crate) config: Mutex<PersistenceConfig>,
    /// Those of the opening.
    opened: PersistenceConfig,
    threads: Threads,
    /// `None` once the database is closed.
    jobs: Mutex<Option<Vec<Running>>>,
    closing: Mutex<Closing>,
    closed: Condvar,
}

/// How far closing is.
#[derive(Debug)]
enum Closing {
    No,
    By(ThreadId),
    Done(Result<(), CloseFailure>),
}

/// Why a database could not be closed as it should.
#[derive(Debug, Clone)]
enum CloseFailure {
    Log(LogError),
    Panicked,
}

impl From<CloseFailure> for Error {
    fn from(failure: CloseFailure) -> Self {
        match failure {
            CloseFailure::Log(e) => Error::Log(e),
            CloseFailure::Panicked => Error::Panicked("background thread"),
        }
    }
}

/// A job under way.
type Running = (Control, JoinHandle<()>);

/// The live world, as background work gets at it: for moments. It holds no part of the database, so that dropping that ends
/// the work.
#[derive(Clone)]
pub(crate) struct SharedWorld {
    world: Arc<Mutex<World>>,
    /// LSN of the last committed transaction, for those who must not wait for the one under way.
    lsn: Arc<AtomicU64>,
    /// How long the last capture for a snapshot kept the writers waiting.
    stall: Arc<Mutex<Duration>>,
}

/// Rows that a compaction in memory moves while it holds the world: some tens of microseconds.
const ROWS_AT_ONCE: usize = 512;

impl SharedWorld {
    pub(crate) fn new(world: World) -> Self {
        let lsn = Arc::new(AtomicU64::new(world.lsn().0));
        SharedWorld { world: Arc::new(Mutex::new(world)), lsn, stall: Arc::default() }
    }

    /// The world, for the caller alone: the one way to it. CKP-1: one in which half of a transaction is left is shown to nobody, nor written to
    /// any file.
    ///
    /// # Errors
    /// [`ecsdb_core::Error::Poisoned`].
    pub(crate) fn hold(&self) -> Result<Held<'_>, ecsdb_core::Error> {
        self.held(self.world.lock())
    }

    /// As [`SharedWorld::hold`], if nobody else has it.
    pub(crate) fn try_hold(&self) -> Option<Result<Held<'_>, ecsdb_core::Error>> {
        self.world.try_lock().map(|world| self.held(world))
    }

    fn held<'a>(&self, world: MutexGuard<'a, World>) -> Result<Held<'a>, ecsdb_core::Error> {
        if world.is_poisoned() {
            return Err(ecsdb_core::Error::Poisoned);
        }
        Ok(Held { world, _nesting: Nesting::enter(self.address()) })
    }

    /// Waits until nobody holds it.
    pub(crate) fn pass(&self) {
        drop(self.world.lock());
    }

    /// What tells it from any other.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.world).addr()
    }

    /// LSN of the last committed transaction.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    /// Notes a commit, while the world is held.
    pub(crate) fn committed(&self, lsn: Lsn) {
        self.lsn.store(lsn.0, Ordering::Release);
    }

    /// A view for a snapshot.
    pub(crate) fn capture(&self) -> Result<View, ecsdb_core::Error> {
        let world = self.hold()?;
        let began = Instant::now();
        let view = world.view();
        drop(world);
        *self.stall.lock() = began.elapsed();
        Ok(view)
    }

    pub(crate) fn last_stall(&self) -> Duration {
        *self.stall.lock()
    }

    /// Merges sparse chunks, a few at a time, so that no writer waits for more than a moment.
    pub(crate) fn compact_chunks(&self, control: &Control) -> Result<(), StoreError> {
        // Not at a low priority: writers wait for whoever holds the world.
        while self.hold()?.compact_chunks(ROWS_AT_ONCE).more {
            control.check()?;
            thread::yield_now();
        }
        Ok(())
    }
}

/// The world, held by this thread.
pub(crate) struct Held<'a> {
    world: MutexGuard<'a, World>,
    _nesting: Nesting,
}

impl Deref for Held<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// What a [`Persistence`] is made from.
pub(crate) struct Parts {
    pub(crate) recovery_vfs: Arc<dyn Vfs>,
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
    pub(crate) store: Arc<Store>,
    pub(crate) events: EventSender,
    pub(crate) world: SharedWorld,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) config: PersistenceConfig,
    pub(crate) threads: Threads,
}

impl Persistence {
    /// The first moment that can be gone back to.
    pub(crate) fn earliest(&self) -> Option<(Lsn, u64)> {
        let _pin = self.store.pin();
        match ecsdb_recovery::earliest(&*self.recovery_vfs, self.store.layout(), &self.store.manifest()) {
            Ok(earliest) => earliest,
            // REC-14: a look at the rest needs no archive.
            Err(e) => {
                tracing::debug!(error = %e, "what can be gone back to cannot be looked at");
                None
            }
        }
    }

    pub(crate) fn start(parts: Parts) -> Result<Self> {
        // Where there is no thread to be had, the log goes first: the store has the locks.
        let Parts { recovery_vfs, report, store, events, world, scheduler, config, threads, log } = parts;
        let maintenance = match threads {
            Threads::Background => {
                let carried = Carried { bytes: report.log_bytes, segments: report.segments as u64 };
                let schedule = config.schedule();
                let started =
                    Maintenance::start(store.clone(), log.clone(), world.clone(), schedule, carried);
                Some(started.map_err(Error::Thread)?)
            }
            Threads::None => None,
        };
        Ok(Persistence {
            recovery_vfs,
            log,
            report,
            store,
            events,
            world,
            scheduler,
            maintenance,
            opened: config.clone(),
            config: Mutex::new(config),
            threads,
            jobs: Mutex::new(Some(Vec::new())),
            closing: Mutex::new(Closing::No),
            closed: Condvar::new(),
        })
    }

    /// Runs `work` on a thread of its own; at once where there are none.
    pub(crate) fn job<T: Send + 'static>(
        &self,
        task: Task,
        work: impl FnOnce(&Control) -> Result<T> + Send + 'static,
    ) -> Result<Job<T>> {
        let control = self.store.control(task);
        let (job, sender) = Job::new(control.clone(), self.world.address());
        let events = self.events.clone();
        let of_work = control.clone();
        // What the work pinned, or did not come to the end of, is looked at again.
        let wake = self.maintenance.as_ref().map(Maintenance::waker);
        let run = move || {
            let result = of_work.run(work);
            if let Some(wake) = wake {
                wake();
            }
            if let Err(e) = &result
                && !e.is_cancelled()
            {
                events.send(Event::Failed { task, error: e.to_string(), retry_in: None });
            }
            sender.send(result);
        };
        if self.threads == Threads::None {
            run();
            return Ok(job);
        }
        let name = format!("ecsdb-{task}");
        let owner = self.address();
        // Kept here meanwhile: without a thread it is dropped under no lock, and what is in it may do anything then.
        let run = Arc::new(Mutex::new(Some(run)));
        let of_thread = run.clone();
        let background = move || {
            own_thread::enter(owner);
            let run = of_thread.lock().take();
            if let Some(run) = run {
                run();
            }
        };
        // Under the lock: closing ends every job that was begun, and none is begun after it.
        let mut jobs = self.jobs.lock();
        let jobs = jobs.as_mut().ok_or(Error::Closed)?;
        let thread = thread::Builder::new().name(name).spawn(background).map_err(Error::Thread)?;
        jobs.retain(|(_, thread)| !thread.is_finished());
        jobs.push((control, thread));
        Ok(job)
    }

    /// Puts settings into force, as far as they can change while the database runs; or leaves everything as it was.
    pub(crate) fn reconfigure(&self, new: PersistenceConfig) -> Result<Changes> {
        self.check_settings(&new)?;
        self.put_into_force(self.config.lock(), new)
    }

    /// As [`Persistence::reconfigure`], of what `change` makes of the settings, which is called again where somebody else has changed them meanwhile.
    pub(crate) fn reconfigure_with(&self, mut change: impl FnMut(&mut PersistenceConfig)) -> Result<Changes> {
        loop {
            let were = self.config.lock().clone();
            let mut new = were.clone();
            // Without the lock: it may do anything, and take long.
            change(&mut new);
            self.check_settings(&new)?;
            let config = self.config.lock();
            if *config == were {
                return self.put_into_force(config, new);
            }
        }
    }

    fn check_settings(&self, new: &PersistenceConfig) -> Result<()> {
        Ok(new.validate().inspect_err(|e| self.not_reconfigured(e))?)
    }

    fn put_into_force(
        &self,
        mut config: MutexGuard<'_, PersistenceConfig>,
        new: PersistenceConfig,
    ) -> Result<Changes> {
        // Asked while nobody else changes them: what closing sets stays.
        if !matches!(*self.closing.lock(), Closing::No) {
            return Err(Error::Closed);
        }
        let changes = config.changes_to(&new, &self.opened);
        self.log.set_options(&new.log_options());
        let keep_all = self.store.settings().keep_all;
        self.store.set_settings(StoreSettings { keep_all, ..new.store_settings() });
        if let Some(scheduler) = &self.scheduler {
            scheduler.set_rate_limit(Priority::Snapshot, new.bytes_per_second_max());
        }
        if let Some(maintenance) = &self.maintenance {
            maintenance.set_schedule(new.schedule());
        }
        *config = new;
        // Before whoever closes can come to its end.
        let noted = self.store.note_settings();
        drop(config);
        // It is with the next manifest then. Without the lock: whoever is told may do anything.
        if let Err(e) = noted {
            tracing::warn!(error = %e, "what is to be kept of the past could not be noted in the manifest");
            let error = e.to_string();
            self.events.send(Event::Failed { task: Task::Retention, error, retry_in: None });
        }
        if !changes.is_empty() {
            let Changes { live, at_next_opening, .. } = changes.clone();
            self.events.send(Event::Reconfigured { live, at_next_opening });
        }
        Ok(changes)
    }

    /// Tells of settings that were refused, to whoever looks for failures.
    pub(crate) fn not_reconfigured(&self, e: &impl std::fmt::Display) {
        let error = e.to_string();
        self.events.send(Event::Failed { task: Task::Reconfigure, error, retry_in: None });
    }

    /// After a commit: wakes whoever takes snapshots, if enough has come together.
    #[inline]
    pub(crate) fn committed(&self, lsn: u64) {
        if let Some(maintenance) = &self.maintenance {
            maintenance.committed(lsn, &self.log);
        }
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.store).addr()
    }

    /// True on the threads that [`Persistence::close`] waits for.
    pub(crate) fn is_own_thread(&self) -> bool {
        own_thread::is_of(self.address()) || self.log.is_own_thread()
    }

    /// True where nobody may wait for a thread that may be closing: closing waits for this one, or for what it has yet to call.
    pub(crate) fn is_in_the_way_of_closing(&self) -> bool {
        let this = thread::current().id();
        own_thread::is_any()
            || self.is_own_thread()
            || matches!(&*self.closing.lock(), Closing::By(thread) if *thread == this)
    }

    /// Ends the background work, closes the log, and releases the directory, in this order. Whoever comes second waits, and is told the
    /// same.
    pub(crate) fn close(&self) -> Result<()> {
        let this = thread::current().id();
        let mut closing = self.closing.lock();
        loop {
            match &*closing {
                Closing::Done(result) => return result.clone().map_err(Error::from),
                Closing::By(thread) if *thread == this => return Err(Error::Nested),
                Closing::By(_) => self.closed.wait(&mut closing),
                Closing::No => break,
            }
        }
        *closing = Closing::By(this);
        drop(closing);
        let result =
            catch_unwind(AssertUnwindSafe(|| self.close_first())).unwrap_or(Err(CloseFailure::Panicked));
        *self.closing.lock() = Closing::Done(result.clone());
        self.closed.notify_all();
        result.map_err(Error::from)
    }

    fn close_first(&self) -> Result<(), CloseFailure> {
        // What is under way comes to its end at the priority of whoever waits for it.
        let _waiting = self.store.urgency().wait();
        // All work is cancelled at once, and there is no limit on the rate: whoever waits for another's turn gets it.
        let lift =
            || self.scheduler.iter().for_each(|scheduler| scheduler.set_rate_limit(Priority::Snapshot, None));
        lift();
        let jobs = self.jobs.lock().take().unwrap_or_default();
        for (control, _) in &jobs {
            control.cancel();
        }
        // Whoever changes the settings comes to an end, and nobody does from here on.
        let config = self.config.lock();
        lift();
        drop(config);
        let mut panicked = self.maintenance.as_ref().is_some_and(|maintenance| !maintenance.stop());
        for (_, thread) in jobs {
            panicked |= thread.join().is_err();
        }
        // The log first: what is queued in it may need one more segment.
        let closed = self.log.close();
        // With everything durable, and nothing to come, the manifest says where the log ends (REC-13). Whoever closes has lost nothing if
        // that fails.
        if closed.is_ok()
            && let Err(e) = self.store.note_log()
        {
            tracing::warn!(error = %e, "the end of the log could not be noted in the manifest");
            let error = e.to_string();
            self.events.send(Event::Failed { task: Task::Retention, error, retry_in: None });
        }
        if let Some(scheduler) = &self.scheduler {
            scheduler.close();
        }
        self.store.close();
        self.events.close();
        closed.map_err(CloseFailure::Log)?;
        if panicked { Err(CloseFailure::Panicked) } else { Ok(()) }
    }
}
