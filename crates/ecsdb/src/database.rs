//! The database handle: transactions, views, closing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ecsdb_config::PersistenceConfig;
use ecsdb_core::{Transaction, View, WeakView, World};
use ecsdb_recovery::RecoveryReport;
use ecsdb_wal::{Durability, Log, Lsn, Payload};
use parking_lot::{Mutex, MutexGuard};

use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::persistence::{Persistence, SharedWorld};
use crate::ticket::Ticket;

/// An ECS world whose committed transactions survive whatever ends the process.
///
/// A handle is cheap to clone and may be used from any thread. The database closes when the last handle is
/// dropped, or by [`Database::close`].
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
/// assert_eq!(db.view().get::<Hp>(hero)?.0, 100);
/// # Ok::<(), ecsdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) world: SharedWorld,
    /// The thread whose transaction is under way, as the address of a thread-local; 0 for none.
    writer: AtomicUsize,
    pub(crate) closed: AtomicBool,
    /// The view captured last, for readers that must not wait even for a transaction.
    latest: Mutex<WeakView>,
    pub(crate) persistence: Option<Persistence>,
}

impl Database {
    /// Opens the database in `path` with the default settings; makes a new one if there is none.
    ///
    /// # Errors
    /// When another process has it open, a file operation fails, or it is damaged beyond what
    /// [`Policy::TruncateTail`](crate::Policy::TruncateTail) allows.
    pub fn open(path: impl AsRef<Path>) -> Result<Database> {
        Database::new_with_persistence(PersistenceConfig::new(path.as_ref()))
    }

    /// Opens the database that `config` describes: loads the newest valid snapshot, replays the log after it,
    /// rolls back what was not committed; or makes a new one.
    ///
    /// # Errors
    /// As [`Database::open`], or when a setting is out of range.
    pub fn new_with_persistence(config: PersistenceConfig) -> Result<Database> {
        Builder::new(config).open()
    }

