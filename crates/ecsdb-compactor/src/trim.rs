//! What of the past goes, as a decision on what there is.

use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::Lsn;

use crate::archive::ArchivedSegment;
use crate::retention::Retention;
use crate::settings::{Archiving, StoreSettings};

/// What there is.
pub(crate) struct There<'a> {
    pub(crate) manifest: &'a Manifest,
    /// The snapshot from which on all stays.
    pub(crate) fallback: Option<SnapshotEntry>,
    /// The log segments before this one are not needed by recovery.
    pub(crate) first_segment: u64,
    pub(crate) archived: &'a [ArchivedSegment],
    /// The first segment that counts in the archive.
    pub(crate) archive_first: u64,
    /// Number and bytes of each snapshot file.
    pub(crate) snapshot_sizes: &'a [(u64, u64)],
    pub(crate) now_unix_ns: u64,
}

/// What stays.
pub(crate) struct Trim {
    /// The snapshots before this file go.
    pub(crate) first_snapshot: u64,
    /// There are any before it.
    pub(crate) gone: bool,
    /// The archived segments before this one go.
    pub(crate) first_archived: u64,
}

impl Trim {
    /// What stays by these settings.
    pub(crate) fn of(settings: &StoreSettings, there: &There<'_>) -> Trim {
        let There { manifest, fallback, archived, .. } = there;
        let kept = settings.kept(manifest.kept);
        let salvaging = manifest.salvage != 0;
        // What is away may be back before it is given up.
        let mut bases = [&manifest.snapshots[..], &manifest.away].concat();
        bases.sort_by_key(|entry| entry.sequence);
        // The log goes back to the empty world: as good as a snapshot of it. CKP-11: so it may where its beginning is away or damaged.
        let from_empty = match archived.first() {
            Some(first) if first.after == Some(Lsn::ZERO) => true,
            Some(first) if first.after.is_some() && first.number <= there.archive_first => false,
            _ => there.archive_first == 1 && there.first_segment > 1,
        };
        if from_empty {
            bases.insert(0, SnapshotEntry::EMPTY);
        }
        // CKP-3: without a snapshot to fall back on the log alone may lead to what there is.
        let least = fallback.map_or(bases.len(), |fallback| {
            bases.iter().filter(|entry| entry.sequence >= fallback.sequence).count()
        });
        let retention = if salvaging { Retention::default() } else { Retention::from(kept) };
        let gone = retention.expendable(&bases, least, there.now_unix_ns, |gone| {
            let rest = &bases[gone..];
            let uses = |n: u64| rest.iter().any(|entry| entry.uses(n));
            let snapshots: u64 = there.snapshot_sizes.iter().filter(|(n, _)| uses(*n)).map(|(_, b)| b).sum();
            let log = &archived[expendable(archived, Lsn(rest[0].lsn))..];
            snapshots + log.iter().map(|segment| segment.bytes).sum::<u64>()
        });
        let oldest = bases.get(gone).map_or(Lsn::ZERO, |base| Lsn(base.lsn));
        // The empty world is file 0: before it there is nothing to give up.
        let first_snapshot = bases.get(gone).map_or(0, |base| base.sequence);
        let gone = bases.iter().any(|base| base.sequence != 0 && base.sequence < first_snapshot);
        let first_archived = match expendable(archived, oldest) {
            _ if salvaging => 0,
            _ if settings.archive == Archiving::Off => u64::MAX,
            // The log goes on without a copy, and what a tool has archived leads to it no more.
            _ if kept.archive == 0 && there.first_segment > manifest.first_segment => {
                let begins = archived.first().is_some_and(|first| first.previous < there.archive_first);
                archived.last().filter(|_| begins).map_or(0, |last| last.number + 1)
            }
            0 => 0,
            // What is behind it and not on the list is away.
            n => archived[n - 1].number + 1,
        };
        Trim { first_snapshot, gone, first_archived }
    }
}

