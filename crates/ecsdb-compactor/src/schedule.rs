//! What is due, and when to look again. A decision on numbers, made apart from clocks, threads and files.

use std::time::Duration;

/// When background work is due. Each limit that is not set never triggers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Schedule {
    /// A snapshot after so many transactions.
    pub snapshot_transactions: Option<u64>,
    /// A snapshot after this time, if anything was committed.
    pub snapshot_interval: Option<Duration>,
    /// A snapshot after so many bytes of log.
    pub snapshot_log_bytes: Option<u64>,
    /// A snapshot when the log after the newest one lies in so many segments.
    pub snapshot_segments: Option<u64>,
    /// A compaction this often, if anything was committed.
    pub compaction_interval: Option<Duration>,
    /// A compaction when log and archive take more bytes than this.
    pub compaction_log_bytes: Option<u64>,
    /// A compaction when the oldest file of the newest snapshot is older than this.
    pub compaction_snapshot_age: Option<Duration>,
    /// A compaction when more than this part of the snapshot files is dead, from 0 to 1.
    pub compaction_dead_fraction: Option<f64>,
    /// Sparse chunks in memory are merged when more than this part of all rows is empty, from 0 to 1.
    pub compaction_sparse_fraction: Option<f64>,
}

/// What a schedule looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Now {
    /// Transactions since the newest snapshot.
    pub transactions: u64,
    /// Bytes of log since the newest snapshot.
    pub log_bytes: u64,
    /// Segments of log since the newest snapshot, the one under way included.
    pub segments: u64,
    /// Time since the newest snapshot, or since the opening.
    pub since_snapshot: Duration,
    /// Time since the last compaction, or since the opening.
    pub since_compaction: Duration,
    /// Anything committed since the last compaction.
    pub changed_since_compaction: bool,
    /// Bytes of log and archive on disk.
    pub log_bytes_on_disk: u64,
    /// What of them the last compaction could not free.
    pub log_bytes_left: u64,
    /// Age of the oldest file of the newest snapshot.
    pub chain_age: Option<Duration>,
    /// Files of the newest snapshot.
    pub chain_files: usize,
    /// The dead part of the snapshot files.
    pub dead_fraction: f64,
    /// The empty part of all rows in memory.
    pub sparse_fraction: f64,
    /// Chunks were merged, and nothing else was done or waited for since.
    pub just_merged: bool,
    /// A file of the newest snapshot is damaged, or gone.
    pub newest_damaged: bool,
}

/// Why something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Enough transactions.
    Transactions,
    /// Enough time.
    Time,
    /// Enough bytes of log.
    LogBytes,
    /// Many segments, which short sessions leave.
    Segments,
    /// Old files.
    Age,
    /// Too much dead.
    Dead,
    /// Too sparse in memory.
    Sparse,
    /// The newest one is damaged.
    Damaged,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A snapshot.
    Snapshot(Reason),
    /// A compaction, which takes a snapshot, too.
    Compaction(Reason),
    /// Nothing, and without new transactions not before this time has passed.
    Nothing(Option<Duration>),
}

impl Schedule {
    /// Whether there are so many segments of log that the snapshot which they make due has been missed again and again.
    pub fn is_overdue(&self, segments: u64) -> bool {
        self.snapshot_segments.is_some_and(|max| segments >= max.saturating_mul(4))
    }

    /// What is due now.
    pub fn due(&self, now: &Now) -> Due {
        let compaction = [
            // CKP-7: what is sparse again at once keeps nothing else waiting, and no thread running.
            (
                !now.just_merged && exceeds(self.compaction_sparse_fraction, now.sparse_fraction),
                Reason::Sparse,
            ),
            // A single full file has nothing dead that a compaction could free.
            (now.chain_files > 1 && exceeds(self.compaction_dead_fraction, now.dead_fraction), Reason::Dead),
            (
                now.changed_since_compaction
                    && self.compaction_log_bytes.is_some_and(|max| {
                        // What the retention keeps is no reason to compact again and again.
                        let since = now.log_bytes_on_disk.saturating_sub(now.log_bytes_left);
                        now.log_bytes_on_disk > max && since >= max / 2
                    }),
                Reason::LogBytes,
            ),
            (
                now.chain_files > 1
                    && now.chain_age.zip(self.compaction_snapshot_age).is_some_and(|(age, max)| age > max),
                Reason::Age,
            ),
            (
                now.changed_since_compaction
                    && self.compaction_interval.is_some_and(|interval| now.since_compaction >= interval),
                Reason::Time,
            ),
        ];
        if let Some((_, reason)) = compaction.into_iter().find(|(due, _)| *due) {
            return Due::Compaction(reason);
        }
        let changed = now.transactions > 0;
        let takes_any = self.snapshot_transactions.is_some()
            || self.snapshot_log_bytes.is_some()
            || self.snapshot_segments.is_some()
            || self.snapshot_interval.is_some();
        if now.newest_damaged && takes_any {
            // The world still has it, whether anything was committed since or not.
            return Due::Snapshot(Reason::Damaged);
        }
        let snapshot = [
            (self.snapshot_transactions.is_some_and(|max| now.transactions >= max), Reason::Transactions),
            (self.snapshot_log_bytes.is_some_and(|max| now.log_bytes >= max), Reason::LogBytes),
            (self.snapshot_segments.is_some_and(|max| now.segments >= max), Reason::Segments),
            (self.snapshot_interval.is_some_and(|max| now.since_snapshot >= max), Reason::Time),
        ];
        if let Some((_, reason)) = snapshot.into_iter().find(|(due, _)| changed && *due) {
            return Due::Snapshot(reason);
        }
        let left = |limit: Option<Duration>, since: Duration, counts: bool| {
            limit.filter(|_| counts).map(|limit| limit.saturating_sub(since))
        };
        let age = now.chain_age.unwrap_or_default();
        let next = [
            left(self.snapshot_interval, now.since_snapshot, changed),
            left(self.compaction_interval, now.since_compaction, now.changed_since_compaction),
            left(self.compaction_snapshot_age, age, now.chain_files > 1),
        ];
        Due::Nothing(next.into_iter().flatten().min())
    }
}

