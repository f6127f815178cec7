//! What of the past is kept: a decision on numbers, made apart from the files.

use std::time::Duration;

use ecsdb_snapshot::{Kept, SnapshotEntry};

/// Limits of what is kept. The past is given up from its far end, a snapshot and the archived log behind it at a time, as long as
/// any limit is exceeded. Without any limit only what recovery needs is kept: the snapshots back to one that shares no file with the
/// newest, and the log after that one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// At most so many snapshots; never fewer than recovery needs.
    pub snapshots_max: Option<usize>,
    /// Nothing that is only good for going back further than this; of the time between two snapshots an eighth of it counts at most.
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
    /// Nothing is given up.
    pub const UNLIMITED: Retention =
        Retention { snapshots_max: Some(usize::MAX), age_max: None, bytes_max: None };

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
            let too_old =
                self.age_max.is_some_and(|max| Retention::is_older(&entries[gone + 1..], now_unix_ns, max));
            let too_large = self.bytes_max.is_some_and(|max| bytes(gone) > max);
            if !(too_many || too_old || too_large) {
                break;
            }
            gone += 1;
        }
        gone
    }

    /// Whether the first of `entries` (oldest first) was taken longer ago than `max`.
    ///
    /// CKP-11: a clock that was wrong once, by whatever it was wrong, gives up nothing. Only time between two snapshots counts, from
    /// each to the next and from the newest until now, and of each such interval an eighth of `max` at most; and as much more has to have
    /// passed. The price is that of rare snapshots ten stay, however old they are.
    fn is_older(entries: &[SnapshotEntry], now_unix_ns: u64, max: Duration) -> bool {
        let max = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        let most = max / 8;
        let until = entries.iter().skip(1).map(|next| next.created_unix_ns).chain([now_unix_ns]);
        let intervals = entries.iter().zip(until).map(|(from, to)| to.saturating_sub(from.created_unix_ns));
        let age = intervals.fold(0u64, |age, interval| age.saturating_add(interval.min(most)));
        age > max.saturating_add(most)
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
            salt: i,
        };
        (1..=n).map(entry).collect()
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
        assert_eq!(gone(Retention { bytes_max: Some(35), ..none }), 3);
        assert_eq!(gone(Retention { bytes_max: Some(1), ..none }), 4);
    }
    /// Snapshots of every minute, and what an age of 16 minutes gives up of them.
    fn too_old(minutes: &[u64], now: u64) -> usize {
        let unix_ns = |minute: u64| (1_000_000 + minute) * 60_000_000_000;
        let entry = |(i, minute): (usize, &u64)| SnapshotEntry {
            created_unix_ns: unix_ns(*minute),
            sequence: i as u64,
            ..SnapshotEntry::EMPTY
        };
        let entries: Vec<SnapshotEntry> = minutes.iter().enumerate().map(entry).collect();
        let age = Retention { age_max: Some(Duration::from_secs(16 * 60)), ..Retention::default() };
        age.expendable(&entries, 2, unix_ns(now), |_| 0)
    }

    #[test]
    fn what_is_older_than_the_age_goes_and_never_the_last_two() {
        let minutes: Vec<u64> = (0..30).collect();
        // The newest that is more than 18 minutes old has to stay: any moment since can be gone back to.
        assert_eq!(too_old(&minutes, 30), 11);
        assert_eq!(too_old(&minutes[..18], 18), 0);
        // Rare ones stay longer, but not for ever.
        let rare: Vec<u64> = (0..100).map(|i| i * 1_000).collect();
        assert_eq!(too_old(&rare, 100_000), 90);
        assert_eq!(too_old(&rare[..2], 100_000), 0);
    }

    /// CKP-11: a snapshot that was taken with a clock a year ahead gave up all history, and the next ones none for a year.
    #[test]
    fn a_clock_that_was_wrong_once_gives_up_nothing_and_stops_nothing() {
        const YEAR: u64 = 365 * 24 * 60;
        let mut minutes: Vec<u64> = (0..16).collect();
        assert_eq!(too_old(&minutes, 16 + YEAR), 0);
        // The clock is right again, and the log's own goes on at half the speed.
        minutes.extend((0..2).map(|minute| YEAR + 16 + minute / 2));
        assert_eq!(too_old(&minutes, YEAR + 17), 0);
        minutes.extend((2..40).map(|minute| YEAR + 16 + minute / 2));
        assert!(too_old(&minutes, YEAR + 36) > 16);
        // A clock that is set back is as if no time had passed.
        assert_eq!(too_old(&[50, 51, 52], 3), 0);
    }
}
