//! Opening with choices beyond the settings: another filesystem, progress, no background threads.

use std::sync::{Arc, OnceLock};

use ecsdb_compactor::{Control, Event, EventSender, Store, StoreFiles, Task};
use ecsdb_config::PersistenceConfig;
use ecsdb_io::sync::{IS_SIMULATED, thread};
use ecsdb_io::{Disk, Priority, Scheduler, SchedulerOptions, Urgency, Vfs};
use ecsdb_recovery::{Existence, Moment, Policy, Step, recover};
use ecsdb_wal::{Log, Threads};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::nesting::own_thread;
use crate::persistence::{Parts, Persistence, SharedWorld};
use crate::restore::{of_closed, told};

/// What is chosen when a database is opened.
///
/// ```
/// use ecsdb::prelude::*;
///
/// # let dir = tempfile::tempdir().unwrap();
/// let db = Database::builder(dir.path()).progress(|step| eprintln!("{step}")).open()?;
/// # Ok::<(), ecsdb::Error>(())
/// ```
#[must_use = "a builder does nothing before it opens"]
pub struct Builder {
    config: PersistenceConfig,
    vfs: Arc<dyn Vfs>,
    progress: Box<dyn FnMut(&Step)>,
    threads: Threads,
    keep_all: bool,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("vfs", &self.vfs)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A builder with these settings.
    pub fn new(config: PersistenceConfig) -> Self {
        Builder {
            config,
            vfs: Arc::new(Disk),
            progress: Box::new(|_| {}),
            threads: Threads::Background,
            keep_all: false,
        }
    }

