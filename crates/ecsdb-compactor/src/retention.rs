//! What of the past is kept: a decision on numbers, made apart from the files.

use std::time::Duration;

use ecsdb_snapshot::{Kept, SnapshotEntry};

/// How many of the newest of `entries` (oldest first) recovery needs: back to one that shares no file with the newest, so that no
/// single damage makes both useless. `None` while there is no such one.
pub(crate) fn needed(entries: &[SnapshotEntry]) -> Option<usize> {
    let newest = entries.last()?;
    let apart = entries.iter().rposition(|entry| entry.sequence < newest.base)?;
    Some(entries.len() - apart)
}

/// Limits of what is kept. The past is given up from its far end, a snapshot and the archived log behind it at a time, as long as
/// any limit is exceeded. Without any limit only what recovery needs is kept: the snapshots back to one that shares no file with the
/// newest, and the log after that one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// At most so many snapshots; never fewer than recovery needs.
    pub snapshots_max: Option<usize>,
    /// Nothing that is only good for going back further than this.
    pub age_max: Option<Duration>,
    /// At most so many bytes of snapshots and archived log, as far as that leaves what recovery needs.
    pub bytes_max: Option<u64>,
}

impl From<Kept> for Retention {
    fn from(kept: Kept) -> Self {
        let some = |max: u64| (max != 0).then_some(max);
        Retention {
            snapshots_max: some(kept.snapshots_max).map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
            age_max: some(kept.age_max_ns).map(Duration::from_nanos),
            bytes_max: some(kept.bytes_max),
        }
    }
}

impl Retention {
    /// How many of `entries` (oldest first) may go, so that at least `least` stay. `bytes(i)` is what everything takes that stays
    /// when the first `i` go.
    pub(crate) fn expendable(
        &self,
        entries: &[SnapshotEntry],
        least: usize,
        now_unix_ns: u64,
        mut bytes: impl FnMut(usize) -> u64,
    ) -> usize {
        let most = entries.len().saturating_sub(least);
        if *self == Retention::default() {
            return most;
        }
        let mut gone = 0;
        while gone < most {
            let too_many = self.snapshots_max.is_some_and(|max| entries.len() - gone > max.max(least));
            // Any moment within the age can be gone back to while the newest snapshot before it is there.
            let too_old = self.age_max.is_some_and(|max| {
                let next = entries[gone + 1].created_unix_ns;
                Duration::from_nanos(now_unix_ns.saturating_sub(next)) > max
            });
            let too_large = self.bytes_max.is_some_and(|max| bytes(gone) > max);
            if !(too_many || too_old || too_large) {
                break;
            }
            gone += 1;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(n: u64) -> Vec<SnapshotEntry> {
        let entry = |i| SnapshotEntry {
            sequence: i,
            lsn: i * 100,
            created_unix_ns: i * 1_000_000_000,
            bytes: 10,
            parent: 0,
            base: i,
        };
        (1..=n).map(entry).collect()
    }

    #[test]
    fn recovery_needs_the_newest_chain_and_the_end_of_the_one_before() {
        let mut chain = entries(5);
        // 1 2 | 3 4 5
        (chain[1].base, chain[3].base, chain[4].base) = (1, 3, 3);
        assert_eq!(needed(&chain), Some(4));
        assert_eq!(needed(&chain[..3]), Some(2));
        assert_eq!((needed(&chain[..2]), needed(&chain[2..]), needed(&[])), (None, None, None));
    }

    #[test]
    fn without_limits_the_least_stays() {
        let keep = |n, least| Retention::default().expendable(&entries(n), least, 0, |_| 0);
        assert_eq!((keep(5, 2), keep(5, 1), keep(2, 2), keep(1, 2), keep(0, 2)), (3, 4, 0, 0, 0));
    }

    #[test]
    fn each_limit_alone_gives_up_the_far_end_and_never_the_last_two() {
        let now = 10_000_000_000;
        let gone =
            |retention: Retention| retention.expendable(&entries(6), 2, now, |gone| 60 - 10 * gone as u64);
        let none = Retention::default();
        assert_eq!(gone(Retention { snapshots_max: Some(4), ..none }), 2);
        assert_eq!(gone(Retention { snapshots_max: Some(0), ..none }), 4);
        // The snapshots were taken at seconds 1 to 6; seven seconds back is second 3.
        assert_eq!(gone(Retention { age_max: Some(Duration::from_secs(7)), ..none }), 1);
        assert_eq!(gone(Retention { age_max: Some(Duration::ZERO), ..none }), 4);
        assert_eq!(gone(Retention { age_max: Some(Duration::from_secs(100)), ..none }), 0);
        assert_eq!(gone(Retention { bytes_max: Some(35), ..none }), 3);
        assert_eq!(gone(Retention { bytes_max: Some(1), ..none }), 4);
    }
}