    /// Everything that can be chosen at opening beyond the settings.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(PersistenceConfig::new(path.as_ref()))
    }

    /// A database without files: everything works, nothing survives.
    pub fn in_memory() -> Database {
        Database::from_parts(SharedWorld::new(World::new()), None)
    }

    pub(crate) fn from_parts(world: SharedWorld, persistence: Option<Persistence>) -> Database {
        Database {
            inner: Arc::new(Inner {
                world,
                writer: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                latest: Mutex::default(),
                persistence,
            }),
        }
    }

    /// Runs a transaction and returns when it is on stable storage.
    ///
    /// The closure changes the live world. When it returns an error or panics, everything it did is undone. Other
    /// writers wait meanwhile, readers of views do not. Concurrent transactions share the wait for the disk.
    ///
    /// # Errors
    /// The closure's own; or [`Error::Log`] when the transaction could not be made durable.
    pub fn write<T>(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        self.write_with(Durability::Immediate, f)
    }

    /// Runs a transaction with a durability of its own: [`Durability::Immediate`] waits for the disk;
    /// [`Durability::Batched`] returns at once and is on stable storage within the flush interval;
    /// [`Durability::Buffered`] returns at once and survives a crash of the process after the flush interval, but
    /// not a power cut.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn write_with<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
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
    /// assert_eq!(db.view().len(), 100);
    /// # Ok::<(), ecsdb::Error>(())
    /// ```
    pub fn submit<T>(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<Ticket<T>> {
        let (value, lsn) = self.run(Durability::Immediate, f)?;
        Ok(Ticket::new(value, lsn, self.log().cloned()))
    }

    /// Runs a transaction from async code and completes when it is on stable storage. Never blocks the runtime's
    /// worker: when another transaction is under way, or the log's queue is full, the closure runs on a thread for
    /// blocking work. Needs a Tokio runtime only then.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn write_async<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + Unpin + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let ticket = if self.log().is_none_or(Log::has_room)
            && let Some(world) = self.inner.world.world.try_lock()
        {
            let (value, lsn) = self.run_locked(world, Durability::Immediate, f)?;
            Ticket::new(value, lsn, self.log().cloned())
        } else {
            let db = self.clone();
            match tokio::task::spawn_blocking(move || db.submit(f)).await {
                Ok(ticket) => ticket?,
                Err(join) => match join.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(Error::Closed),
                },
            }
        };
        ticket.await
    }

    /// A consistent picture of the world at the last commit. O(1). Waits at most for the transaction under way;
    /// [`Database::latest_view`] does not even do that. Not for the closure of a transaction, which would wait for itself: it reads
    /// through the transaction.
    pub fn view(&self) -> View {
        let view = self.inner.world.world.lock().view();
        *self.inner.latest.lock() = view.downgrade();
        view
    }

    /// The picture that [`Database::view`] gave last, if anybody still has it: for readers that must never wait,
    /// while one thread takes a new view now and then and keeps it. As old as that.
    pub fn latest_view(&self) -> Option<View> {
        self.inner.latest.lock().upgrade()
    }

    /// LSN of the last committed transaction.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.inner.world.world.lock().lsn())
    }

    /// LSN up to which everything is on stable storage. In memory, the last committed one.
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

    /// What was found and done when the database was opened; `None` in memory.
    pub fn recovery_report(&self) -> Option<&RecoveryReport> {
        self.inner.persistence.as_ref().map(|persistence| &persistence.report)
    }

    /// Makes everything committed durable, ends the background work and releases the directory, whatever other
    /// handles there are: their transactions fail with [`Error::Closed`] from here on, their views stay valid.
    ///
    /// # Errors
    /// When the log could not be written. Closing a closed database is fine.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn log(&self) -> Option<&Log> {
        self.inner.persistence.as_ref().map(|persistence| &persistence.log)
    }

    fn run<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Lsn)> {
        self.inner.not_within_a_transaction()?;
        if let Some(log) = self.log() {
            // Backpressure comes before the transaction, so that nothing has to wait once it holds the world.
            log.admit()?;
        }
        self.run_locked(self.inner.world.world.lock(), durability, f)
    }

    fn run_locked<T>(
        &self,
        mut world: MutexGuard<'_, World>,
        durability: Durability,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Lsn)> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let _owner = Owner::enter(&self.inner.writer);
        let last = world.lsn();
        let mut open = world.begin();
        // On an error or a panic the transaction is dropped, which rolls it back.
        let value = f(open.transaction())?;
        let prepared = open.prepare()?;
        let changes = prepared.change_set();
        let lsn = match self.log() {
            _ if changes.is_empty() => last,
            None => last + 1,
            Some(log) => {
                // WAL-3: queued before the world is released to the next writer or viewer.
                let payload = Payload { inline: changes.inline, shared: changes.shared };
                let lsn = log.append(payload, durability)?;
                debug_assert_eq!(lsn.0, last + 1, "the log numbers transactions as the world does");
                lsn.0
            }
        };
        prepared.commit(lsn);
        drop(world);
        if let Some(persistence) = &self.inner.persistence {
            persistence.committed(lsn);
        }
        Ok((value, Lsn(lsn)))
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.inner.persistence {
            Some(persistence) => {
                write!(f, "Database({})", persistence.store.layout().root().display())
            }
            None => f.write_str("Database(in memory)"),
        }
    }
}

impl Inner {
    /// The thread would wait for itself.
    pub(crate) fn not_within_a_transaction(&self) -> Result<()> {
        if self.writer.load(Ordering::Relaxed) == this_thread() { Err(Error::Nested) } else { Ok(()) }
    }

    fn close(&self) -> Result<()> {
        self.not_within_a_transaction()?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Whoever holds the world finishes first; nobody after it gets past `closed`.
        drop(self.world.world.lock());
        match &self.persistence {
            Some(persistence) => persistence.close(),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::error!(error = %e, "closing the database failed; what was acknowledged is safe");
        }
    }
}

/// Marks the writer lock's holder, for telling a nested transaction from a concurrent one.
struct Owner<'a>(&'a AtomicUsize);

impl<'a> Owner<'a> {
    fn enter(writer: &'a AtomicUsize) -> Self {
        writer.store(this_thread(), Ordering::Relaxed);
        Owner(writer)
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The address of a thread-local: another one for each living thread, and never 0.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
