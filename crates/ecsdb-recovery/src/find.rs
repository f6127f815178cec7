//! Finding what there is: the newest manifest that validates, or the absence of everything.

use std::path::Path;

use ecsdb_io::{FileKind, IoError, Layout, NumberedFile, Owner, Vfs, numbered_files, patiently};
use ecsdb_snapshot::{Kept, Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::{Known, LogDir, LogScan, Lsn, SegmentHead, SegmentHeader, Tail, segment_files};

use crate::archived::{archived_file, lacks_manifest};
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::report::{DataLoss, Lost, RecoveryReport, Rejected};
use crate::{claim, rebuild};

fn is_of_the_medium(e: &ecsdb_snapshot::Error) -> bool {
    matches!(e, ecsdb_snapshot::Error::Io(e) if e.is_of_the_medium())
}

/// Reads a manifest. CKP-11: to go by an older one sets aside what only this one knows of, so it is asked for more than once.
fn read(vfs: &dyn Vfs, path: &Path) -> ecsdb_snapshot::Result<Manifest> {
    patiently(is_of_the_medium, || Manifest::read(vfs, path))
}

/// The manifest to go by; a new one (generation 0) where there is no database yet.
pub(crate) fn manifest(
    vfs: &dyn Vfs,
    layout: &Layout,
    policy: Policy,
    report: &mut RecoveryReport,
) -> Result<Manifest> {
    let generations = Manifest::generations(vfs, layout)?;
    let newest = generations.last().copied().unwrap_or(0);
    // CKP-10: where the log says whose it is, another database's manifest is a stranger's, whatever its number.
    let owner = Owner::read(vfs, layout.log_dir())?.map(|said| said.database);
    let mut foreign = None;
    for &generation in generations.iter().rev() {
        let path = layout.file(FileKind::Manifest, generation);
        match read(vfs, &path) {
            Ok(manifest) if owner.is_some_and(|owner| owner != manifest.database) => {
                report.strangers.push(path);
                foreign.get_or_insert(manifest);
                continue;
            }
            Ok(mut manifest) => {
                take_up_reserved(vfs, layout, &mut manifest)?;
                let is_older = !report.rejected.is_empty();
                if is_older {
                    go_by_older(vfs, layout, &mut manifest)?;
                }
                // A newer one may have let the log go up to behind this segment.
                let marked = layout.file(FileKind::Segment, manifest.log_mark.0);
                if vfs.file_len(&marked)?.is_none() && (is_older || lacks_manifest(vfs, layout, &manifest)?) {
                    manifest.log_mark = (0, 0);
                }
                bring_back(vfs, layout, &mut manifest)?;
                // The next generation's name must be a new one even if newer ones are damaged.
                manifest.generation = newest;
                return Ok(manifest);
            }
            Err(e) if e.is_damage() => {
                // Should it be back, there are newer ones.
                report.rejected.push(Rejected { path, reason: e.to_string(), away: false })
            }
            Err(e) => return Err(e.into()),
        }
        if policy == Policy::Strict
            && let Some(rejected) = report.rejected.last()
        {
            return Err(Error::Strict { what: rejected.reason.clone() });
        }
    }
    if let Some(manifest) = foreign.filter(|_| report.rejected.is_empty()) {
        // It is the log that is another's, then.
        report.strangers.clear();
        return Ok(manifest);
    }
    // What has anything in it is no mark (CKP-10).
    if vfs.file_len(&layout.unfinished_file())? == Some(0) {
        return Err(Error::Unfinished { dir: layout.root().into() });
    }
    if generations.is_empty() {
        claim::refuse_foreign(vfs, layout, None)?;
    }
    let segments = rebuild::headers(vfs, numbered_files(vfs, layout.log_dir(), &[FileKind::Segment])?);
    let snapshots = numbers(vfs, layout, FileKind::Snapshot)?;
    if generations.is_empty() && segments.is_empty() && snapshots.is_empty() {
        report.created = true;
        return Ok(Manifest::with_new_identity(vfs));
    }
    let reason = match report.rejected.last() {
        Some(rejected) => rejected.reason.clone(),
        None => "there is none".into(),
    };
    if policy != Policy::Salvage {
        let files = segments.len() + snapshots.len();
        return Err(Error::NoManifest { dir: layout.root().into(), files, reason, salvage: false });
    }
    // Nothing says where the log ended.
    report.data_loss = DataLoss::Possible;
    rebuild::manifest(vfs, layout, &segments, &snapshots, newest, report)?.ok_or_else(|| Error::NoManifest {
        dir: layout.root().into(),
        files: snapshots.len(),
        reason,
        salvage: true,
    })
}

/// What a manifest says counts only as far as a newer one that is damaged cannot have changed it.
fn go_by_older(vfs: &dyn Vfs, layout: &Layout, manifest: &mut Manifest) -> Result<()> {
    // The newer one may have given some up, and they are gone. CKP-11: or they are away, and nothing is deleted as if they were gone.
    for entry in std::mem::take(&mut manifest.snapshots) {
        let there = vfs.file_len(&layout.file(FileKind::Snapshot, entry.sequence))?;
        let takes_its_place =
            |newer: &SnapshotEntry| newer.sequence > entry.sequence && newer.lsn == entry.lsn;
        match there {
            Some(_) => manifest.snapshots.push(entry),
            None if manifest.away.iter().any(takes_its_place) => {}
            None => manifest.away.push(entry),
        }
    }
    // And it may name what this one gives up.
    manifest.gone.clear();
    // CKP-11: or have been the first that kept an archive.
    if manifest.kept.archive == 0 && has_archive(vfs, layout, manifest) {
        let Kept { archive, archive_level, .. } = Kept::EVERYTHING;
        manifest.kept = Kept { archive, archive_level, ..manifest.kept };
    }
    note_what_is_archived(vfs, layout, manifest)?;
    // REC-13: the first opening publishes a manifest before the log has a segment, and one after. There is none in between.
    if manifest.incarnation > 0 {
        manifest.next_segment = manifest.next_segment.max(2);
    }
    Ok(())
}

/// CKP-11: a snapshot that was about to be written when the manifest was, and that is whole: a newer manifest may have named it, which is gone or
/// damaged, and then the log that it covers is gone, too. It is taken for one that was away. What it holds was durable before its number was reserved.
fn take_up_reserved(vfs: &dyn Vfs, layout: &Layout, manifest: &mut Manifest) -> Result<()> {
    for reserved in std::mem::take(&mut manifest.gone) {
        let path = layout.file(FileKind::Snapshot, reserved.sequence);
        let look = || -> ecsdb_snapshot::Result<Option<SnapshotEntry>> {
            let snapshot = Snapshot::open(vfs, &path)?;
            let entry = Candidate::of(&snapshot, reserved.sequence).own(manifest.database);
            let entry = entry.filter(|entry| entry.salt == reserved.salt);
            match entry.map_or(Ok(()), |_| snapshot.verify_own()) {
                Err(e) if !is_of_the_medium(&e) => Err(e),
                _ => Ok(entry),
            }
        };
        match if reserved.is_reserved() { look() } else { Ok(None) } {
            Ok(Some(entry)) => manifest.away.push(entry),
            // What is not given for once may be whole: nobody gives it up.
            Err(e) if is_of_the_medium(&e) => {}
            Err(e) if !e.is_of_the_file() => return Err(e.into()),
            _ => manifest.gone.push(reserved),
        }
    }
    Ok(())
}

/// CKP-11: a snapshot that was away, and is where it should be, is live.
///
/// # Errors
/// When a file operation fails.
pub fn bring_back(vfs: &dyn Vfs, layout: &Layout, manifest: &mut Manifest) -> Result<()> {
    for entry in std::mem::take(&mut manifest.away) {
        let path = layout.file(FileKind::Snapshot, entry.sequence);
        let look = || {
            let snapshot = Snapshot::open(vfs, &path)?;
            snapshot.expect(manifest.database, &entry)?;
            snapshot.check_files(vfs)
        };
        match look() {
            Ok(()) => manifest.snapshots.push(entry),
            // What is another's, or of a newer format, is not it.
            Err(e) if e.is_of_the_file() => manifest.away.push(entry),
            Err(e) => return Err(e.into()),
        }
    }
    manifest.snapshots.sort_by_key(|entry| entry.sequence);
    Ok(())
}

/// A snapshot file, as far as it is needed to find out whose it is.
pub(crate) struct Candidate {
    pub(crate) database: u128,
    entry: SnapshotEntry,
    /// By its name.
    number: u64,
}

impl Candidate {
    pub(crate) fn of(snapshot: &Snapshot, number: u64) -> Candidate {
        let header = snapshot.header();
        let entry = SnapshotEntry::new(header, snapshot.directory(), snapshot.bytes());
        Candidate { database: header.database, entry, number }
    }

    /// Its entry, if it is this database's, and the file is the one of its number.
    pub(crate) fn own(self, database: u128) -> Option<SnapshotEntry> {
        let is_own = (self.database, self.entry.sequence) == (database, self.number);
        is_own.then_some(self.entry)
    }
}

/// Whole snapshots of this database that the manifest does not know of, since they have a number or a transaction beyond all that it knows, the
/// newest last: it is older than they are. What it says to have been given up is none of them. O(snapshots).
pub(crate) fn newer_snapshots(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<SnapshotEntry>> {
    let mut newer: Vec<SnapshotEntry> = Vec::new();
    let known = manifest.durable_lsn.max(manifest.seen_lsn);
    let mut last = manifest.snapshots.last().map_or(0, |entry| entry.lsn);
    for number in numbers(vfs, layout, FileKind::Snapshot)? {
        let look = || -> ecsdb_snapshot::Result<Option<SnapshotEntry>> {
            let snapshot = Snapshot::open(vfs, &layout.file(FileKind::Snapshot, number))?;
            let is_known = manifest.uses(number) || manifest.has_given_up(number, snapshot.header().salt);
            let Some(entry) = Candidate::of(&snapshot, number).own(manifest.database).filter(|_| !is_known)
            else {
                return Ok(None);
            };
            snapshot.check_files(vfs)?;
            Ok(Some(entry))
        };
        match look() {
            Ok(Some(entry))
                if entry.lsn >= last && (number >= manifest.next_snapshot || entry.lsn > known) =>
            {
                last = entry.lsn;
                newer.push(entry);
            }
            Ok(_) => {}
            Err(e) if e.is_of_the_file() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(newer)
}

/// The numbers of the files of a kind, ascending.
pub(crate) fn numbers(vfs: &dyn Vfs, layout: &Layout, kind: FileKind) -> Result<Vec<u64>, IoError> {
    let files = numbered_files(vfs, layout.dir_of(kind), &[kind])?;
    Ok(files.into_iter().map(|file| file.number).collect())
}

/// A snapshot of this database that `manifest` does not know of, and that goes beyond all that was ever `seen`, in words. What a snapshot
/// holds was durable in the log before it was written: log and manifest are from before (REC-13). O(snapshots not known of).
pub(crate) fn beyond(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    seen: Lsn,
) -> Result<Option<String>> {
    if manifest.salvage != 0 {
        // It is what is being set aside.
        return Ok(None);
    }
    let seen = seen.0.max(manifest.durable_lsn).max(manifest.seen_lsn);
    for number in numbers(vfs, layout, FileKind::Snapshot)? {
        if manifest.uses(number) {
            continue;
        }
        let path = layout.file(FileKind::Snapshot, number);
        match Snapshot::open(vfs, &path) {
            Ok(snapshot) => {
                let header = snapshot.header();
                if header.database == manifest.database && header.lsn > seen {
                    let (path, lsn) = (path.display(), header.lsn);
                    return Ok(Some(format!(
                        "the log ends before LSN {lsn}, which {path} was written after"
                    )));
                }
            }
            Err(e) if e.is_of_the_file() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}

/// What a salvage that is not at its end has given up: the manifest goes on to say it until then (REC-5, REC-17).
pub(crate) fn given_up(manifest: &Manifest) -> Option<Lost> {
    let first = Lsn(manifest.durable_lsn).next();
    let why = format!("the salvage that opening {} began goes on with what was before", manifest.salvage);
    let last = (manifest.seen_lsn > first.0).then_some(Lsn(manifest.seen_lsn));
    (manifest.salvage != 0).then_some(Lost { first, last, why })
}

/// Up to where the log counts that a salvage is giving up, if `covered`, what a snapshot holds, is of before: its segments are those of the
/// salvage's attempts, too, and say nothing.
pub(crate) fn given_up_after(manifest: &Manifest, covered: Lsn) -> Option<Lsn> {
    (manifest.salvage != 0 && covered.0 <= manifest.durable_lsn).then_some(Lsn(manifest.durable_lsn))
}

/// What a manifest knows of a log, of which a snapshot holds everything up to `covered`: that is not lost, wherever the log ends.
pub(crate) fn known(manifest: &Manifest, covered: Lsn) -> Known {
    let durable = if manifest.durable_lsn > covered.0 { Lsn(manifest.durable_lsn) } else { Lsn::ZERO };
    if given_up_after(manifest, covered).is_some() {
        return Known { after: covered, durable, ..Known::default() };
    }
    Known {
        after: covered,
        durable,
        next_segment: manifest.next_segment,
        incarnation: manifest.incarnation,
        mark: manifest.log_mark,
        // A salvage says until its end what it has given up.
        marked_at: Lsn(if manifest.salvage == 0 { manifest.durable_lsn } else { u64::MAX }),
    }
}

/// What is wrong with a log that ends before what is known to have been in it, if a snapshot holds all of that: nothing is known to be lost, and
/// nothing tells that nothing is (REC-2).
pub(crate) fn ends_short(manifest: &Manifest, scan: &LogScan, covered: Lsn) -> Option<String> {
    let durable = covered.max(Lsn(manifest.durable_lsn));
    let last = scan.segments.last().filter(|_| scan.last_lsn < durable)?;
    if matches!(scan.tail, Tail::Corrupt { .. }) || given_up_after(manifest, covered).is_some() {
        return None;
    }
    Some(format!(
        "{} ends with LSN {}, and LSN {durable} was in it: a snapshot holds that, but what came after it, if anything did, is lost",
        last.path.display(),
        scan.last_lsn
    ))
}

/// Why a log does not lead on from what a snapshot holds, if it is one of its own files that is missed: `first` is the first segment that there is.
pub(crate) fn missed_before(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    first: &SegmentHeader,
) -> Option<String> {
    let number = first.previous.segment;
    let missed = match number {
        0 => return None,
        _ if number >= manifest.first_segment => layout.file(FileKind::Segment, number),
        _ if manifest.is_archived(number) => archived_file(layout, manifest, number),
        _ => return None,
    };
    let there = segment_files(vfs, &listable_dirs(vfs, layout, manifest)).unwrap_or_default();
    Some(match there.into_iter().find(|file| file.number == number) {
        Some(file) => format!("the segment {} has no header that is whole", file.path.display()),
        None => format!("the segment {} is not there", missed.display()),
    })
}

/// CKP-11: where there is an archive, a newer manifest may have let the log go that is before what there is of it: that is archived, wherever the archive is now.
fn note_what_is_archived(vfs: &dyn Vfs, layout: &Layout, manifest: &mut Manifest) -> Result<()> {
    if manifest.kept.archive == 0 {
        return Ok(());
    }
    let [log, _] = log_dirs(layout, manifest);
    for file in segment_files(vfs, &[log])? {
        if let Some(first) = SegmentHead::of(vfs, &file, log.database)?.own() {
            manifest.note_archived(first.sequence);
            break;
        }
    }
    Ok(())
}

/// Whether a segment lies in the archive that the log had not given up yet. REC-14: one that cannot be looked at stops nothing.
fn has_archive(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> bool {
    let kinds = [FileKind::ArchivedSegment, FileKind::CompressedSegment];
    let files = numbered_files(vfs, layout.archive_dir(), &kinds).unwrap_or_default();
    let is_own = |file: &NumberedFile| {
        SegmentHead::of(vfs, file, manifest.database).is_ok_and(|head| head.own().is_some())
    };
    files.iter().any(|file| file.number >= manifest.first_segment && is_own(file))
}

/// What is missing between the newest snapshot and a log that begins with `first`, in words.
pub(crate) fn gap(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    first: Option<&SegmentHeader>,
) -> String {
    first.and_then(|first| missed_before(vfs, layout, manifest, first)).unwrap_or_else(|| {
        format!("The manifest names no newer snapshot in {}", layout.snapshot_dir().display())
    })
}

/// Why the archive's directory, which is there, cannot be listed, if that is so.
pub fn unlisted_archive(vfs: &dyn Vfs, layout: &Layout) -> Option<IoError> {
    numbered_files(vfs, layout.archive_dir(), &[FileKind::CompressedSegment]).err()
}

/// As [`log_dirs`], for whoever looks at the past. REC-14: an archive that cannot be listed is away, and what the log has needs none.
pub fn listable_dirs<'a>(vfs: &dyn Vfs, layout: &'a Layout, manifest: &Manifest) -> Vec<LogDir<'a>> {
    let [log, archive] = log_dirs(layout, manifest);
    match unlisted_archive(vfs, layout) {
        Some(_) => vec![log],
        None => vec![log, archive],
    }
}

/// Where the log's segments lie, the log's own directory first, and from where on they count.
pub fn log_dirs<'a>(layout: &'a Layout, manifest: &Manifest) -> [LogDir<'a>; 2] {
    let database = manifest.database;
    [
        LogDir {
            path: layout.log_dir(),
            first: manifest.first_segment,
            end: u64::MAX,
            database,
            archive: false,
        },
        LogDir {
            path: layout.archive_dir(),
            first: manifest.archived_from(),
            end: manifest.archive_end,
            database,
            archive: true,
        },
    ]
}
