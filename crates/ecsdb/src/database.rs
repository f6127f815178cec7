//! The database handle: transactions, views, closing.

use std::path::Path;
use std::sync::Arc;

use ecsdb_config::PersistenceConfig;
use ecsdb_core::{Transaction, View, WeakView, World};
use ecsdb_io::sync::atomic::{AtomicBool, Ordering};
use ecsdb_io::sync::{Mutex, thread};
use ecsdb_recovery::RecoveryReport;
use ecsdb_wal::{Durability, Log, Lsn, Payload};

use crate::blocking::Helper;
use crate::builder::Builder;
use crate::error::{Abort, Error, Result};
use crate::nesting::Nesting;
use crate::persistence::{Held, Persistence, SharedWorld};
use crate::ticket::Ticket;

/// An ECS world whose committed transactions survive whatever ends the process.
///
/// A handle is cheap to clone and may be used from any thread. The database closes when the last handle is
/// dropped, or by [`Database::close`].
///
/// It is usable in the process that opened it. In one that was forked from that (and runs no other program, as a
/// [`Command`](std::process::Command) does) it takes no writes and says so ([`LogError::Forked`](crate::LogError::Forked)), and dropping it does
/// nothing: neither the files nor the lock are the child's. Views stay valid there.
///
/// ```
/// use ecsdb::prelude::*;
///
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "game.hp", plain)]
/// #[repr(C)]
/// struct Hp(u32);
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("world");
/// let db = Database::open(&path)?;
/// let hero = db.write(|tx| Ok(tx.spawn(Hp(100))))?; // on stable storage when this returns
/// db.close()?;
///
/// let db = Database::open(&path)?;
/// assert_eq!(db.view()?.get::<Hp>(hero)?.0, 100);
/// # Ok::<(), ecsdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) world: SharedWorld,
    pub(crate) closed: AtomicBool,
    /// The view captured last, for readers that must not wait even for a transaction.
    /// With its LSN.
    latest: Mutex<(Lsn, WeakView)>,
    /// Whoever else has it does not keep the database open.
    pub(crate) persistence: Option<Arc<Persistence>>,
    /// What was found, if this is only looked at.
    pub(crate) read_only: Option<RecoveryReport>,
    /// Where what may block runs for async code.
    helper: Helper,
}

impl Database {
    /// Opens the database in `path` with the default settings, whatever `ecsdb.toml` and the environment say; makes a new one if there is none.
    /// [`PersistenceConfig::from_file`] reads both, for [`Database::new_with_persistence`].
    ///
    /// # Errors
    /// When another process has it open, a file operation fails, or it is damaged beyond what
    /// [`Policy::TruncateTail`](crate::Policy::TruncateTail) allows.
    pub fn open(path: impl AsRef<Path>) -> Result<Database> {
        Database::builder(path).open()
    }

    /// Opens the database in `path`, which must be there, with the default settings, as [`Database::open`] does. Where it is not, nothing is made, not even a directory.
    ///
    /// ```
    /// use ecsdb::prelude::*;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let path = dir.path().join("world");
    /// assert_eq!(Database::open_existing(&path).unwrap_err().kind(), ErrorKind::NotFound);
    /// Database::create_new(&path)?.close()?;
    /// Database::open_existing(&path)?.close()?;
    /// assert_eq!(Database::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind [`NotFound`](crate::ErrorKind::NotFound) when there is none, or as [`Database::open`].
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Database> {
        Database::builder(path).open_existing()
    }

    /// Makes a database in `path`, where there must be none, with the default settings, as [`Database::open`] does.
    ///
    /// # Errors
    /// Of kind [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is one, or as [`Database::open`].
    pub fn create_new(path: impl AsRef<Path>) -> Result<Database> {
        Database::builder(path).create_new()
    }

    /// Opens the database that `config` describes, and no file or variable that it was not made of: loads the newest valid snapshot, replays
    /// the log after it, rolls back what was not committed; or makes a new one.
    ///
    /// # Errors
    /// As [`Database::open`], or when a setting is out of range.
    pub fn new_with_persistence(config: PersistenceConfig) -> Result<Database> {
        Builder::new(config).open()
    }

