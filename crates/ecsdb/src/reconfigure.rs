//! Changing the settings of a running database.

use std::path::Path;

use ecsdb_config::{Changes, PersistenceConfig};

use crate::database::Database;
use crate::error::Result;
use crate::watch::ConfigWatch;

impl Database {
    /// The settings as they were accepted last: those of the opening, or those of the last change.
    ///
    /// # Errors
    /// [`Error::InMemory`](crate::Error::InMemory) and its like: without files there are none.
    pub fn config(&self) -> Result<PersistenceConfig> {
        self.with_files("configure", |persistence| Ok(persistence.config.lock().clone()))
    }

    /// Changes settings while the database runs. Says which have taken effect (triggers, retention, archiving, compression, rates, the
    /// flush interval, the bounds of log, queue and transactions) and which are for the next opening (directories, the size of the first
    /// segment, recovery). What the retention keeps less of goes at once, in the background. Waits for a write of the log that is under
    /// way. Nothing but what is said of archive and retention is stored: the next opening goes by the settings that it is given.
    ///
    /// These take the place of [those that hold](Database::config), whoever has changed them meanwhile; [`Database::reconfigure_with`] changes some of them.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let mut config = db.config()?;
    /// config.snapshot.after_transactions = 10_000;
    /// config.recovery.threads = 2;
    /// let changes = db.reconfigure(config.clone())?;
    /// assert_eq!(changes.live, ["snapshot.after_transactions"]);
    /// assert_eq!(changes.at_next_opening, ["recovery.threads"]);
    ///
    /// config.snapshot.chain_max = 0;
    /// assert_eq!(db.reconfigure(config).unwrap_err().kind(), ErrorKind::Config);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with everything that is wrong: nothing is changed then, and it is an event and a failure in
    /// the statistics, too. [`Error::InMemory`](crate::Error::InMemory) and its like.
    pub fn reconfigure(&self, config: PersistenceConfig) -> Result<Changes> {
        self.with_files("configure", |persistence| persistence.reconfigure(config))
    }

    /// As [`Database::reconfigure`], of what `change` makes of the settings that hold. It is called again where somebody else has changed them meanwhile, so
    /// that nothing of what several change at once is lost.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let changes = db.reconfigure_with(|config| config.snapshot.after_transactions = 10_000)?;
    /// assert_eq!(changes.live, ["snapshot.after_transactions"]);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::reconfigure`].
    pub fn reconfigure_with(&self, change: impl FnMut(&mut PersistenceConfig)) -> Result<Changes> {
        self.with_files("configure", |persistence| persistence.reconfigure_with(change))
    }

    /// Goes by the configuration file `path`, and by the environment over it, for as long as what this returns lives: now, and whenever the
    /// file is written, or another one is renamed to its place. A file that names no `dir` is one for this database, wherever it lies. `over` sets what
    /// the program wants otherwise than file and environment. A file that is wrong changes nothing: that is an event, a failure in the statistics,
    /// and stands in the `tracing` log with its line. So does a panic of `over`, and the file is followed all the same.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let file = dir.path().join("ecsdb.toml");
    /// # std::fs::write(&file, "[snapshot]\ninterval = \"1h\"\n").unwrap();
    /// let db = Database::new_with_persistence(PersistenceConfig::from_file(&file)?)?;
    /// let watch = db.watch_config(&file, |_| {})?;
    /// // From here on whoever edits the file changes the running database.
    /// drop(watch);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the file is wrong now, or the system cannot tell of its changes.
    pub fn watch_config(
        &self,
        path: impl AsRef<Path>,
        over: impl Fn(&mut PersistenceConfig) + Send + 'static,
    ) -> Result<ConfigWatch> {
        self.with_files("configure", |persistence| {
            ConfigWatch::start(persistence, path.as_ref(), Box::new(over))
        })
    }
}
