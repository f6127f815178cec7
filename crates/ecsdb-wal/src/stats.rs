//! What a log has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a log since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Transactions written.
    pub transactions: u64,
    /// Groups written: one write each.
    pub groups: u64,
    /// Syncs.
    pub syncs: u64,
    /// Bytes written, padding of pages included.
    pub bytes_written: u64,
    /// Segments begun.
    pub segments: u64,
    /// Segments that were needed before they were prepared.
    pub segments_late: u64,
    /// Times that a writer waited because the queue was full.
    pub admission_waits: u64,
    /// Bytes in the queue now.
    pub queued_bytes: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),* }

        impl Counters {
            pub(crate) fn read(&self, queued_bytes: u64) -> LogStats {
                LogStats { $($name: self.$name.load(Ordering::Relaxed),)* queued_bytes }
            }
        }
    };
}

counters!(transactions, groups, syncs, bytes_written, segments, segments_late, admission_waits);

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