    /// Everything that can be chosen at opening, beginning with the default settings, as [`Database::open`] does.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(PersistenceConfig::new(path.as_ref()))
    }

    /// Reads the database in `path` as it is now, with the default settings, as [`Database::open`] does, and changes nothing, not even where a crash has left something to be cut: it works on a
    /// full disk and on a read-only file system. What is given takes no writes, and does not see what others write later.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// Database::open(dir.path())?.write(|tx| Ok(tx.spawn(())))?;
    /// let db = Database::open_read_only(dir.path())?;
    /// assert_eq!(db.view()?.len(), 1);
    /// assert_eq!(db.write(|tx| Ok(tx.spawn(()))).unwrap_err().kind(), ErrorKind::Call);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::open_existing`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Database> {
        Database::builder(path).open_read_only()
    }

    /// A database without files: everything works, nothing survives.
    pub fn in_memory() -> Database {
        Database::from_parts(SharedWorld::new(World::new()), None)
    }

    /// A world that was read from files, and is nobody's to change.
    pub(crate) fn read_only(world: World, report: RecoveryReport) -> Database {
        Database {
            inner: Arc::new(Inner {
                world: SharedWorld::new(world),
                closed: AtomicBool::new(false),
                latest: Mutex::default(),
                persistence: None,
                read_only: Some(report),
                helper: Helper::default(),
            }),
        }
    }

    pub(crate) fn from_parts(world: SharedWorld, persistence: Option<Persistence>) -> Database {
        Database {
            inner: Arc::new(Inner {
                world,
                closed: AtomicBool::new(false),
                latest: Mutex::default(),
                persistence: persistence.map(Arc::new),
                read_only: None,
                helper: Helper::default(),
            }),
        }
    }

    /// Runs a transaction and returns when it is on stable storage.
    ///
    /// The closure changes the live world. When it returns an error or panics, everything it did is undone. Other
    /// writers wait meanwhile, readers of views do not. Concurrent transactions share the wait for the disk. Within the closure,
    /// `?` works on any error.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let db = Database::in_memory();
    /// let entity = db.write(|tx| Ok(tx.spawn(())))?;
    /// db.write(|tx| Ok(tx.despawn(entity)?))?;
    /// assert!(db.write(|tx| Ok(tx.despawn(entity)?)).is_err());
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// The closure's own; or [`Error::Log`] when the transaction could not be made durable.
    pub fn write<T>(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Abort>) -> Result<T> {
        self.write_with(Durability::Immediate, f)
    }

    /// Runs a transaction with a durability of its own: [`Durability::Immediate`] waits for the disk;
    /// [`Durability::Batched`] returns at once and is on stable storage within the flush interval;
    /// [`Durability::Buffered`] returns at once and survives a crash of the process after the flush interval, but
    /// not a power cut.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// db.write_with(Durability::Batched, |tx| Ok(tx.spawn(())))?; // a tick of a game, say
    /// db.sync()?; // now it is durable
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn write_with<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T> {
        let (value, lsn) = self.run(durability, f)?;
        match self.log() {
            Some(log) if durability == Durability::Immediate => log.wait(lsn)?,
            _ => {}
        }
        Ok(value)
    }

    /// Runs a transaction and returns a ticket to wait for its durability with, blocking or by `.await`.
    ///
    /// This is the fast road to many durable transactions a second: keep many tickets in flight.
    ///
    /// # Errors
    /// The closure's own, or [`Error::Log`] when the log has failed already.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// let tickets: Vec<_> = (0..100).map(|_| db.submit(|tx| Ok(tx.spawn(())))).collect::<Result<_, _>>()?;
    /// for ticket in tickets {
    ///     ticket.wait()?;
    /// }
    /// assert_eq!(db.view()?.len(), 100);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    pub fn submit<T>(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Abort>) -> Result<Ticket<T>> {
        self.submit_with(Durability::Immediate, f)
    }

    /// As [`Database::submit`], with a durability that says how soon the transaction is written when nobody waits for its ticket.
    ///
    /// # Errors
    /// As [`Database::submit`].
    pub fn submit_with<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<Ticket<T>> {
        let (value, lsn) = self.run(durability, f)?;
        Ok(Ticket::new(value, lsn, self.log().cloned()))
    }

    /// Runs a transaction from async code and completes when it is on stable storage.
    ///
    /// The closure runs on a thread of the database, the one on which all such closures run one after the other, with a runtime of Tokio's or
    /// without, one that is shut down included. So it never holds up the executor, however long it takes or waits for other writers. A
    /// future that is dropped before it was polled has done nothing; after that the transaction goes on and commits, and nobody is told.
    ///
    /// # Errors
    /// As [`Database::write`], or [`Error::Thread`] when the system gives none.
    pub async fn write_async<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T, Abort> + Send + 'static,
    {
        self.write_async_with(Durability::Immediate, f).await
    }

    /// As [`Database::write_async`], with a durability of its own: only [`Durability::Immediate`] waits for the disk.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn write_async_with<T, F>(&self, durability: Durability, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T, Abort> + Send + 'static,
    {
        let ticket = self.submit_async_with(durability, f).await?;
        match durability {
            Durability::Immediate => ticket.await,
            _ => ticket.into_value(),
        }
    }

    /// Runs a transaction from async code, as [`Database::write_async`] does, and completes with its ticket once it is committed.
    ///
    /// # Errors
    /// As [`Database::submit`].
    pub async fn submit_async<T, F>(&self, f: F) -> Result<Ticket<T>>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T, Abort> + Send + 'static,
    {
        self.submit_async_with(Durability::Immediate, f).await
    }

    async fn submit_async_with<T, F>(&self, durability: Durability, f: F) -> Result<Ticket<T>>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T, Abort> + Send + 'static,
    {
        // Asked here, since another thread would wait for this one.
        self.inner.not_within_a_transaction()?;
        let db = self.clone();
        self.inner.helper.run(move || db.submit_with(durability, f)).await?
    }

    /// A consistent picture of the world at the last commit. O(1). Waits at most for the transaction under way;
    /// [`Database::latest_view`] does not even do that.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let db = Database::in_memory();
    /// let before = db.view()?;
    /// db.write(|tx| Ok(tx.spawn(())))?;
    /// assert_eq!((before.len(), db.view()?.len()), (0, 1));
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Nested`] within a transaction of this thread, which reads through the transaction; or when a transaction could not
    /// be rolled back ([`WorldError::Poisoned`](crate::WorldError::Poisoned)).
    pub fn view(&self) -> Result<View> {
        let view = self.inner.fresh_view()?;
        let mut latest = self.inner.latest.lock();
        // Of two that were taken at once the older one may come here last.
        if latest.0 <= view.lsn() {
            *latest = (view.lsn(), view.downgrade());
        }
        drop(latest);
        Ok(view)
    }

    /// The picture that [`Database::view`] gave last, if anybody still has it: for readers that must never wait,
    /// while one thread takes a new view now and then and keeps it. As old as that.
    pub fn latest_view(&self) -> Option<View> {
        self.inner.latest.lock().1.upgrade()
    }

    /// LSN of the last committed transaction; never waits.
    pub fn lsn(&self) -> Lsn {
        self.inner.world.lsn()
    }

    /// LSN up to which everything is on stable storage; never waits. In memory, the last committed one.
    pub fn durable_lsn(&self) -> Lsn {
        match self.log() {
            Some(log) => log.durable_lsn(),
            None => self.lsn(),
        }
    }

    /// Waits until everything committed so far, with whatever durability, is on stable storage.
    ///
    /// # Errors
    /// When the log failed.
    pub fn sync(&self) -> Result<Lsn> {
        match self.log() {
            Some(log) => Ok(log.flush()?),
            None => Ok(self.lsn()),
        }
    }

    /// As [`Database::sync`], for async code: the executor is not held up.
    ///
    /// # Errors
    /// As [`Database::sync`].
    pub async fn sync_async(&self) -> Result<Lsn> {
        let Some(log) = self.log() else { return Ok(self.lsn()) };
        let lsn = log.appended_lsn();
        log.durable(lsn).await?;
        Ok(lsn)
    }

    /// What was found and done when the database was opened; `None` in memory.
    pub fn recovery_report(&self) -> Option<&RecoveryReport> {
        match &self.inner.persistence {
            Some(persistence) => Some(&persistence.report),
            None => self.inner.read_only.as_ref(),
        }
    }

    /// Makes everything committed durable, ends the background work and releases the directory, whatever other
    /// handles there are: their transactions fail with [`Error::Closed`] from here on, their views stay valid.
    ///
    /// ```
    /// # use ecsdb::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Database::open(dir.path())?;
    /// db.close()?;
    /// assert_eq!(db.write(|_| Ok(())).unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the log could not be written. Closing a closed database waits until it is, and says the same.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }

    /// As [`Database::close`], for async code: the executor is not held up.
    ///
    /// # Errors
    /// As [`Database::close`].
    pub async fn close_async(&self) -> Result<()> {
        // Asked here, since another thread would wait for this one.
        self.inner.not_within_a_transaction()?;
        let db = self.clone();
        self.inner.helper.run(move || db.close()).await?
    }

    fn log(&self) -> Option<&Log> {
        self.inner.persistence.as_ref().map(|persistence| &persistence.log)
    }

    fn run<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<(T, Lsn)> {
        self.inner.not_within_a_transaction()?;
        if self.inner.read_only.is_some() {
            return Err(Error::ReadOnly("transactions"));
        }
        if let Some(log) = self.log() {
            // Backpressure comes before the transaction, so that nothing has to wait once it holds the world.
            log.admit()?;
        }
        let world = self.inner.hold_world()?;
        self.inner.not_closed()?;
        // Whoever closes waits from here on.
        let mut world = Writing { world, db: self };
        let mut open = world.world.begin();
        // On an error or a panic the transaction is dropped, which rolls it back.
        let value = f(open.transaction()).map_err(Error::from)?;
        let lsn = self.commit(open, durability)?;
        drop(world);
        if let Some(persistence) = &self.inner.persistence {
            persistence.committed(lsn.0);
        }
        Ok((value, lsn))
    }

    /// Logs a transaction and makes it permanent.
    fn commit(&self, open: ecsdb_core::OpenTransaction<'_>, durability: Durability) -> Result<Lsn> {
        let last = self.lsn();
        let prepared = open.prepare()?;
        let changes = prepared.change_set();
        let lsn = match self.log() {
            _ if changes.is_empty() => last,
            None => last.next(),
            Some(log) => {
                // WAL-3: queued before the world is released to the next writer or viewer.
                let payload = Payload { inline: changes.inline, shared: changes.shared };
                let lsn = log.append(payload, durability)?;
                debug_assert_eq!(lsn, last.next(), "the log numbers transactions as the world does");
                lsn
            }
        };
        prepared.commit(lsn);
        self.inner.world.committed(lsn);
        Ok(lsn)
    }
}

