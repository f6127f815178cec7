//! What of the past goes, as a decision on what there is: the same for doing it and for saying what would be done.

use ecsdb_io::{FileKind, Layout, Vfs, numbered_files};
use ecsdb_recovery::{Mark, check_heads, fallback, log_dirs, mark};
use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::{LogScan, Lsn, segment_files};

use crate::archive::{ArchivedSegment, had_some, list_archive};
use crate::error::{Error, Result};
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
        let least = fallback.map_or(bases.len(), |fallback| {
            bases.iter().filter(|entry| entry.sequence >= fallback.sequence).count()
        });
        // The log goes back to the empty world: as good as a snapshot of it. CKP-11: so it may where its beginning is away or damaged.
        let from_empty = match archived.first() {
            Some(first) if first.after == Some(Lsn::ZERO) => true,
            Some(first) if first.after.is_some() && first.number <= there.archive_first => false,
            _ => there.archive_first == 1 && there.first_segment > 1,
        };
        if from_empty {
            bases.insert(0, SnapshotEntry::EMPTY);
        }
        let retention = if salvaging { Retention::default() } else { Retention::from(kept) };
        let gone = retention.expendable(&bases, least, there.now_unix_ns, |gone| {
            let rest = &bases[gone..];
            let uses = |n: u64| rest.iter().any(|entry| entry.uses(n));
            let snapshots: u64 = there.snapshot_sizes.iter().filter(|(n, _)| uses(*n)).map(|(_, b)| b).sum();
            let log =
                archived.iter().filter(|segment| segment.last_lsn.is_none_or(|last| last.0 > rest[0].lsn));
            snapshots + log.map(|segment| segment.bytes).sum::<u64>()
        });
        let oldest = bases.get(gone).map_or(Lsn::ZERO, |base| Lsn(base.lsn));
        // The empty world is file 0: before it there is nothing to give up.
        let first_snapshot = bases.get(gone).map_or(0, |base| base.sequence);
        let gone = bases.iter().any(|base| base.sequence != 0 && base.sequence < first_snapshot);
        // CKP-11: only what is behind that one, or before what is, is given up. What is away, or tells nothing, is not for that alone.
        let behind = |segment: &ArchivedSegment| segment.last_lsn.is_some_and(|last| last <= oldest);
        let first_archived = match archived.iter().rposition(behind) {
            _ if salvaging => manifest.first_archived,
            _ if settings.archive == Archiving::Off => there.first_segment,
            None if archived.is_empty() && kept.archive == 0 => there.first_segment,
            None => manifest.first_archived,
            Some(i) if i + 1 == archived.len() => there.first_segment,
            Some(i) => archived[i].number + 1,
        };
        Trim { first_snapshot, gone, first_archived: first_archived.max(manifest.first_archived) }
    }
}

/// The manifest that a snapshot of the state at `lsn`, or a compaction of it, would leave by these settings: what it does not name any more would
/// be given up. What recovery does not need is still in its log where it would go to the archive. Nothing is changed; the new file's size counts
/// for nothing. O(segments), and for an archive without a log behind it its last segment is read.
///
/// # Errors
/// [`Error::SnapshotsAway`], as the snapshot itself; or when a file operation fails, or the archive is another database's.
pub fn foresee(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    settings: &StoreSettings,
    lsn: Lsn,
    is_compaction: bool,
) -> Result<Manifest> {
    if manifest.snapshots.is_empty() && !manifest.away.is_empty() {
        return Err(Error::SnapshotsAway(layout.snapshot_dir().into()));
    }
    let mut next = manifest.clone();
    next.snapshots = after(manifest, settings, lsn, is_compaction, vfs.now_unix_ns());
    let is_archiving = settings.kept(manifest.kept).archive != 0 && manifest.salvage == 0;
    if is_archiving
        && had_some(manifest)
        && mark(vfs, layout, layout.archive_dir(), manifest.database)? == Mark::Empty
    {
        // It is away: nothing goes before it is back, and a compaction is done when what it gives up is gone.
        return if is_compaction { Err(Error::ArchiveAway(layout.archive_dir().into())) } else { Ok(next) };
    }
    let new = manifest.next_snapshot;
    let fallback = fallback(&next.snapshots, is_compaction, |entry| {
        // What is to be written is whole.
        match check_heads(vfs, layout, manifest.database, entry) {
            Err(e) if entry.sequence < new && e.is_damage() => Ok(false),
            Err(e) if entry.sequence < new => Err(e),
            _ => Ok(true),
        }
    })?;
    let covered = fallback.map_or(Lsn::ZERO, |entry| Lsn(entry.lsn));
    let [log, archive] = log_dirs(layout, manifest);
    let segments = segment_files(vfs, &[log])?;
    let first_segment = match segments.last() {
        // Whoever does it opens the database, which begins a segment of its own.
        Some(last) if covered >= lsn => manifest.next_segment.max(last.number + 1),
        _ => LogScan::first_needed(vfs, &[log], covered)?.max(manifest.first_segment),
    };
    let mut archived = list_archive(vfs, layout, manifest)?;
    if is_archiving {
        let known = archived.last().map_or(0, |last| last.number);
        let covered = segments.iter().filter(|file| file.number > known && file.number < first_segment);
        for file in covered {
            let Ok(scanned) = LogScan::file(vfs, &file.path) else { continue };
            let previous = scanned.header.previous;
            if scanned.end.last_lsn == previous.last_lsn {
                // A session that wrote nothing leaves none.
                continue;
            }
            archived.push(ArchivedSegment {
                number: file.number,
                previous: previous.segment,
                after: Some(previous.last_lsn),
                last_lsn: Some(scanned.end.last_lsn),
                bytes: scanned.end.offset,
            });
        }
    }
    let sizes = numbered_files(vfs, layout.snapshot_dir(), &[FileKind::Snapshot])?;
    let sizes: Vec<(u64, u64)> = sizes.into_iter().map(|file| (file.number, file.bytes)).collect();
    let there = There {
        manifest: &next,
        fallback,
        first_segment,
        archived: &archived,
        archive_first: archive.first,
        snapshot_sizes: &sizes,
        now_unix_ns: vfs.now_unix_ns(),
    };
    let trim = Trim::of(settings, &there);
    next.give_up_before(trim.first_snapshot);
    next.first_archived = trim.first_archived;
    next.first_segment = trim.first_archived.clamp(manifest.first_segment, first_segment);
    Ok(next)
}

/// The snapshots with the one that would be taken.
fn after(
    manifest: &Manifest,
    settings: &StoreSettings,
    lsn: Lsn,
    is_compaction: bool,
    now_unix_ns: u64,
) -> Vec<SnapshotEntry> {
    let mut snapshots = manifest.snapshots.clone();
    let sequence = manifest.next_snapshot;
    let is_new = snapshots.last().is_none_or(|newest| newest.lsn < lsn.0);
    if !is_new && snapshots.last().is_some_and(|newest| !is_compaction || newest.base == newest.sequence) {
        // It has everything already, and lies in one file.
        return snapshots;
    }
    let base = match snapshots.last() {
        Some(newest) if !is_compaction => {
            let chain = snapshots.iter().filter(|entry| entry.sequence >= newest.base).count();
            if chain < settings.chain_max { newest.base } else { sequence }
        }
        _ => sequence,
    };
    if is_compaction && !is_new {
        snapshots.pop();
    }
    let entry = SnapshotEntry::files(base, sequence);
    snapshots.push(SnapshotEntry { lsn: lsn.0, created_unix_ns: now_unix_ns, ..entry });
    snapshots
}