    /// Changes the settings.
    pub fn config(mut self, change: impl FnOnce(&mut PersistenceConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// What is done about damage; [`Policy::TruncateTail`] unless set.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.recovery.policy = policy;
        self
    }

    /// Files from somewhere else than the operating system: a simulated disk, say.
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// Calls back with each step of the recovery, as it happens.
    pub fn progress(mut self, progress: impl FnMut(&Step) + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// What the settings do not say of `retention` and `archive.enabled` gives nothing of the past up while the database is open, whatever was
    /// said before: log that recovery does not need goes to the archive. It is not noted, so that afterwards holds what was said last: the
    /// next opening without this goes by that, or by the defaults, and may give up what was kept. For tools that work on a database without
    /// the settings of the program whose it is.
    pub fn keep_all(mut self) -> Self {
        self.keep_all = true;
        self
    }

    /// Starts no threads: whoever waits does the work, and `Batched` commits become durable with the next wait or
    /// [`Database::sync`]. With a simulated disk every run of a single-threaded program is then the same.
    pub fn without_threads(mut self) -> Self {
        self.threads = Threads::None;
        self
    }

    /// Opens the database, or makes a new one.
    ///
    /// # Errors
    /// As [`Database::open`], or when a setting is out of range.
    pub fn open(self) -> Result<Database> {
        self.open_where(Existence::Any)
    }

    /// Opens the database, which must be there.
    ///
    /// # Errors
    /// As [`Database::open_existing`], or when a setting is out of range.
    pub fn open_existing(self) -> Result<Database> {
        self.open_where(Existence::Required)
    }

    /// Makes a database where there must be none.
    ///
    /// # Errors
    /// As [`Database::create_new`], or when a setting is out of range.
    pub fn create_new(self) -> Result<Database> {
        self.open_where(Existence::Refused)
    }

    /// Reads the database as it is now, and changes nothing.
    ///
    /// # Errors
    /// As [`Database::open_read_only`], or when a setting is out of range.
    pub fn open_read_only(mut self) -> Result<Database> {
        self.config.validate()?;
        let threads = self.threads_to_open();
        let layout = self.config.layout_in(&*self.vfs)?;
        let mut follow = told(&mut *self.progress);
        let latest = of_closed(&self.vfs, &layout, Moment::Latest, threads, true, &mut follow)?;
        Ok(Database::read_only(latest.world, latest.report))
    }

    fn threads_to_open(&self) -> usize {
        match (self.threads, self.config.recovery.threads) {
            (Threads::None, _) => 1,
            (_, 0) => thread::available_parallelism().map_or(1, Into::into),
            (_, n) => n,
        }
    }

    fn open_where(mut self, existence: Existence) -> Result<Database> {
        self.config.validate()?;
        let layout = self.config.layout_in(&*self.vfs)?;
        let threads = self.threads_to_open();
        let options = ecsdb_recovery::Options {
            existence,
            policy: self.config.recovery.policy,
            threads,
            register: true,
        };
        let mut recovered = recover(&self.vfs, &layout, options, &mut self.progress)?;
        let owner = Arc::new(OnceLock::new());
        let urgency = match self.threads {
            Threads::None => Urgency::of_caller(),
            Threads::Background => {
                let owner = owner.clone();
                Urgency::new(move || own_thread::enter(owner.get().copied().unwrap_or(0)))
            }
        };
        // Whoever opens waits.
        let _opening = urgency.wait();
        let scheduler = match self.threads {
            Threads::None => None,
            // It is a runtime of its own, and only a layer over files.
            Threads::Background if IS_SIMULATED => None,
            Threads::Background => {
                let options = SchedulerOptions { urgency: urgency.clone(), ..SchedulerOptions::default() };
                Some(Scheduler::start(options).map_err(Error::Thread)?)
            }
        };
        let class = |priority| match &scheduler {
            Some(scheduler) => scheduler.vfs(self.vfs.clone(), priority),
            None => self.vfs.clone(),
        };
        let events = match self.threads {
            Threads::None => EventSender::default(),
            Threads::Background => EventSender::with_thread(own_thread::serve).map_err(Error::Thread)?,
        };
        let log_options = ecsdb_wal::LogOptions { threads: self.threads, ..self.config.log_options() };
        let log = Log::start(
            self.vfs.clone(),
            class(Priority::Log),
            layout.log_dir(),
            log_options,
            recovered.log_start.clone(),
        )?;
        // CKP-11: what is said holds from here on, whether it comes to a trim or not.
        let was = recovered.manifest.kept;
        recovered.manifest.kept = self.config.store_settings().said(was);
        let owes_trim = !recovered.report.created && recovered.manifest.kept != was;
        recovered.complete(&*self.vfs, &layout, &mut self.progress)?;
        let loaded = recovered.report.snapshot.map(|snapshot| snapshot.sequence);
        let store = Store::new(
            StoreFiles {
                snapshot: class(Priority::Snapshot),
                archive: class(Priority::Archive),
                direct: self.vfs.clone(),
                locks: recovered.locks,
            },
            layout,
            log.clone(),
            recovered.manifest,
            ecsdb_compactor::StoreSettings { keep_all: self.keep_all, ..self.config.store_settings() },
            events.clone(),
            urgency,
        );
        let store = Arc::new(store.goes_on_from(loaded, owes_trim));
        owner.get_or_init(|| Arc::as_ptr(&store).addr());
        if let Some(scheduler) = &scheduler {
            scheduler.set_rate_limit(Priority::Snapshot, self.config.bytes_per_second_max());
        }
        let world = SharedWorld::new(recovered.world);
        let overdue = self.threads == Threads::Background
            && self.config.schedule().is_overdue(recovered.report.segments as u64);
        let persistence = Persistence::start(Parts {
            recovery_vfs: class(Priority::Recovery),
            log,
            report: recovered.report,
            store,
            events,
            world: world.clone(),
            scheduler,
            config: self.config,
            threads: self.threads,
        })?;
        let store = persistence.store.clone();
        let db = Database::from_parts(world.clone(), Some(persistence));
        // From here on nothing rests on what was damaged, and any policy opens it again.
        let end = |control: &Control| store.end_salvage(|| Ok(world.capture()?), control);
        store.control(Task::Compaction).run(end)?;
        if overdue {
            // IO-1: sessions that are shorter than a snapshot takes would never come to one. Without it the log is as good as before.
            let snapshot = |control: &Control| store.snapshot(world.capture()?, control);
            if let Err(e) = store.control(Task::Snapshot).run(snapshot) {
                tracing::warn!(error = %e, "a snapshot that is overdue could not be taken");
                let error = e.to_string();
                store.events().send(Event::Failed { task: Task::Snapshot, error, retry_in: None });
            }
        }
        Ok(db)
    }
}
