//! A salvage without a manifest: one is made of what the files say of themselves.

use ecsdb_io::{FileKind, Layout, NumberedFile, Owner, Vfs, numbered_files};
use ecsdb_snapshot::{Kept, Manifest, Snapshot};
use ecsdb_wal::{SegmentHead, SegmentHeader, segment_files};

use crate::error::Result;
use crate::find::{Candidate, log_dirs};
use crate::report::{RecoveryReport, Rejected};

/// A manifest by which every snapshot of this database that opens counts, and all of its log, with what that leads to in the archive;
/// none, if there is neither. `generation` is the highest
/// of those that are damaged.
pub(crate) fn manifest(
    vfs: &dyn Vfs,
    layout: &Layout,
    segments: &[SegmentHeader],
    numbers: &[u64],
    generation: u64,
    report: &mut RecoveryReport,
) -> Result<Option<Manifest>> {
    let mut snapshots = Vec::new();
    for &number in numbers {
        let path = layout.file(FileKind::Snapshot, number);
        match Snapshot::open(vfs, &path) {
            // IO-1: the file is not kept open.
            Ok(snapshot) => snapshots.push(Candidate::of(&snapshot, number)),
            Err(e) if e.is_damage() => {
                report.rejected.push(Rejected { path, reason: e.to_string(), away: e.is_away() });
            }
            Err(e) => return Err(e.into()),
        }
    }
    let Some(database) = identity(vfs, layout, segments, &snapshots)? else { return Ok(None) };
    let ours = |all: &[SegmentHeader]| -> Vec<SegmentHeader> {
        all.iter().filter(|header| header.database == database).copied().collect()
    };
    let mut manifest = Manifest { generation, first_segment: 0, ..Manifest::new(database) };
    // CKP-10: a stranger's is left alone.
    manifest.snapshots = snapshots.into_iter().filter_map(|found| found.own(database)).collect();
    manifest.snapshots.sort_by_key(|entry| entry.lsn);
    let segments = ours(segments);
    if segments.is_empty() && manifest.snapshots.is_empty() {
        return Ok(None);
    }
    let kinds = [FileKind::ArchivedSegment, FileKind::CompressedSegment];
    let archived = match numbered_files(vfs, layout.archive_dir(), &kinds) {
        Ok(archived) => archived,
        // REC-14: an archive that cannot be looked at stops nothing. CKP-11: whatever is there is kept.
        Err(e) => {
            manifest.kept = Kept::EVERYTHING;
            manifest.archive_end = segments.first().map_or(1, |first| first.sequence);
            let (path, reason) = (layout.archive_dir().into(), e.to_string());
            report.rejected.push(Rejected { path, reason, away: false });
            Vec::new()
        }
    };
    let archived = ours(&headers(vfs, archived));
    let mut counted = segments;
    if let Some(newest) = archived.last() {
        // CKP-11: what was said to be kept is not known. What is before the log may be its archive.
        manifest.kept = Kept::EVERYTHING;
        manifest.archive_end = counted.first().map_or(newest.sequence + 1, |first| first.sequence);
        if counted.is_empty() {
            // All of them are the past of a log that is away. REC-13: the newest one was archived once the next one had begun.
            manifest.first_segment = newest.sequence + 1;
            manifest.next_segment = newest.sequence + 2;
        }
        // CKP-11: what another life of the database has archived says nothing of this one.
        counted = ours(&headers(vfs, segment_files(vfs, &log_dirs(layout, &manifest))?));
    }
    // The log of a salvage follows no segment.
    let begins = |header: &&SegmentHeader| header.previous.segment == 0;
    let begun = counted.iter().filter(begins).map(|header| header.sequence);
    manifest.salvaged_segments = begun.max().unwrap_or(0);
    Ok(Some(manifest))
}

/// Whose the database is. CKP-10: the directories say it; or else it is the one that most of the files are of, and of as many the one with the newest
/// segment.
fn identity(
    vfs: &dyn Vfs,
    layout: &Layout,
    segments: &[SegmentHeader],
    snapshots: &[Candidate],
) -> Result<Option<u128>> {
    for dir in [layout.log_dir(), layout.snapshot_dir()] {
        if let Some(said) = Owner::read(vfs, dir)? {
            return Ok(Some(said.database));
        }
    }
    let of_snapshots = snapshots.iter().map(|found| found.database);
    let all: Vec<u128> = of_snapshots.chain(segments.iter().map(|header| header.database)).collect();
    let files_of = |database: &u128| all.iter().filter(|other| *other == database).count();
    Ok(all.iter().copied().max_by_key(files_of))
}

/// The headers of those segments that have a valid one, and are what their names say.
pub(crate) fn headers(vfs: &dyn Vfs, files: Vec<NumberedFile>) -> Vec<SegmentHeader> {
    files.iter().filter_map(|file| SegmentHead::of(vfs, file, 0).ok()?.own()).collect()
}
