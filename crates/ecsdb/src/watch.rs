//! A configuration file that the running database goes by.

mod way;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ecsdb_compactor::Error as StoreError;
use ecsdb_config::{Error as ConfigError, PersistenceConfig};
use ecsdb_io::sync::thread::{self, JoinHandle};
use ecsdb_io::sync::{Condvar, Instant, Mutex};
use ecsdb_io::{FileOp, IoError, Process};
use notify::EventKind;

use crate::error::{Error, Result};
use crate::nesting::own_thread;
use crate::persistence::Persistence;
use way::{Teller, Way, cause};

/// Without an event for so long, a file is taken for written.
const QUIET: Duration = Duration::from_millis(100);
/// It is read after so long in any case.
const PATIENCE: Duration = Duration::from_secs(1);

type Over = Box<dyn Fn(&mut PersistenceConfig) + Send>;

/// Follows a configuration file for as long as it lives; see [`Database::watch_config`](crate::Database::watch_config). It does not keep the database open.
/// Dropping it waits until nothing is put into force any more; but not on a thread of a database, as in a waker: closing may be waiting for that.
#[derive(Debug)]
#[must_use = "the file is followed only while this lives"]
pub struct ConfigWatch {
    /// Whose the threads are.
    process: Process,
    persistence: Weak<Persistence>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What counts as a change.
    way: Way,
    changed: bool,
    stopped: bool,
}

/// What is followed.
struct Follower {
    path: PathBuf,
    /// That of the database, which a file that names none is of.
    dir: PathBuf,
    over: Over,
    /// What the file said last: settings, or what is wrong with them.
    said: Option<Result<PersistenceConfig, String>>,
}

impl ConfigWatch {
    pub(crate) fn start(persistence: &Arc<Persistence>, path: &Path, over: Over) -> Result<ConfigWatch> {
        let refused = |cause| Error::Config(IoError::new(FileOp::Watch, path, cause).into());
        // It holds wherever the program goes afterwards.
        let path = std::path::absolute(path).map_err(refused)?;
        let shared = Arc::new(Shared::default());
        let to_tell = shared.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            // Reading is no change.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) if !event.need_rescan() => {
                to_tell.tell(|state| state.changed |= state.way.leads_over(&event.paths));
            }
            // It is not known what has changed.
            _ => to_tell.tell(|state| state.changed = true),
        })
        .map_err(|e| refused(cause(e)))?;
        let mut teller = Teller::new(watcher);
        // Directories, since an editor may put a new file in the place of the old one, and all on the way, since each of them may be another one next.
        teller.watch(&path, |way| shared.note(way)).map_err(refused)?;
        let dir = persistence.config.lock().dir.clone();
        let mut follower = Follower { path, dir, over, said: None };
        if let Some(read) = follower.read() {
            put_into_force(persistence, read)?;
        }
        let (weak, for_thread) = (Arc::downgrade(persistence), shared.clone());
        let thread = thread::Builder::new()
            .name("ecsdb-config".into())
            .spawn(move || run(&for_thread, &weak, teller, follower))
            .map_err(Error::Thread)?;
        let (process, persistence) = (Process::current(), Arc::downgrade(persistence));
        Ok(ConfigWatch { process, persistence, shared, thread: Some(thread) })
    }
}

impl Drop for ConfigWatch {
    fn drop(&mut self) {
        // In a fork there are no threads to tell, or to wait for.
        if !self.process.is_current() {
            return std::mem::forget(self.thread.take());
        }
        self.shared.tell(|state| state.stopped = true);
        // The thread itself drops this when `over` keeps it, or a value of a world of which nobody has more than the thread; and `over` may be
        // closing the database.
        let is_in_the_way = match self.persistence.upgrade() {
            Some(persistence) => persistence.is_in_the_way_of_closing(),
            None => own_thread::is_any(),
        };
        let is_another = |it: &JoinHandle<()>| it.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(|it| !is_in_the_way && is_another(it))
            && thread.join().is_err()
        {
            tracing::error!("a value of the database panicked when it was dropped");
        }
    }
}

impl Shared {
    fn tell(&self, what: impl FnOnce(&mut State)) {
        what(&mut self.state.lock());
        self.told.notify_all();
    }

    fn note(&self, way: Way) {
        self.state.lock().way = way;
    }

    /// Waits for a change, and then until there are no more for a while. False once nobody wants to know.
    fn changed(&self) -> bool {
        let mut state = self.state.lock();
        while !state.changed && !state.stopped {
            self.told.wait(&mut state);
        }
        let latest = Instant::now() + PATIENCE;
        while state.changed && !state.stopped && Instant::now() < latest {
            state.changed = false;
            let until = latest.min(Instant::now() + QUIET);
            while !state.changed && !state.stopped && !self.told.wait_until(&mut state, until).timed_out() {}
        }
        state.changed = false;
        !state.stopped
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}

fn run(shared: &Shared, persistence: &Weak<Persistence>, mut teller: Teller, mut follower: Follower) {
    while shared.changed() {
        // What cannot be watched now, may be again when what is above it changes.
        if let Err(e) = teller.watch(&follower.path, |way| shared.note(way)) {
            tracing::debug!(error = %e, "the directory of the settings is not watched");
        }
        let read = catch_unwind(AssertUnwindSafe(|| follower.read()));
        // Whoever drops the database meanwhile closes it: this is no handle of it.
        let Some(persistence) = persistence.upgrade() else { return };
        // Whoever dropped the watch has not always waited.
        if shared.is_stopped() {
            return;
        }
        match read {
            Ok(None) => {}
            Ok(Some(read)) => {
                // Any other failure was told to whoever looks for them.
                if let Err(Error::Closed) = put_into_force(&persistence, read) {
                    return;
                }
            }
            // CKP-7: it is the program's own code that panicked, and the file is followed all the same.
            Err(panic) => persistence.not_reconfigured(&StoreError::of_panic(&*panic)),
        }
    }
}

impl Follower {
    /// Reads the file, if it says something else than before.
    fn read(&mut self) -> Option<Result<PersistenceConfig, ConfigError>> {
        // Nothing is known of what it said when `over` panicked.
        let before = self.said.take();
        let read = PersistenceConfig::from_file_for(&self.path, &self.dir).map(|mut config| {
            (self.over)(&mut config);
            config
        });
        let said = self.said.insert(read.as_ref().cloned().map_err(ToString::to_string));
        (before.as_ref() != Some(said)).then_some(read)
    }
}

fn put_into_force(persistence: &Persistence, read: Result<PersistenceConfig, ConfigError>) -> Result<()> {
    match read {
        Ok(config) => persistence.reconfigure(config).map(drop),
        Err(e) => {
            persistence.not_reconfigured(&e);
            Err(e.into())
        }
    }
}