/// How many archived segments are of no use where `oldest` is the first moment that can be gone back to. CKP-11: only what is behind that one, or
/// before what is, is given up, and nothing from the first on that is not. What is away, or tells nothing, is not for that alone.
fn expendable(archived: &[ArchivedSegment], oldest: Lsn) -> usize {
    let is_wanted =
        |segment: &ArchivedSegment| segment.last_lsn.is_some_and(|last| last > oldest || oldest == Lsn::ZERO);
    let wanted = archived.iter().position(is_wanted).unwrap_or(archived.len());
    archived[..wanted].iter().rposition(|segment| segment.last_lsn.is_some()).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ArchiveSettings;

    fn archiving(retention: Retention) -> StoreSettings {
        StoreSettings {
            compression: None,
            threads: 1,
            chain_max: 1,
            retention: Some(retention),
            archive: Archiving::On(ArchiveSettings { compression: None }),
            keep_all: false,
        }
    }

    fn segment(number: u64, last: Option<u64>, bytes: u64) -> ArchivedSegment {
        ArchivedSegment { number, previous: number - 1, after: None, last_lsn: last.map(Lsn), bytes }
    }

    /// CKP-11: what is wanted stays, whatever stands behind it on the list.
    #[test]
    fn nothing_from_the_first_that_is_wanted_on_is_given_up() {
        let settings = archiving(Retention::UNLIMITED);
        let first_archived = |lasts: &[Option<u64>]| {
            let segments = (3..).zip(lasts).map(|(number, last)| segment(number, *last, 1));
            let archived: Vec<ArchivedSegment> = segments.collect();
            let mut manifest = Manifest::new(1);
            manifest.snapshots.push(SnapshotEntry { sequence: 1, lsn: 30, ..SnapshotEntry::EMPTY });
            (manifest.first_segment, manifest.first_archived) = (9, 2);
            let there = There {
                manifest: &manifest,
                fallback: None,
                first_segment: 9,
                archived: &archived,
                archive_first: 2,
                snapshot_sizes: &[],
                now_unix_ns: 0,
            };
            Trim::of(&settings, &there).first_archived
        };
        assert_eq!(first_archived(&[Some(20), Some(40), Some(50)]), 4);
        assert_eq!(first_archived(&[Some(20), None, Some(30), Some(40)]), 6);
        // They tell nothing, and may be wanted.
        assert_eq!(first_archived(&[Some(20), None, None, Some(40)]), 4);
        assert_eq!(first_archived(&[None, None]), 0);
        assert_eq!(first_archived(&[Some(20), Some(30)]), 5);
        // A list that does not ascend: the last one says nothing of those before it.
        assert_eq!(first_archived(&[Some(20), Some(40), Some(25)]), 4);
        assert_eq!(first_archived(&[Some(40), Some(25)]), 0);
    }

    /// CKP-11: what goes takes no room, and is no reason to give up more.
    #[test]
    fn by_bytes_counts_what_stays() {
        let settings = archiving(Retention { bytes_max: Some(10), ..Retention::default() });
        let archived = [segment(3, None, 1_000), segment(4, Some(15), 1), segment(5, Some(25), 1)];
        let mut manifest = Manifest::new(1);
        (manifest.first_segment, manifest.first_archived, manifest.archive_end) = (9, 2, 9);
        let entry = |n: u64| SnapshotEntry { sequence: n, base: n, lsn: 10 * n, ..SnapshotEntry::EMPTY };
        manifest.snapshots = [1, 2, 3].map(entry).to_vec();
        let there = There {
            manifest: &manifest,
            fallback: Some(entry(3)),
            first_segment: 9,
            archived: &archived,
            archive_first: 2,
            snapshot_sizes: &[],
            now_unix_ns: 0,
        };
        let Trim { first_snapshot, first_archived, .. } = Trim::of(&settings, &there);
        assert_eq!((first_snapshot, first_archived), (2, 5));
    }

    /// CKP-3: while there is no snapshot to fall back on, the archive that goes back to the beginning is what alone leads to the state.
    #[test]
    fn without_a_snapshot_to_fall_back_on_nothing_is_given_up() {
        let settings =
            archiving(Retention { snapshots_max: Some(1), bytes_max: Some(1), ..Retention::default() });
        let archived = [1, 2, 3]
            .map(|n| ArchivedSegment { after: Some(Lsn(10 * n - 10)), ..segment(n, Some(10 * n), 9) });
        for (live, away) in [(0, 3), (1, 0), (1, 2)] {
            let mut manifest = Manifest::new(1);
            (manifest.first_segment, manifest.archive_end) = (4, 4);
            let entry = |n: u64| SnapshotEntry { sequence: n, base: n, lsn: 10 * n, ..SnapshotEntry::EMPTY };
            manifest.away = (1..=away).map(entry).collect();
            manifest.snapshots = (away + 1..=away + live).map(entry).collect();
            let there = There {
                manifest: &manifest,
                fallback: None,
                first_segment: 4,
                archived: &archived,
                archive_first: 1,
                snapshot_sizes: &[],
                now_unix_ns: 0,
            };
            let Trim { gone, first_archived, .. } = Trim::of(&settings, &there);
            assert_eq!((gone, first_archived), (false, 0), "{live} {away}");
        }
    }
}
