//! The order in which the scheduler serves, and what it tells about each class.

/// The class of a disk operation. A request of an earlier one is always served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// The log: transactions wait for it.
    Log,
    /// Opening a database: the application waits for it.
    Recovery,
    /// Snapshots and compaction.
    Snapshot,
    /// Copies to the archive.
    Archive,
}

impl Priority {
    /// All of them, the first served first.
    pub const ALL: [Priority; 4] = [Priority::Log, Priority::Recovery, Priority::Snapshot, Priority::Archive];

    /// The one that is served last.
    pub(super) const LOWEST: Priority = Priority::Archive;

    /// Its place in [`Priority::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What happened to the requests of one [`Priority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PriorityStats {
    /// Requests accepted and not yet executed.
    pub queued_requests: u64,
    /// Bytes of the writes among them.
    pub queued_bytes: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Writes asked for and executed or given up after a failure.
    pub writes_requested: u64,
    /// Writes which that took: fewer where adjacent ones were merged.
    pub writes_executed: u64,
}

/// What happened to the requests of a [`Scheduler`](super::Scheduler), by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerStats {
    pub(super) classes: [PriorityStats; 4],
}

impl std::ops::Index<Priority> for SchedulerStats {
    type Output = PriorityStats;

    fn index(&self, priority: Priority) -> &PriorityStats {
        &self.classes[priority.index()]
    }
}
