//! The one place that cuts and removes: what was never committed, after setting its bytes aside (REC-3), and what interrupted
//! operations left behind (CKP-4).

use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, Layout, OpenMode, Vfs, numbered_files};
use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::{LogScan, Tail};

use crate::aside::{move_aside, set_aside};
use crate::error::Result;
use crate::report::{RecoveryReport, Rejected};
use crate::superfluous::{is_blank, superfluous};

/// Removes what is certainly of no use: temporary files of interrupted publishes.
pub(crate) fn remove_temporaries(vfs: &dyn Vfs, layout: &Layout, report: &mut RecoveryReport) -> Result<()> {
    for kind in [FileKind::Manifest, FileKind::Segment, FileKind::Snapshot] {
        report.removed.extend(ecsdb_io::remove_temporaries(vfs, layout.dir_of(kind), &[kind])?);
    }
    Ok(())
}

/// Copies what is behind the last whole transaction aside, before it is cut.
pub(crate) fn set_tail_aside(
    vfs: &dyn Vfs,
    layout: &Layout,
    scan: &LogScan,
    report: &mut RecoveryReport,
) -> Result<()> {
    if let Tail::Torn { damage, bytes, incomplete } = &scan.tail {
        let more = report.tail.take().map_or_else(String::new, |more| format!("; {more}"));
        report.tail = Some(format!("{damage}{more}"));
        report.cut_bytes = *bytes;
        report.rolled_back = *incomplete;
        if damage.offset > 0 {
            set_aside(vfs, layout, &damage.path, damage.offset, report)?;
        }
    }
    Ok(())
}

/// [Writes once more](ecsdb_wal::ScannedSegment::rewrite_end) what may be with the operating system alone, but of a copy in the archive, which was synced.
pub(crate) fn rewrite_end(vfs: &dyn Vfs, layout: &Layout, scan: &LogScan) -> Result<()> {
    match scan.segments.last() {
        Some(last) if is_of_log(layout, &last.path) => Ok(last.rewrite_end(vfs)?),
        _ => Ok(()),
    }
}

/// A segment that the log wrote where it is: neither a copy in the archive, nor one that was put back from there.
fn is_of_log(layout: &Layout, path: &Path) -> bool {
    path.parent() == Some(layout.log_dir()) && path.extension().is_some_and(|extension| extension == "seg")
}

/// Cuts a segment to its end. The next one is there by now, and says where that is: until then a file that is shorter than it was made
/// has lost something.
pub(crate) fn cut_to_end(vfs: &dyn Vfs, Cut { path, end }: &Cut) -> Result<()> {
    let file = vfs.open(path, OpenMode::ReadWrite)?;
    file.set_len(*end)?;
    file.sync_data()?;
    Ok(())
}

/// What is to be cut: preallocated zeros, and what [`set_tail_aside`] has copied.
#[derive(Debug)]
pub(crate) struct Cut {
    path: PathBuf,
    end: u64,
}

/// The last segment, if it is longer than what counts of it, and not in the archive.
pub(crate) fn cut(layout: &Layout, scan: &LogScan) -> Option<Cut> {
    let last = scan.segments.last().filter(|last| last.bytes > last.end.offset)?;
    is_of_log(layout, &last.path).then(|| Cut { path: last.path.clone(), end: last.end.offset })
}

/// Removes segments that hold nothing that counts: without a header they would be in the way of every opening to come.
pub(crate) fn remove_unused(
    vfs: &dyn Vfs,
    layout: &Layout,
    unused: &[PathBuf],
    report: &mut RecoveryReport,
) -> Result<()> {
    for path in unused {
        if is_blank(vfs, path)? {
            vfs.remove(path)?;
            report.removed.push(path.clone());
        } else {
            // Its header is torn or damaged.
            report.set_aside.push(move_aside(vfs, layout, path)?);
        }
    }
    vfs.sync_dir(layout.log_dir())?;
    Ok(())
}

