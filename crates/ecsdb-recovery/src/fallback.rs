//! The snapshot that recovery falls back on: from there on everything stays, and before it nobody but an archive wants anything.

use ecsdb_io::{FileKind, Layout, Vfs};
use ecsdb_snapshot::{Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::Lsn;

use crate::archived::not_known_before;
use crate::error::Result;

/// Of `entries` (oldest first) the newest that shares no file with the last one, so that no single damage makes both useless, or one before it that
/// `is_whole`; of a compaction, which leaves one file that has everything, the newest that is. `None` while there is no such one: then all of the
/// log is needed.
///
/// # Errors
/// As `is_whole`.
pub fn fallback<E>(
    entries: &[SnapshotEntry],
    is_compaction: bool,
    mut is_whole: impl FnMut(&SnapshotEntry) -> Result<bool, E>,
) -> Result<Option<SnapshotEntry>, E> {
    let newest = entries.last().map_or(0, |newest| newest.base);
    for entry in entries.iter().rev().filter(|entry| is_compaction || entry.sequence < newest) {
        if is_whole(entry)? {
            return Ok(Some(*entry));
        }
    }
    Ok(None)
}

/// Whether a snapshot is whole as far as the heads of its files tell; an error of the kind [`ecsdb_snapshot::Error::is_damage`] says that it is not.
///
/// # Errors
/// What is wrong with it, or that a file operation fails.
pub fn check_heads(
    vfs: &dyn Vfs,
    layout: &Layout,
    database: u128,
    entry: &SnapshotEntry,
) -> ecsdb_snapshot::Result<()> {
    let snapshot = Snapshot::open(vfs, &layout.file(FileKind::Snapshot, entry.sequence))?;
    snapshot.expect(database, entry)?;
    snapshot.check_files(vfs)
}

/// Up to here nobody misses what is not there of the log: recovery does not need it, and a manifest that is older than what was done may name it.
pub(crate) fn not_missed_before(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Lsn> {
    let not_known = not_known_before(vfs, layout, manifest)?;
    if manifest.kept.archive != 0 || manifest.archived_from() < manifest.first_segment {
        // What recovery does not need, the archive was to have.
        return Ok(not_known);
    }
    let fallback = fallback(&manifest.snapshots, false, |entry| {
        match check_heads(vfs, layout, manifest.database, entry) {
            Ok(()) => Ok(true),
            Err(e) if e.is_damage() => Ok(false),
            Err(e) => Err(e),
        }
    })?;
    Ok(not_known.max(fallback.map_or(Lsn::ZERO, |entry| Lsn(entry.lsn))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shares_no_file_with_the_newest_and_is_whole() {
        let entry = |(base, i)| SnapshotEntry { lsn: i * 100, ..SnapshotEntry::files(base, i) };
        // 1 2 | 3 4 5
        let chain = [(1, 1), (1, 2), (3, 3), (3, 4), (3, 5)].map(entry);
        let of = |entries: &[SnapshotEntry], is_compaction, damaged: u64| {
            let found = fallback(entries, is_compaction, |entry| Ok::<_, ()>(entry.sequence != damaged));
            found.unwrap().map(|entry| entry.sequence)
        };
        assert_eq!(
            (of(&chain, false, 0), of(&chain, false, 2), of(&chain[..3], false, 0)),
            (Some(2), Some(1), Some(2))
        );
        assert_eq!(
            (of(&chain[..2], false, 0), of(&chain[2..], false, 0), of(&[], false, 0)),
            (None, None, None)
        );
        assert_eq!((of(&chain, true, 0), of(&chain, true, 5), of(&[], true, 0)), (Some(5), Some(4), None));
    }
}