fn exceeds(limit: Option<f64>, value: f64) -> bool {
    limit.is_some_and(|limit| value > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn few_large_transactions_and_many_small_ones_and_time_all_trigger() {
        let schedule = Schedule {
            snapshot_transactions: Some(1000),
            snapshot_interval: Some(MINUTE),
            snapshot_log_bytes: Some(1 << 20),
            snapshot_segments: Some(8),
            ..Schedule::default()
        };
        let now = Now { transactions: 1, log_bytes: 10, ..Now::default() };
        assert_eq!(schedule.due(&now), Due::Nothing(Some(MINUTE)));
        assert_eq!(schedule.due(&Now { log_bytes: 2 << 20, ..now }), Due::Snapshot(Reason::LogBytes));
        assert_eq!(schedule.due(&Now { segments: 8, ..now }), Due::Snapshot(Reason::Segments));
        assert_eq!(schedule.due(&Now { transactions: 1000, ..now }), Due::Snapshot(Reason::Transactions));
        assert_eq!(schedule.due(&Now { since_snapshot: MINUTE, ..now }), Due::Snapshot(Reason::Time));
        // What is damaged is replaced, on an idle database, too; but not where no snapshot is ever taken.
        let damaged = Now { newest_damaged: true, ..Now::default() };
        assert_eq!(schedule.due(&damaged), Due::Snapshot(Reason::Damaged));
        assert_eq!(Schedule::default().due(&damaged), Due::Nothing(None));
        // An idle database takes no snapshots, and does not look again by itself.
        let idle = Now { since_snapshot: 9 * MINUTE, segments: 9, ..Now::default() };
        assert_eq!(schedule.due(&idle), Due::Nothing(None));
    }

    #[test]
    fn compaction_is_due_by_time_log_age_waste_and_sparseness() {
        let schedule = Schedule {
            compaction_interval: Some(MINUTE),
            compaction_log_bytes: Some(100),
            compaction_snapshot_age: Some(MINUTE),
            compaction_dead_fraction: Some(0.5),
            compaction_sparse_fraction: Some(0.5),
            ..Schedule::default()
        };
        let now = Now { changed_since_compaction: true, chain_files: 2, ..Now::default() };
        let due = |now| schedule.due(&now);
        assert_eq!(due(now), Due::Nothing(Some(MINUTE)));
        assert_eq!(due(Now { since_compaction: MINUTE, ..now }), Due::Compaction(Reason::Time));
        assert_eq!(due(Now { log_bytes_on_disk: 101, ..now }), Due::Compaction(Reason::LogBytes));
        assert_eq!(due(Now { chain_age: Some(2 * MINUTE), ..now }), Due::Compaction(Reason::Age));
        assert_eq!(due(Now { dead_fraction: 0.6, ..now }), Due::Compaction(Reason::Dead));
        assert_eq!(due(Now { dead_fraction: 0.6, chain_files: 1, ..now }), Due::Nothing(Some(MINUTE)));
        assert_eq!(due(Now { sparse_fraction: 0.6, ..now }), Due::Compaction(Reason::Sparse));
        // Then something else has its turn.
        let again = Now { sparse_fraction: 0.6, just_merged: true, ..now };
        assert_eq!(due(again), Due::Nothing(Some(MINUTE)));
        assert_eq!(due(Now { since_compaction: MINUTE, ..again }), Due::Compaction(Reason::Time));
        let schedule = Schedule { snapshot_transactions: Some(9), ..schedule };
        assert_eq!(schedule.due(&Now { transactions: 9, ..again }), Due::Snapshot(Reason::Transactions));
    }
}
