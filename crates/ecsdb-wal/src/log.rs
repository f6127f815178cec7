//! The log: append to the queue, wait for durability, lead when nobody does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use ecsdb_io::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ecsdb_io::sync::{Condvar, Mutex, MutexGuard};
use ecsdb_io::{IoError, Process, Vfs, is_low_thread};

use crate::background::Background;
use crate::error::{LogError, Result};
use crate::future::Durable;
use crate::options::{Durability, LiveOptions, LogOptions, LogStart, Payload, Threads};
use crate::prepare::Preparer;
use crate::queue::Queue;
use crate::stamps::Stamps;
use crate::stats::{Counters, LogStats, add};
use crate::waiters::{Parked, Waiters, Woken};
use crate::writer::Writer;
use ecsdb_id::Lsn;

/// Transactions admitted from one look to the next at whether this is still the process that opened the log.
const LOOK_EVERY: u64 = 64;

/// Transactions that are to be durable and that nobody waits for yet, from which on the log's own thread does not wait either.
const GATHERED: u64 = 64;

/// A log open for appending. Cloning gives another handle; the log closes when the last one is dropped, or by
/// [`Log::close`].
#[derive(Debug, Clone)]
pub struct Log(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

/// What the handles, the waiters and the background thread share.
pub(crate) struct Shared {
    /// Whose the threads and the directory's lock are.
    process: Process,
    threads: Threads,
    live: LiveOptions,
    stamps: Arc<Stamps>,
    queue: Mutex<Pending>,
    /// Locked by whoever leads.
    writer: Mutex<Writer>,
    coordination: Mutex<Coordination>,
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    /// The last record that wants more than to be handed to the operating system.
    sync_wanted: AtomicU64,
    /// Memory of what is queued and not yet written.
    queued: AtomicU64,
    /// Payload bytes queued since the start.
    appended_bytes: AtomicU64,
    /// When the segment under way comes of age, in nanoseconds since 1970-01-01 UTC; `u64::MAX` for never.
    rotate_at: AtomicU64,
    /// The segment under way, for those who must not wait for a write, nor keep the next one waiting.
    under_way: Mutex<UnderWay>,
    room: (Mutex<()>, Condvar),
    failure: OnceLock<LogError>,
    failed: AtomicBool,
    counters: Counters,
    background: Background,
    closed: OnceLock<Result<()>>,
}

struct Pending {
    queue: Queue,
    next: Lsn,
    closed: bool,
}

/// What the writer last said of its segment.
#[derive(Clone, Copy)]
struct UnderWay {
    mark: (u64, u32),
    first: Lsn,
    bytes_max: u64,
}

#[derive(Default)]
struct Coordination {
    /// Somebody leads, or was told to.
    leading: bool,
    waiters: Waiters,
}

impl Log {
    /// Starts a log in `dir` with a new segment, whose header is durable when this returns. `background` is the same files for work
    /// that nobody waits for (segments are prepared through it): a scheduled `Vfs`, or `vfs` again.
    ///
    /// # Errors
    /// When the segment cannot be made, since a file that is no empty segment has its name, among others, or a thread cannot be started.
    pub fn start(
        vfs: Arc<dyn Vfs>,
        background: Arc<dyn Vfs>,
        dir: &Path,
        options: LogOptions,
        start: LogStart,
    ) -> Result<Log> {
        let thread = |e: std::io::Error| LogError::Thread(Arc::new(e));
        let preparer =
            Preparer::new(background, dir.into(), start.database, start.lock.clone(), options.threads)
                .map_err(thread)?;
        let stamps = Arc::new(Stamps::new(vfs.clone(), start.last_unix_ns));
        let (next, last) = (start.lsn, start.lsn.0 - 1);
        let writer = Writer::start(vfs, stamps.clone(), dir.into(), &options, start, preparer)?;
        let under_way = Mutex::new(UnderWay::of(&writer));
        let shared = Arc::new(Shared {
            process: Process::current(),
            threads: options.threads,
            live: LiveOptions::new(&options),
            queue: Mutex::new(Pending { queue: Queue::default(), next, closed: false }),
            writer: Mutex::new(writer),
            coordination: Mutex::default(),
            appended: AtomicU64::new(last),
            written: AtomicU64::new(last),
            durable: AtomicU64::new(last),
            sync_wanted: AtomicU64::new(last),
            queued: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            rotate_at: AtomicU64::new(u64::MAX),
            under_way,
            stamps,
            room: Default::default(),
            failure: OnceLock::new(),
            failed: AtomicBool::new(false),
            counters: Counters::default(),
            background: Background::default(),
            closed: OnceLock::new(),
        });
        if options.threads == Threads::Background {
            shared.background.start(&shared).map_err(thread)?;
        }
        Ok(Log(Arc::new(Handle { shared })))
    }

    /// Waits while the queue holds more than its bound: backpressure, to be felt before a transaction begins.
    ///
    /// # Errors
    /// When the log failed or is closed.
    pub fn admit(&self) -> Result<()> {
        self.0.shared.admit()
    }

    /// True when [`Log::admit`] would not wait.
    pub fn has_room(&self) -> bool {
        self.0.shared.has_room()
    }

    /// Queues a transaction and gives it the next LSN. The order of the calls is the order in the log. Never waits for
    /// the disk. O(inline bytes).
    ///
    /// # Errors
    /// [`LogError::TransactionTooLarge`], or when the log failed or is closed: nothing was queued then (WAL-1).
    pub fn append(&self, payload: Payload<'_>, durability: Durability) -> Result<Lsn> {
        self.0.shared.append(payload, durability)
    }

    /// Blocks until everything up to `lsn` is on stable storage; writes and syncs itself if nobody else is at it.
    ///
    /// # Errors
    /// When the log failed before that, or nothing with that LSN was appended.
    pub fn wait(&self, lsn: Lsn) -> Result<()> {
        self.0.shared.wait(lsn)
    }

    /// A future that completes when everything up to `lsn` is on stable storage. Dropping it cancels nothing.
    pub fn durable(&self, lsn: Lsn) -> Durable {
        Durable::new(self.0.shared.clone(), lsn)
    }

    /// Brings everything appended so far to stable storage, and says how far that is.
    ///
    /// # Errors
    /// When the log failed.
    pub fn flush(&self) -> Result<Lsn> {
        let lsn = self.appended_lsn();
        self.wait(lsn)?;
        Ok(lsn)
    }

    /// Ends the current segment after what was appended so far, if it has transactions.
    ///
    /// # Errors
    /// When the log failed or is closed.
    pub fn rotate(&self) -> Result<()> {
        self.0.shared.rotate()
    }

    /// Ends the current segment if [`LogOptions::segment_age_max`] has passed since its first transaction. A log with
    /// threads does this by itself.
    ///
    /// # Errors
    /// As [`Log::rotate`].
    pub fn rotate_aged(&self) -> Result<()> {
        self.0.shared.rotate_aged()
    }

    /// Goes by other options from here on: the flush interval, the bounds of the queue and of a transaction, compression, the size and the age of
    /// segments, that of the one under way included. The rest of `options` is for opening. Waits for a write that is under way.
    pub fn set_options(&self, options: &LogOptions) {
        self.0.shared.set_options(options);
    }

    /// The last transaction appended.
    pub fn appended_lsn(&self) -> Lsn {
        Lsn(self.0.shared.appended.load(Ordering::Acquire))
    }

    /// The last transaction appended, and [`Log::appended_bytes`]: whoever appends after that sees what this thread has stored before.
    pub fn appended_in_order(&self) -> (Lsn, u64) {
        let _queue = self.0.shared.queue.lock();
        (self.appended_lsn(), self.appended_bytes())
    }

    /// Payload bytes of all transactions appended since the start.
    pub fn appended_bytes(&self) -> u64 {
        self.0.shared.appended_bytes.load(Ordering::Relaxed)
    }

    /// The last transaction handed to the operating system.
    pub fn written_lsn(&self) -> Lsn {
        Lsn(self.0.shared.written.load(Ordering::Acquire))
    }

    /// The last transaction on stable storage: synced, not merely written (WAL-4).
    pub fn durable_lsn(&self) -> Lsn {
        self.0.shared.durable_lsn()
    }

    /// The number of the segment under way. Waits for no write.
    pub fn segment(&self) -> u64 {
        self.0.shared.under_way.lock().mark.0
    }

    /// Number and salt of the segment under way, once something in it is durable.
    pub fn mark(&self) -> Option<(u64, u32)> {
        let UnderWay { mark, first, .. } = *self.0.shared.under_way.lock();
        (self.durable_lsn() >= first).then_some(mark)
    }

    /// Bytes that the segment under way may have.
    pub fn segment_bytes(&self) -> u64 {
        self.0.shared.under_way.lock().bytes_max
    }

    /// The time as the log goes by it, in nanoseconds since 1970-01-01 UTC: that of the machine's clock, but never before one that stands in
    /// the log already (IO-2).
    pub fn now_unix_ns(&self) -> u64 {
        self.0.shared.stamps.now()
    }

    /// Counters since the start.
    pub fn stats(&self) -> LogStats {
        self.0.shared.counters.read(self.0.shared.queued.load(Ordering::Relaxed))
    }

    /// Refuses to go on in a process that was forked from the one that started the log.
    ///
    /// # Errors
    /// [`LogError::Forked`], there.
    pub fn check_process(&self) -> Result<()> {
        self.0.shared.check_process()
    }

    /// True on the thread that works for whoever does not wait, and that [`Log::close`] waits for elsewhere.
    pub fn is_own_thread(&self) -> bool {
        self.0.shared.background.is_current()
    }

    /// Makes everything durable, marks a clean end and stops the threads. Closing again waits for the first one, and says the same.
    ///
    /// # Errors
    /// When the log failed, now or before.
    pub fn close(&self) -> Result<()> {
        self.0.shared.close()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // REC-12: nothing of it is this process's to end, and its threads are not here to be waited for.
        if self.shared.check_process().is_err() {
            return std::mem::forget(self.shared.clone());
        }
        if let Err(e) = self.shared.close() {
            tracing::error!(error = %e, "closing the log failed; what was acknowledged is safe");
        }
    }
}

impl UnderWay {
    fn of(writer: &Writer) -> Self {
        let (mark, first) = writer.mark();
        UnderWay { mark, first, bytes_max: writer.segment_bytes() }
    }
}

impl Shared {
    pub(crate) fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Whoever appends from here on wakes the background thread; what was appended before, it sees when it looks.
    pub(crate) fn disarm(&self) {
        // The flag is read under this lock, too: on no processor can both miss each other.
        let _queue = self.queue.lock();
        self.background.disarm();
    }

    /// Something appended is not with the operating system yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.written.load(Ordering::Acquire) < self.appended()
    }

    /// Something appended wants to be synced and is not.
    pub(crate) fn wants_sync(&self) -> bool {
        self.sync_wanted.load(Ordering::Acquire) > self.durable_lsn().0
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.threads == Threads::Background
    }

    pub(crate) fn flush_interval(&self) -> Duration {
        self.live.flush_interval()
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    /// REC-12: a fork of the process that opened the log has neither its threads nor the lock, and an end of the log that is long passed.
    /// Asked before anybody waits: for the disk, for room, or for a lock that a thread may hold which is not here.
    pub(crate) fn check_process(&self) -> Result<()> {
        Ok(self.process.check()?)
    }

    /// The failure, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire)
            && let Some(failure) = self.failure.get()
        {
            return Err(failure.clone());
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.queued.load(Ordering::Relaxed) <= self.live.queue_bytes_max()
    }

    fn admit(&self) -> Result<()> {
        self.check()?;
        let has_room = self.has_room();
        // Who does not wait for the disk is told before long: it is never told that anything is durable.
        if !has_room || self.appended().is_multiple_of(LOOK_EVERY) {
            self.check_process()?;
        }
        if has_room {
            return Ok(());
        }
        add(&self.counters.admission_waits, 1);
        // WAL-13: a waker may write, and the log's own thread would ask itself for room.
        if !self.has_threads() || self.background.is_current() {
            return self.wait(Lsn(self.appended.load(Ordering::Acquire)));
        }
        let mut guard = self.room.0.lock();
        while !self.has_room() {
            self.check()?;
            // Each time: others may have taken the room that there was, and nobody else need be in a hurry.
            self.background.request();
            self.room.1.wait(&mut guard);
        }
        self.check()
    }

    fn append(&self, payload: Payload<'_>, durability: Durability) -> Result<Lsn> {
        let shared_bytes: usize = payload.shared.iter().map(|(_, block)| block.len()).sum();
        let len = (payload.inline.len() + shared_bytes) as u64;
        let limit = self.live.transaction_bytes_max();
        if len > limit {
            return Err(LogError::TransactionTooLarge { bytes: len, limit });
        }
        let (lsn, rests) = {
            let mut pending = self.queue.lock();
            if pending.closed {
                return Err(LogError::Closed);
            }
            // Checked under the lock: a failure empties the queue under it, too.
            self.check()?;
            let lsn = pending.next;
            let memory = pending.queue.push(lsn, payload, len);
            pending.next = lsn.next();
            if durability != Durability::Buffered {
                self.sync_wanted.store(lsn.0, Ordering::Relaxed);
            }
            self.queued.fetch_add(memory, Ordering::Relaxed);
            self.appended_bytes.store(self.appended_bytes.load(Ordering::Relaxed) + len, Ordering::Relaxed);
            self.appended.store(lsn.0, Ordering::Release);
            (lsn, self.background.rests())
        };
        if rests {
            self.background.arm();
        }
        if durability == Durability::Immediate && lsn.0.is_multiple_of(GATHERED) {
            self.write_gathered(lsn);
        }
        Ok(lsn)
    }

    /// Whoever keeps many tickets in flight goes on while the disk works, and not only from when the oldest is waited for.
    fn write_gathered(&self, lsn: Lsn) {
        let unwritten = lsn.0.saturating_sub(self.written.load(Ordering::Relaxed));
        if unwritten >= GATHERED && !self.coordination.lock().leading {
            self.background.request();
        }
    }

    pub(crate) fn wait(&self, lsn: Lsn) -> Result<()> {
        if self.durable_lsn() >= lsn {
            return Ok(());
        }
        self.check_process()?;
        let last = Lsn(self.appended.load(Ordering::Acquire));
        if lsn > last {
            return Err(LogError::NotAppended { lsn, last });
        }
        loop {
            let parked = {
                let mut coordination = self.coordination.lock();
                if self.durable_lsn() >= lsn {
                    return Ok(());
                }
                self.check()?;
                if coordination.leading {
                    let parked = Parked::current();
                    coordination.waiters.add_thread(lsn, parked.clone());
                    Some(parked)
                } else {
                    coordination.leading = true;
                    None
                }
            };
            if parked.is_none_or(|parked| parked.park() == Woken::Lead) {
                self.lead(true);
            }
        }
    }

    /// Registers a future's waker. True when there is nothing to wait for.
    pub(crate) fn register(&self, lsn: Lsn, id: &mut Option<u64>, waker: &Waker) -> bool {
        // Cloned before the lock, and what it takes the place of dropped after it: both may be code of anybody's.
        let waker = waker.clone();
        let _replaced;
        let mut coordination = self.coordination.lock();
        // Under the lock that the leader takes after it published the durable LSN: no wake-up falls between.
        if self.durable_lsn() >= lsn || self.check().is_err() {
            return true;
        }
        _replaced = coordination.waiters.add_task(lsn, id, waker);
        false
    }

    /// Leads unless somebody does; false then.
    pub(crate) fn try_lead(&self, sync: bool) -> bool {
        {
            let mut coordination = self.coordination.lock();
            if coordination.leading {
                return false;
            }
            coordination.leading = true;
        }
        self.lead(sync);
        true
    }

    /// Writes all that gathered, syncs it, and wakes whoever that satisfies. The caller is the leader.
    fn lead(&self, sync: bool) {
        // What goes wrong is kept as the log's failure, and told to every waiter.
        drop(self.guarded(|writer| self.drain(writer, sync)));
        self.pass_on(self.coordination.lock());
    }

    /// Wakes whoever is satisfied, and makes one of those who still wait the next leader. The caller leads, or nobody does.
    fn pass_on(&self, mut coordination: MutexGuard<'_, Coordination>) {
        let wake = if self.failed.load(Ordering::Acquire) {
            coordination.waiters.all()
        } else {
            coordination.waiters.satisfied(self.durable_lsn())
        };
        coordination.leading = wake.has_leader();
        drop(coordination);
        let tasks_remain = wake.tasks_remain;
        wake.wake();
        if tasks_remain {
            self.background.request();
        }
    }

    fn drain(&self, writer: &mut Writer, sync: bool) -> Result<()> {
        let mut queue = std::mem::take(&mut writer.spare);
        std::mem::swap(&mut self.queue.lock().queue, &mut queue);
        let total = queue.total;
        let written = if queue.entries.is_empty() {
            Ok(())
        } else {
            writer.write(&mut queue, self.durable_lsn(), &self.counters)
        };
        // The blocks go now, not after the sync: the next write to a column that the log holds has to copy it.
        queue.clear();
        writer.spare = queue;
        self.queued.fetch_sub(total, Ordering::Relaxed);
        drop(self.room.0.lock());
        self.room.1.notify_all();
        written.map_err(|e| self.fail(e))?;
        self.written.store(writer.last().0, Ordering::Release);
        if sync && writer.is_unsynced() {
            writer.sync(&self.counters).map_err(|e| self.fail(e))?;
        }
        self.publish_durable(writer);
        Ok(())
    }

    /// WAL-4: all that was written before the last sync, and nothing else. A rotation syncs, too.
    fn publish_durable(&self, writer: &Writer) {
        if !writer.is_unsynced() {
            self.durable.store(writer.last().0, Ordering::Release);
        }
    }

    fn rotate(&self) -> Result<()> {
        self.check_process()?;
        self.wait(Lsn(self.appended()))?;
        let rotated = self.guarded(|writer| {
            writer.rotate(&self.counters).map_err(|e| self.fail(e))?;
            self.publish_durable(writer);
            Ok(())
        });
        // Whoever leads wakes those that wait; where nobody does, the sync of this rotation may have satisfied somebody.
        let coordination = self.coordination.lock();
        if !coordination.leading {
            self.pass_on(coordination);
        }
        rotated
    }

    pub(crate) fn rotate_aged(&self) -> Result<()> {
        if self.time_to_rotation().is_some_and(|left| left.is_zero()) { self.rotate() } else { Ok(()) }
    }

    /// How long until the segment under way comes of age; `None` while it has no transactions, or where segments do not age.
    pub(crate) fn time_to_rotation(&self) -> Option<Duration> {
        let at = self.rotate_at.load(Ordering::Acquire);
        (at != u64::MAX).then(|| Duration::from_nanos(at.saturating_sub(self.stamps.now())))
    }

    fn set_options(&self, options: &LogOptions) {
        self.live.set(options);
        let mut writer = self.writer.lock();
        writer.set_segment_bytes_max(options.segment_bytes_max);
        writer.set_compression(options.compression);
        self.note_segment(&writer);
        drop(writer);
        // Whoever waits for room, or for a time to pass, looks again.
        drop(self.room.0.lock());
        self.room.1.notify_all();
        self.background.wake();
    }

    /// What others know of the segment under way, as of the end of a write, a sync, or a rotation.
    fn note_segment(&self, writer: &Writer) {
        let age = self.live.segment_age_max_ns();
        // Not after a failure: nothing is rotated then.
        let began = writer.began_unix_ns().filter(|_| self.check().is_ok());
        let at = began.map_or(u64::MAX, |began| began.saturating_add(age));
        self.rotate_at.store(at, Ordering::Release);
        *self.under_way.lock() = UnderWay::of(writer);
    }

    /// WAL-5: after a failed write or sync nothing is known of the pages, and nothing is tried again.
    fn fail(&self, cause: IoError) -> LogError {
        let (durable, cause) = (self.durable_lsn(), Arc::new(cause));
        let failure = if cause.is_full_disk() {
            LogError::DiskFull { durable, cause }
        } else {
            LogError::Poisoned { durable, cause }
        };
        self.set_failure(failure)
    }

    fn set_failure(&self, failure: LogError) -> LogError {
        let failure = self.failure.get_or_init(|| failure).clone();
        self.failed.store(true, Ordering::Release);
        self.rotate_at.store(u64::MAX, Ordering::Release);
        tracing::error!(error = %failure, "the log failed");
        // What is queued will never be written.
        let pending = &mut *self.queue.lock();
        self.queued.fetch_sub(pending.queue.total, Ordering::Relaxed);
        pending.queue.clear();
        drop(self.room.0.lock());
        self.room.1.notify_all();
        failure
    }

    /// Something that only the holder of the writer does. A panic in it fails the log before the next one has the writer, rather than leave the
    /// waiters waiting.
    fn guarded(&self, f: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        debug_assert!(!is_low_thread(), "whoever commits would wait for a thread that gets a core last");
        let mut writer = self.writer.lock();
        self.check()?;
        if writer.is_closed() {
            // Whoever waited for the writer meanwhile comes too late: the log ends where it says that it does.
            return Err(LogError::Closed);
        }
        let done = self.caught(|| f(&mut writer));
        self.note_segment(&writer);
        done
    }

    /// A panic fails the log.
    fn caught(&self, f: impl FnOnce() -> Result<()>) -> Result<()> {
        catch_unwind(AssertUnwindSafe(f))
            .unwrap_or_else(|_| Err(self.set_failure(LogError::Panicked { durable: self.durable_lsn() })))
    }

    fn close(&self) -> Result<()> {
        self.check_process()?;
        self.closed.get_or_init(|| self.close_first()).clone()
    }

    fn close_first(&self) -> Result<()> {
        self.queue.lock().closed = true;
        self.background.stop();
        let flushed = self.wait(Lsn(self.appended.load(Ordering::Acquire)));
        let mut writer = self.writer.lock();
        // Its thread ends, whatever became of the log.
        let stopped = self.caught(|| writer.stop_preparing().map_err(|e| self.fail(e)));
        let closed = self
            .check()
            .and_then(|()| self.caught(|| writer.close(&self.counters).map_err(|e| self.fail(e))));
        self.note_segment(&writer);
        drop(writer);
        flushed.and(stopped).and(closed)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log(appended {:?}, durable {:?})", self.appended, self.durable)
    }
}
