//! A configuration file that the running database goes by.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ecsdb_config::PersistenceConfig;
use ecsdb_io::sync::thread::{self, JoinHandle};
use ecsdb_io::sync::{Condvar, Instant, Mutex};
use ecsdb_io::{FileOp, IoError, Process};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::database::{Database, Inner};
use crate::error::{Error, Result};

/// Without an event for so long, a file is taken for written.
const QUIET: Duration = Duration::from_millis(100);
/// It is read after so long in any case.
const PATIENCE: Duration = Duration::from_secs(1);

type Over = Box<dyn Fn(&mut PersistenceConfig) + Send>;

/// Follows a configuration file for as long as it lives; see [`Database::watch_config`]. It does not keep the database open.
#[derive(Debug)]
#[must_use = "the file is followed only while this lives"]
pub struct ConfigWatch {
    /// Whose the threads are.
    process: Process,
    shared: Arc<Shared>,
    /// Tells of changes.
    watcher: Option<RecommendedWatcher>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    changed: bool,
    stopped: bool,
}

/// What is followed.
struct Follower {
    path: PathBuf,
    over: Over,
    /// What the file said last: settings, or what is wrong with them.
    said: Option<Result<PersistenceConfig, String>>,
}

impl ConfigWatch {
    pub(crate) fn start(db: &Database, path: &Path, over: Over) -> Result<ConfigWatch> {
        let refused = |cause: notify::Error| {
            Error::Config(IoError::new(FileOp::Watch, path, std::io::Error::other(cause)).into())
        };
        // It holds wherever the program goes afterwards.
        let path = std::path::absolute(path).map_err(|e| refused(e.into()))?;
        let shared = Arc::new(Shared::default());
        let to_tell = shared.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change. After an error it is not known what has changed.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                to_tell.tell(|state| state.changed = true);
            }
        })
        .map_err(refused)?;
        // The directory, since an editor may put a new file in the place of the old one; and that which a link leads to.
        let mut dirs: Vec<PathBuf> = path.parent().map(PathBuf::from).into_iter().collect();
        dirs.extend(path.canonicalize().ok().and_then(|real| real.parent().map(PathBuf::from)));
        dirs.dedup();
        for dir in dirs {
            watcher.watch(&dir, RecursiveMode::NonRecursive).map_err(refused)?;
        }
        let mut follower = Follower { path, over, said: None };
        follower.follow(db)?;
        let (weak, for_thread) = (Arc::downgrade(&db.inner), shared.clone());
        let thread = thread::Builder::new()
            .name("ecsdb-config".into())
            .spawn(move || run(&for_thread, &weak, follower))
            .map_err(Error::Thread)?;
        let process = Process::current();
        Ok(ConfigWatch { process, shared, watcher: Some(watcher), thread: Some(thread) })
    }
}

impl Drop for ConfigWatch {
    fn drop(&mut self) {
        // In a fork there are no threads to tell, or to wait for.
        if !self.process.is_current() {
            return std::mem::forget((self.watcher.take(), self.thread.take()));
        }
        self.shared.tell(|state| state.stopped = true);
        // The thread itself drops this when it has the last handle of a database whose owner keeps it.
        if let Some(thread) = self.thread.take().filter(|it| it.thread().id() != thread::current().id()) {
            // A panic of `over` has ended it, and was told.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn tell(&self, what: impl FnOnce(&mut State)) {
        what(&mut self.state.lock());
        self.told.notify_all();
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
}

fn run(shared: &Shared, db: &Weak<Inner>, mut follower: Follower) {
    while shared.changed() {
        let Some(inner) = db.upgrade() else { return };
        // Any other failure was told to whoever looks for them.
        if let Err(Error::Closed) = follower.follow(&Database { inner }) {
            return;
        }
    }
}

impl Follower {
    /// Reads the file, and puts it into force if it says something else than before.
    fn follow(&mut self, db: &Database) -> Result<()> {
        let read = PersistenceConfig::from_file(&self.path).map(|mut config| {
            (self.over)(&mut config);
            config
        });
        let said = read.as_ref().cloned().map_err(ToString::to_string);
        if self.said.as_ref() == Some(&said) {
            return Ok(());
        }
        self.said = Some(said);
        match read {
            Ok(config) => db.reconfigure(config).map(drop),
            Err(e) => {
                db.persistence("configure")?.not_reconfigured(&e);
                Err(e.into())
            }
        }
    }
}
