//! The one place that cuts and removes: what was never committed, after setting its bytes aside (REC-3), and what interrupted
//! operations left behind (CKP-4).

use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, IoError, Layout, OpenMode, Vfs, publish};
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
        if vfs.file_len(dir)?.is_none() {
            continue;
        }
        let removed = ecsdb_io::remove_temporaries(vfs, dir)?;
        report.removed.extend(removed.into_iter().map(|name| dir.join(name)));
    }
    Ok(())
}

/// Cuts a torn tail.
pub(crate) fn cut_tail(
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
            let file = vfs.open(&damage.path, OpenMode::ReadWrite)?;
            file.set_len(damage.offset)?;
            file.sync_data()?;
        }
    } else if let (Tail::Clean, Some(last)) = (&scan.tail, scan.segments.last())
        && last.bytes > last.end.offset
    {
        // Nothing but preallocated zeros.
        let file = vfs.open(&last.path, OpenMode::ReadWrite)?;
        file.set_len(last.end.offset)?;
        file.sync_data()?;
    }
    Ok(())
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
        vfs.remove(path)?;
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
        let numbers = numbers(vfs, layout, kind)?;
        garbage.extend(numbers.into_iter().filter(|&n| !is_needed(n)).map(|n| layout.file(kind, n)));
    }
    Ok(garbage)
}

/// Copies a file from `offset` on into the quarantine directory, unless it is all zeros. The same bytes are copied once, however
/// often recovery is started again.
pub(crate) fn set_aside(
    vfs: &dyn Vfs,
    layout: &Layout,
    path: &Path,
    offset: u64,
    report: &mut RecoveryReport,
) -> Result<()> {
    let from = vfs.open(path, OpenMode::Read)?;
    let end = from.len()?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut chunk = |at: u64| -> Result<Vec<u8>, IoError> {
        let n = (end - at).min(COPY_BYTES as u64) as usize;
        from.read_exact_at(&mut buffer[..n], at)?;
        Ok(buffer[..n].to_vec())
    };
    let mut at = offset;
    while at < end {
        let bytes = chunk(at)?;
        if bytes.iter().any(|&byte| byte != 0) {
            break;
        }
        at += bytes.len() as u64;
    }
    if at >= end {
        return Ok(());
    }
    let dir = layout.quarantine_dir();
    vfs.create_dir_all(&dir)?;
    vfs.sync_dir(layout.root())?;
    let name = path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy());
    let target: PathBuf = dir.join(format!("{name}.from-{offset}"));
    if vfs.file_len(&target)?.is_none() {
        publish(vfs, &target, |to| {
            let mut at = offset;
            while at < end {
                let bytes = chunk(at)?;
                to.write_at(&bytes, at - offset)?;
                at += bytes.len() as u64;
            }
            Ok::<(), IoError>(())
        })?;
    }
    report.set_aside.push(target);
    Ok(())
}
