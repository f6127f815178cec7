//! The one place that cuts and removes: what was never committed, after setting its bytes aside (REC-3), and what interrupted
//! operations left behind (CKP-4).

use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, IoError, Layout, OpenMode, Vfs, VfsFile, publish};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, Tail};

use crate::error::Result;
use crate::find::numbers;
use crate::report::RecoveryReport;

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Removes what is certainly of no use: temporary files of interrupted publishes.
pub(crate) fn remove_temporaries(vfs: &dyn Vfs, layout: &Layout, report: &mut RecoveryReport) -> Result<()> {
    for dir in [layout.root(), layout.log_dir(), layout.snapshot_dir(), layout.archive_dir()] {
        match ecsdb_io::remove_temporaries(vfs, dir) {
            Ok(removed) => report.removed.extend(removed.into_iter().map(|name| dir.join(name))),
            Err(e) if e.is_not_found() => {}
            // REC-14: what is left there can wait until the archive is needed.
            Err(e) if dir == layout.archive_dir() => {
                tracing::warn!(error = %e, "the archive cannot be looked at");
            }
            Err(e) => return Err(e.into()),
        }
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
        report.tail = Some(damage.to_string());
        report.cut_bytes = *bytes;
        report.rolled_back = *incomplete;
        if damage.offset > 0 {
            set_aside(vfs, layout, &damage.path, damage.offset, report)?;
        }
    }
    Ok(())
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
    (last.path.parent() == Some(layout.log_dir()))
        .then(|| Cut { path: last.path.clone(), end: last.end.offset })
}

/// Removes segments that hold nothing that counts: without a header they would be in the way of every opening to come.
pub(crate) fn remove_unused(
    vfs: &dyn Vfs,
    layout: &Layout,
    unused: &[PathBuf],
    report: &mut RecoveryReport,
) -> Result<()> {
    for path in unused {
        // A blank file holds nothing; one whose header is torn or damaged is set aside first.
        set_aside(vfs, layout, path, 0, report)?;
        match vfs.remove(path) {
            // It was moved, since it cannot be read.
            Err(e) if e.is_not_found() => continue,
            removed => removed?,
        }
        report.removed.push(path.clone());
    }
    vfs.sync_dir(layout.log_dir())?;
    Ok(())
}

/// Removes what the manifest does not need: snapshot files whose publication was never completed, or whose removal was not;
/// log segments that were archived or dropped, and archived ones that were dropped (CKP-4).
pub(crate) fn remove_orphans(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    report: &mut RecoveryReport,
) -> Result<()> {
    for path in garbage(vfs, layout, manifest)? {
        vfs.remove(&path)?;
        report.removed.push(path);
    }
    Ok(())
}

/// The files that nothing needs once `manifest` is durable: what [`crate::recover`] removes, and whoever published it.
///
/// # Errors
/// When a directory cannot be listed.
pub fn garbage(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let mut garbage = Vec::new();
    let needed: [(FileKind, &dyn Fn(u64) -> bool); 4] = [
        (FileKind::Snapshot, &|number| manifest.uses(number)),
        (FileKind::Segment, &|number| number >= manifest.first_segment),
        (FileKind::ArchivedSegment, &|number| number >= manifest.first_archived),
        (FileKind::CompressedSegment, &|number| number >= manifest.first_archived),
    ];
    for (kind, is_needed) in needed {
        let numbers = match numbers(vfs, layout, kind) {
            Ok(numbers) => numbers,
            // REC-14: garbage in the archive can wait until there is one.
            Err(e) if layout.dir_of(kind) == layout.archive_dir() => {
                tracing::warn!(error = %e, "the archive cannot be looked at");
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        garbage.extend(numbers.into_iter().filter(|&n| !is_needed(n)).map(|n| layout.file(kind, n)));
    }
    Ok(garbage)
}

/// Copies a file from `offset` on into the quarantine directory, unless it is all zeros; one that cannot be read is moved there. The same
/// bytes are copied once, however often recovery is started again.
pub(crate) fn set_aside(
    vfs: &dyn Vfs,
    layout: &Layout,
    path: &Path,
    offset: u64,
    report: &mut RecoveryReport,
) -> Result<()> {
    let dir = layout.quarantine_dir();
    let name = path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy());
    let target: PathBuf = dir.join(format!("{name}.from-{offset}"));
    let make_dir = || -> Result<(), IoError> {
        vfs.create_dir_all(&dir)?;
        vfs.sync_dir(layout.root())
    };
    let copy = || -> Result<bool, IoError> {
        let from = vfs.open(path, OpenMode::Read)?;
        let end = from.len()?;
        if !has_content(&*from, offset, end)? {
            return Ok(false);
        }
        make_dir()?;
        if vfs.file_len(&target)?.is_none() {
            publish(vfs, &target, |to| copy_range(&*from, offset..end, &**to))?;
        }
        Ok(true)
    };
    match copy() {
        Ok(true) => report.set_aside.push(target),
        Ok(false) => {}
        // Somebody has moved it there already: this opening's last try.
        Err(e) if e.is_not_found() && vfs.file_len(&target)?.is_some() => report.set_aside.push(target),
        Err(e) if offset == 0 && e.is_of_the_file() && !e.is_not_found() => {
            make_dir()?;
            vfs.rename(path, &target)?;
            vfs.sync_dir(&dir)?;
            report.set_aside.push(target);
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn has_content(file: &dyn VfsFile, from: u64, end: u64) -> Result<bool, IoError> {
    let mut buffer = vec![0; COPY_BYTES];
    for at in (from..end).step_by(COPY_BYTES) {
        let bytes = &mut buffer[..(end - at).min(COPY_BYTES as u64) as usize];
        file.read_exact_at(bytes, at)?;
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy_range(from: &dyn VfsFile, range: std::ops::Range<u64>, to: &dyn VfsFile) -> Result<(), IoError> {
    let mut buffer = vec![0; COPY_BYTES];
    for at in range.clone().step_by(COPY_BYTES) {
        let bytes = &mut buffer[..(range.end - at).min(COPY_BYTES as u64) as usize];
        from.read_exact_at(bytes, at)?;
        to.write_at(bytes, at - range.start)?;
    }
    Ok(())
}