/// Takes the snapshots off the list that are nothing to fall back to, nor to share blocks with (REC-8, CKP-3): those that did not load, and
/// those that are not there. What is away may come back (CKP-11); the files of what is damaged are given, to be set aside once the list
/// without them is published (REC-5). Nothing is changed but the two values, so that a dry run can ask, too.
///
/// # Errors
/// When a file operation fails.
pub fn take_off_the_list(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &mut Manifest,
    report: &mut RecoveryReport,
) -> Result<Vec<PathBuf>> {
    let loaded = report.snapshot.map_or(0, |loaded| loaded.sequence);
    let mut damaged = Vec::new();
    let mut is_newer = true;
    for entry in std::mem::take(&mut manifest.snapshots).into_iter().rev() {
        let path = layout.file(FileKind::Snapshot, entry.sequence);
        is_newer &= entry.sequence != loaded;
        // One that has a higher number than what is newer than it is of another life: nothing leads on from there.
        let next = manifest.snapshots.last().map_or(u64::MAX, |next| next.sequence);
        if is_newer || entry.sequence >= next {
            let away = report.rejected.iter().any(|rejected| rejected.away && rejected.path == path);
            if away { &mut manifest.away } else { &mut damaged }.push(entry);
        } else if vfs.file_len(&path)?.is_none() {
            let reason = "it is not there".into();
            report.rejected.push(Rejected { path, reason, away: true });
            manifest.away.push(entry);
        } else {
            manifest.snapshots.push(entry);
        }
    }
    manifest.snapshots.reverse();
    manifest.away.sort_by_key(|entry| entry.sequence);
    if manifest.salvage != 0 {
        // Everything that was there before is set aside, and what comes back later, too.
        manifest.away.clear();
        return Ok(Vec::new());
    }
    let mut files = numbered_files(vfs, layout.snapshot_dir(), &[FileKind::Snapshot])?;
    // A manifest that did not say what was given up: from here on it is said, and what is damaged is not among it.
    if manifest.gone.iter().any(|entry| entry.sequence == u64::MAX) {
        let all = files.iter().map(|file| SnapshotEntry::files(file.number, file.number));
        manifest.gone = all.filter(|one| !damaged.iter().any(|entry| entry.uses(one.sequence))).collect();
    }
    files.retain(|file| damaged.iter().any(|entry| entry.uses(file.number)) && !manifest.uses(file.number));
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// Removes what the manifest has given up, and sets aside what it does not know (CKP-4).
pub(crate) fn remove_orphans(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &mut Manifest,
    report: &mut RecoveryReport,
) -> Result<()> {
    let mut superfluous = superfluous(vfs, layout, manifest)?;
    superfluous.dispose(vfs, layout, manifest, |file, disposed| {
        match disposed {
            Ok(Some(target)) => report.set_aside.push(target),
            Ok(None) => report.removed.push(file.path.clone()),
            // REC-14: garbage in the archive can wait until it can be changed.
            Err(e) if file.path.parent() == Some(layout.archive_dir()) => {
                tracing::warn!(error = %e, "what was given up stays in the archive for now");
            }
            Err(e) => return Err(e),
        }
        Ok(())
    })?;
    manifest.gone = superfluous.still_gone(manifest);
    Ok(())
}

/// Sets the manifests aside that are damaged: an opening has passed over them.
pub(crate) fn set_manifests_aside(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    report: &mut RecoveryReport,
) -> Result<()> {
    // Publishing leaves alone what it cannot read. CKP-11: what the medium does not give is not damaged for that.
    for generation in Manifest::generations(vfs, layout)? {
        let path = layout.file(FileKind::Manifest, generation);
        let is_damaged = || Manifest::read(vfs, &path).is_err_and(|e| e.is_damage() && !e.is_away());
        if generation < manifest.generation && is_damaged() {
            report.set_aside.push(move_aside(vfs, layout, &path)?);
        }
    }
    Ok(())
}
