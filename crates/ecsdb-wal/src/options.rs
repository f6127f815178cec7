//! How a log is started and what is appended to it.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use ecsdb_io::DirLock;
use ecsdb_io::sync::atomic::{AtomicU64, Ordering};

use ecsdb_id::Lsn;

/// The options of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of the first segment; each next one is twice as large.
    pub segment_bytes_first: u64,
    /// Bytes of a segment at most, but for a single transaction that needs more.
    pub segment_bytes_max: u64,
    /// Bytes of one frame's payload at most: a larger transaction is written in parts.
    pub part_bytes_max: u32,
    /// The zstd level by which transactions of 4 KiB and more are compressed; `None` for not at all.
    pub compression: Option<i32>,
    /// Bytes of memory that what is queued may take before [`Log::admit`](crate::Log::admit) waits.
    pub queue_bytes_max: u64,
    /// Bytes of one transaction at most.
    pub transaction_bytes_max: u64,
    /// At the latest after this time a [`Durability::Batched`] record is on stable storage, and a
    /// [`Durability::Buffered`] one with the operating system.
    pub flush_interval: Duration,
    /// A segment that has transactions is ended this long after its first one, so that an idle log's are archived, too.
    pub segment_age_max: Option<Duration>,
    /// Who does the work that nobody waits for.
    pub threads: Threads,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes_first: 256 << 10,
            segment_bytes_max: 64 << 20,
            // The transactions of a simulated world are small, and have parts, too.
            part_bytes_max: if cfg!(ecsdb_simulated) { 256 } else { 4 << 20 },
            compression: None,
            queue_bytes_max: 64 << 20,
            transaction_bytes_max: 1 << 30,
            flush_interval: Duration::from_millis(10),
            segment_age_max: None,
            threads: Threads::Background,
        }
    }
}

/// The options that are looked at on the way, and may change while the log is open.
#[derive(Debug)]
pub(crate) struct LiveOptions {
    queue_bytes_max: AtomicU64,
    transaction_bytes_max: AtomicU64,
    flush_interval_ns: AtomicU64,
    /// `u64::MAX` for never.
    segment_age_max_ns: AtomicU64,
}

/// As many nanoseconds as can be said: centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl LiveOptions {
    pub(crate) fn new(options: &LogOptions) -> Self {
        LiveOptions {
            queue_bytes_max: AtomicU64::new(options.queue_bytes_max),
            transaction_bytes_max: AtomicU64::new(options.transaction_bytes_max),
            flush_interval_ns: AtomicU64::new(nanos(options.flush_interval)),
            segment_age_max_ns: AtomicU64::new(options.segment_age_max.map_or(u64::MAX, nanos)),
        }
    }

    pub(crate) fn set(&self, options: &LogOptions) {
        self.queue_bytes_max.store(options.queue_bytes_max, Ordering::Relaxed);
        self.transaction_bytes_max.store(options.transaction_bytes_max, Ordering::Relaxed);
        self.flush_interval_ns.store(nanos(options.flush_interval), Ordering::Relaxed);
        self.segment_age_max_ns.store(options.segment_age_max.map_or(u64::MAX, nanos), Ordering::Relaxed);
    }

    pub(crate) fn queue_bytes_max(&self) -> u64 {
        self.queue_bytes_max.load(Ordering::Relaxed)
    }

    pub(crate) fn transaction_bytes_max(&self) -> u64 {
        self.transaction_bytes_max.load(Ordering::Relaxed)
    }

    pub(crate) fn flush_interval(&self) -> Duration {
        Duration::from_nanos(self.flush_interval_ns.load(Ordering::Relaxed))
    }

    /// In nanoseconds; `u64::MAX` for never.
    pub(crate) fn segment_age_max_ns(&self) -> u64 {
        self.segment_age_max_ns.load(Ordering::Relaxed)
    }
}

/// Who does the work that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Threads of the log's own.
    Background,
    /// Nobody: records are written when somebody waits or flushes, and segments prepared when they are needed. Every
    /// run of a single-threaded program is then the same.
    None,
}

/// When a transaction's caller may go on, and what it survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// On stable storage before the caller goes on (or its ticket is fulfilled).
    #[default]
    Immediate,
    /// The caller goes on at once; on stable storage within the flush interval.
    Batched,
    /// The caller goes on at once; with the operating system within the flush interval, so that it survives a crash
    /// of the process, but not a power cut.
    Buffered,
}

/// Where a log begins.
#[derive(Debug, Clone)]
pub struct LogStart {
    /// The database's identity.
    pub database: u128,
    /// Counts the openings for writing.
    pub incarnation: u64,
    /// The first segment's number: above that of any file there is or was.
    pub segment: u64,
    /// The first transaction's number: above any ever seen (WAL-7).
    pub lsn: Lsn,
    /// How the log ended before.
    pub previous: SegmentEnd,
    /// The last time that any file of the database says, in nanoseconds since 1970-01-01 UTC: the log's go on after it (IO-2).
    pub last_unix_ns: u64,
    /// The lock on its directory, as long as somebody has that: no segment is begun once it is lost (REC-12).
    pub lock: Option<Weak<dyn DirLock>>,
}

/// The valid end of a segment; all zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentEnd {
    /// The segment's number.
    pub segment: u64,
    /// Its last complete transaction.
    pub last_lsn: Lsn,
    /// Where its last valid frame ends.
    pub offset: u64,
    /// That frame's header checksum.
    pub link: u32,
}

/// A transaction's bytes: `inline`, with each of `shared` inserted before the byte of `inline` at its offset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Payload<'a> {
    /// Bytes that are copied into the queue.
    pub inline: &'a [u8],
    /// Large blocks, kept by reference until they are written; offsets ascending.
    pub shared: &'a [(usize, Bytes)],
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(inline: &'a [u8]) -> Self {
        Payload { inline, shared: &[] }
    }
}
