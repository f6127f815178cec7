//! What of the archived log is not where it should be. Nothing is given up for that: it counts again once it is back (CKP-11).

use std::path::PathBuf;

use ecsdb_io::{FileKind, Layout, NumberedFile, Vfs};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{Lsn, SegmentHead, segment_files};

use crate::error::Result;
use crate::fallback::not_missed_before;
use crate::find::{self, listable_dirs};

/// The segments from `first` on that others name as the one before them, and that are not there. `links` are the segments that are, oldest
/// first: each one's number, and that of the one before it.
pub fn missing_segments(first: u64, links: impl IntoIterator<Item = (u64, u64)>) -> Vec<u64> {
    let mut before = None;
    let missing = links.into_iter().filter_map(|(number, previous)| {
        let is_there = before == Some(previous) || previous < first;
        before = Some(number);
        (!is_there).then_some(previous)
    });
    missing.collect()
}

/// Up to here it is not known what of log and archive is still wanted: where the newest manifest does not validate, it may have given up what an
/// older one names, once its snapshot held that.
pub(crate) fn not_known_before(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Lsn> {
    let newest = Manifest::generations(vfs, layout)?.last().copied();
    let read = newest.map(|number| Manifest::read(vfs, &layout.file(FileKind::Manifest, number)));
    let is_older = matches!(read, Some(Err(e)) if e.is_damage());
    let covered = manifest.snapshots.last().filter(|_| is_older);
    Ok(covered.map_or(Lsn::ZERO, |newest| Lsn(newest.lsn)))
}

/// Files that the manifest names, or that others name as the one before them, and that are not where they should be: snapshots, and
/// segments of the log itself. What is [away](archive_away) of the archive is not among them, nor what was away at an opening. Looks at
/// names and headers. O(snapshots + segments).
///
/// # Errors
/// When a directory cannot be listed, or a file not be read for no fault of its own.
pub fn missing_files(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let there = find::numbers(vfs, layout, FileKind::Snapshot)?;
    let named = manifest.snapshots.iter().map(|entry| entry.sequence);
    let snapshots = named.filter(|number| !there.contains(number));
    let mut missing: Vec<PathBuf> = snapshots.map(|number| layout.file(FileKind::Snapshot, number)).collect();
    if manifest.salvage != 0 {
        return Ok(missing);
    }
    let not_missed = not_missed_before(vfs, layout, manifest)?;
    let mut links = Vec::new();
    // Where a newer manifest is damaged that had given it up, the archive has what the log leads to.
    for file in segment_files(vfs, &listable_dirs(vfs, layout, manifest))? {
        if file.number >= manifest.first_segment {
            links.extend(link(vfs, &file, manifest, not_missed, &links)?);
        }
    }
    let segments = missing_segments(manifest.first_segment, links);
    missing.extend(segments.into_iter().map(|number| layout.file(FileKind::Segment, number)));
    Ok(missing)
}

/// Whether one of the two manifests is gone that each database keeps from its first opening on: the one before `manifest`, which nobody needs, or the newest,
/// and with it what that alone knew. One that is damaged is there. Reads manifests.
///
/// # Errors
/// When the directory cannot be listed.
pub fn lacks_manifest(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<bool> {
    if manifest.generation <= 1 || manifest.salvage != 0 {
        return Ok(false);
    }
    let is_other = |number: u64| {
        let path = layout.file(FileKind::Manifest, number);
        number != manifest.generation
            && Manifest::read(vfs, &path).map_or(true, |other| other.database == manifest.database)
    };
    Ok(!Manifest::generations(vfs, layout)?.into_iter().any(is_other))
}

/// A segment of the database and the one before it, if it is known that that is wanted. Damaged is not missing: it is there, and what was before it
/// stands in it no more.
fn link(
    vfs: &dyn Vfs,
    file: &NumberedFile,
    manifest: &Manifest,
    not_missed: Lsn,
    links: &[(u64, u64)],
) -> Result<Option<(u64, u64)>> {
    let previous = match SegmentHead::of(vfs, file, manifest.database)? {
        SegmentHead::Own(header) if header.previous.last_lsn > not_missed => header.previous.segment,
        SegmentHead::Own(_) => 0,
        SegmentHead::Damaged(_) => links.last().map_or(0, |(number, _)| *number),
        SegmentHead::Blank | SegmentHead::Strange(_) => return Ok(None),
    };
    Ok(Some((file.number, previous)))
}

/// The archive's segments that the manifest wants and that are not there: a file for each gap, or the directory where there is none at all.
/// Reads headers. O(segments).
///
/// # Errors
/// When a directory cannot be listed, or a file not be read for no fault of its own.
pub fn archive_away(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let first = manifest.archived_from();
    if manifest.salvage != 0 || first >= manifest.first_segment {
        return Ok(Vec::new());
    }
    let not_known = not_known_before(vfs, layout, manifest)?;
    let (mut links, mut archived) = (Vec::new(), 0);
    for file in segment_files(vfs, &listable_dirs(vfs, layout, manifest))? {
        let Some(link) = link(vfs, &file, manifest, not_known, &links)? else { continue };
        archived += u64::from(file.number < manifest.first_segment);
        links.push(link);
    }
    let missing = missing_segments(first, links);
    if archived == 0 && (manifest.kept.archive != 0 || !missing.is_empty()) {
        return Ok(vec![layout.archive_dir().into()]);
    }
    let missing = missing.into_iter().filter(|number| manifest.is_archived(*number));
    Ok(missing.map(|number| archived_file(layout, manifest, number)).collect())
}

/// The file that a segment of the archive was, by what was said last of how they are written.
pub(crate) fn archived_file(layout: &Layout, manifest: &Manifest, number: u64) -> PathBuf {
    let kind = match manifest.kept.archive_level {
        0 => FileKind::ArchivedSegment,
        _ => FileKind::CompressedSegment,
    };
    layout.file(kind, number)
}