/// The world, locked by a writer.
struct Writing<'a> {
    world: Held<'a>,
    db: &'a Database,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // REC-7: ids that were given out by a transaction which was rolled back are kept from coming back, after a crash, too. Seldom
        // anything has to be logged for that.
        if self.world.has_unlogged_ids()
            && !self.world.is_poisoned()
            && let Err(e) = self.db.commit(self.world.begin(), Durability::Buffered)
        {
            tracing::warn!(error = %e, "ids of rolled back transactions are not logged yet; the next commit tries again");
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.inner.persistence {
            Some(persistence) => {
                write!(f, "Database({})", persistence.store.layout().root().display())
            }
            None if self.inner.read_only.is_some() => f.write_str("Database(read only)"),
            None => f.write_str("Database(in memory)"),
        }
    }
}

impl Inner {
    /// The thread would wait for itself.
    pub(crate) fn not_within_a_transaction(&self) -> Result<()> {
        if Nesting::is_within(self.world.address()) { Err(Error::Nested) } else { Ok(()) }
    }

    pub(crate) fn not_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// The live world, once nobody else has it.
    fn hold_world(&self) -> Result<Held<'_>> {
        if let Some(held) = self.world.try_hold() {
            return Ok(held?);
        }
        // In a fork, whoever has it may never give it back.
        self.check_process()?;
        Ok(self.world.hold()?)
    }

    /// A view that is the caller's alone: [`Database::latest_view`] does not give it.
    pub(crate) fn fresh_view(&self) -> Result<View> {
        self.not_within_a_transaction()?;
        Ok(self.hold_world()?.view())
    }

    /// REC-12: a database with files is usable in the process that opened it.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.persistence.as_ref().map_or(Ok(()), |persistence| Ok(persistence.log.check_process()?))
    }

    fn close(&self) -> Result<()> {
        self.check_process()?;
        self.not_within_a_transaction()?;
        if self.persistence.as_deref().is_some_and(Persistence::is_own_thread) {
            return Err(Error::Nested);
        }
        // Whoever holds the world finishes first; nobody after it gets past `closed`.
        self.closed.store(true, Ordering::Release);
        self.world.pass();
        self.persistence.as_deref().map_or(Ok(()), Persistence::close)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // REC-12: in a fork nothing is taken down. Its threads are not here to be waited for, and its locks may be held by them.
        if self.check_process().is_err() {
            std::mem::forget((self.persistence.take(), self.world.clone()));
            return;
        }
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let Some(persistence) = self.persistence.take() else { return };
        let close = move |persistence: Arc<Persistence>| {
            if let Err(e) = persistence.close() {
                tracing::error!(error = %e, "closing the database failed; what was acknowledged is safe");
            }
        };
        if !persistence.is_own_thread() {
            return close(persistence);
        }
        // A waker dropped the last handle on a thread that closing waits for. Without another one, the one that wakes listeners closes, once it has none
        // to wake.
        let events = persistence.events.clone();
        let handed = Arc::new(Mutex::new(Some(persistence)));
        let close = move || {
            let persistence = handed.lock().take();
            persistence.into_iter().for_each(close);
        };
        let thread = thread::Builder::new().name("ecsdb-close".into());
        if let Err(e) = thread.spawn(close.clone()) {
            tracing::warn!(error = %e, "there is no thread for closing the database");
            events.call(close);
        }
    }
}
