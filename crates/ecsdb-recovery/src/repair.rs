//! The one place that cuts and removes: what was never committed, after setting its bytes aside (REC-3), and what interrupted
//! operations left behind (CKP-4).

use std::path::{Path, PathBuf};

use ecsdb_io::{
    FileKind, IoError, Layout, NumberedFile, OpenMode, Vfs, VfsFile, create_dir_durably, numbered_files,
    publish,
};
use ecsdb_snapshot::{Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::{LogScan, SegmentReader, Tail};

use crate::claim::{self, Mark};
use crate::error::Result;
use crate::report::{RecoveryReport, Rejected};

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;
/// What a disk writes whole, or not at all.
const SECTOR_BYTES: u64 = 512;

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

/// Writes once more what the last segment does not say to have been durable, and syncs it: after a sync that failed, in a process that is gone,
/// the system takes these pages for clean, and another sync would prove nothing (REC-4, WAL-5). The bytes are those that are there, and the zeros
/// after the last record, where the file ends within them: a record is whole without, but whoever copies it takes them for bytes of the file.
pub(crate) fn rewrite_end(vfs: &dyn Vfs, layout: &Layout, scan: &LogScan) -> Result<()> {
    let Some(last) = scan.segments.last() else { return Ok(()) };
    let from = last.durable_to - last.durable_to % SECTOR_BYTES;
    if last.path.parent() != Some(layout.log_dir()) || from >= last.end.offset {
        return Ok(());
    }
    let file = vfs.open(&last.path, OpenMode::ReadWrite)?;
    copy_range(&*file, from..last.end.offset.min(last.bytes), &*file, from)?;
    if last.bytes < last.end.offset {
        file.set_len(last.end.offset)?;
    }
    file.sync_data()?;
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

fn is_blank(vfs: &dyn Vfs, path: &Path) -> Result<bool, IoError> {
    let look = || -> Result<bool, IoError> {
        let file = vfs.open(path, OpenMode::Read)?;
        Ok(!has_content(&*file, 0, file.len()?)?)
    };
    match look() {
        Err(e) if e.is_of_the_file() && !e.is_not_found() => Ok(false),
        looked => looked,
    }
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
    for entry in std::mem::take(&mut manifest.snapshots) {
        let path = layout.file(FileKind::Snapshot, entry.sequence);
        if entry.sequence > loaded {
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
    let superfluous = superfluous(vfs, layout, manifest)?;
    for file in &superfluous.garbage {
        match file.dispose(vfs, layout, manifest) {
            Ok(Some(target)) => report.set_aside.push(target),
            Ok(None) => report.removed.push(file.path.clone()),
            // REC-14: garbage in the archive can wait until it can be changed.
            Err(e) if file.path.parent() == Some(layout.archive_dir()) => {
                tracing::warn!(error = %e, "what was given up stays in the archive for now");
            }
            Err(e) => return Err(e),
        }
    }
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

/// A file that a manifest has no use for.
#[derive(Debug)]
pub struct Garbage {
    /// The file.
    pub path: PathBuf,
    /// Bytes of it.
    pub bytes: u64,
    kind: FileKind,
    given_up: bool,
}

impl Garbage {
    /// Removes it, if it was given up. Otherwise, and while a salvage is under way, sets it aside, and says where it lies then (REC-17, CKP-11).
    ///
    /// # Errors
    /// When a file operation fails. That somebody has removed it already is none.
    pub fn dispose(&self, vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<PathBuf>> {
        let disposed = match manifest.salvage {
            0 if self.given_up => vfs.remove(&self.path).map(|()| None),
            0 => {
                let target = move_aside(vfs, layout, &self.path)?;
                tracing::warn!(
                    path = %self.path.display(), target = %target.display(),
                    "a file that is not in use, though nobody had given it up, was set aside"
                );
                return Ok(Some(target));
            }
            salvage => {
                let aside = Layout::new(layout.salvage_dir(salvage));
                move_into(vfs, aside.dir_of(self.kind), &self.path).map(Some)
            }
        };
        match disposed {
            Err(e) if e.is_not_found() => Ok(None),
            disposed => Ok(disposed?),
        }
    }
}

/// The files that nothing needs once `manifest` is durable: what [`crate::recover`] removes or sets aside, and whoever published it. Only what says
/// itself that it is this database's, or is blank, is garbage; what has a name of ours and is another's, or cannot be read, is left alone
/// (CKP-10).
///
/// # Errors
/// When a directory cannot be listed.
pub fn superfluous(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Superfluous> {
    let Superfluous { mut garbage, mut unread } = Superfluous::default();
    use FileKind::{ArchivedSegment, CompressedSegment, Segment, Snapshot};
    let is_needed = |kind, number| match kind {
        Snapshot => manifest.uses(number),
        Segment => number >= manifest.first_segment,
        _ => number >= manifest.first_archived,
    };
    let given_up = |number, whose: &Whose| match whose {
        Whose::Snapshot(header) => manifest.has_given_up(number, header.salt),
        _ => number >= manifest.salvaged_segments,
    };
    for kind in [Snapshot, Segment, ArchivedSegment, CompressedSegment] {
        let dir = layout.dir_of(kind);
        let list = || -> Result<Vec<NumberedFile>> {
            if dir == layout.archive_dir() && claim::mark(vfs, layout, dir, manifest.database)? == Mark::Empty
            {
                return Ok(Vec::new());
            }
            Ok(numbered_files(vfs, dir, &[kind])?)
        };
        let files = match list() {
            Ok(files) => files,
            // REC-14: garbage in the archive can wait until there is one.
            Err(e) if dir == layout.archive_dir() => {
                tracing::warn!(error = %e, "the archive cannot be looked at");
                continue;
            }
            Err(e) => return Err(e),
        };
        for file in files.into_iter().filter(|file| !is_needed(kind, file.number)) {
            let whose = whose(vfs, kind, &file.path)?;
            let is_ours = match whose {
                Whose::Blank => true,
                // It may be a part of what a salvage sets aside.
                Whose::Unreadable => manifest.salvage != 0,
                _ => whose.database() == Some(manifest.database),
            };
            if is_ours {
                let NumberedFile { number, path, bytes } = file;
                garbage.push(Garbage { path, bytes, kind, given_up: given_up(number, &whose) });
                continue;
            }
            tracing::debug!(path = %file.path.display(), "a file that is not this database's is left alone");
            if kind == Snapshot && matches!(whose, Whose::Unreadable) {
                unread.push(file.number);
            }
        }
    }
    Ok(Superfluous { garbage, unread })
}

/// What a manifest has no use for.
#[derive(Debug, Default)]
pub struct Superfluous {
    /// The files that can go.
    pub garbage: Vec<Garbage>,
    /// Numbers of snapshot files that could not be read.
    unread: Vec<u64>,
}

impl Superfluous {
    /// Those of the snapshots given up of which a file stays, since it could not be read: it goes once it can be (CKP-11).
    pub fn still_gone(&self, manifest: &Manifest) -> Vec<SnapshotEntry> {
        // One that stands for all files there may be would give up what is yet to come.
        let is_there = |entry: &&SnapshotEntry| entry.base != 0 && self.unread.iter().any(|&n| entry.uses(n));
        manifest.gone.iter().filter(is_there).copied().collect()
    }
}

/// What a file says of whose it is.
pub(crate) enum Whose {
    /// It is a segment of the database with this identity.
    Database(u128),
    /// A snapshot.
    Snapshot(ecsdb_snapshot::Header),
    /// A segment that was prepared and never used.
    Blank,
    /// What it says is damaged.
    Unreadable,
}

impl Whose {
    pub(crate) fn database(&self) -> Option<u128> {
        match self {
            Whose::Database(database) => Some(*database),
            Whose::Snapshot(header) => Some(header.database),
            Whose::Blank | Whose::Unreadable => None,
        }
    }
}

pub(crate) fn whose(vfs: &dyn Vfs, kind: FileKind, path: &Path) -> Result<Whose> {
    match kind {
        FileKind::Snapshot => match Snapshot::open(vfs, path) {
            Ok(snapshot) => Ok(Whose::Snapshot(*snapshot.header())),
            Err(e) if e.is_of_the_file() => Ok(Whose::Unreadable),
            Err(e) => Err(e.into()),
        },
        _ => match SegmentReader::open(vfs, path) {
            Ok(Some(reader)) => Ok(Whose::Database(reader.header().database)),
            Ok(None) if is_blank(vfs, path)? => Ok(Whose::Blank),
            Ok(None) => Ok(Whose::Unreadable),
            Err(e) if e.is_of_the_file() => Ok(Whose::Unreadable),
            Err(e) => Err(e.into()),
        },
    }
}

/// Copies a file from `offset` on into the quarantine directory, unless it is all zeros. The same bytes are copied once, however often
/// recovery is started again.
pub(crate) fn set_aside(
    vfs: &dyn Vfs,
    layout: &Layout,
    path: &Path,
    offset: u64,
    report: &mut RecoveryReport,
) -> Result<()> {
    let name = format!("{}.from-{offset}", name_of(path));
    let from = vfs.open(path, OpenMode::Read)?;
    let Some(end) = end_of_content(&*from, offset, from.len()?)? else { return Ok(()) };
    let quarantine = layout.quarantine_dir();
    create_dir_durably(vfs, &quarantine)?;
    let target = free_name(vfs, &quarantine, &name, |there| is_copy(vfs, &*from, offset..end, there))?;
    // Nothing is cut on the word of a copy that may not be on stable storage.
    publish(vfs, &target, |to| copy_range(&*from, offset..end, &**to, 0))?;
    report.set_aside.push(target);
    Ok(())
}

/// Whether a file that was set aside is a copy of `range` of this one.
fn is_copy(
    vfs: &dyn Vfs,
    from: &dyn VfsFile,
    range: std::ops::Range<u64>,
    there: &Path,
) -> Result<bool, IoError> {
    let look = || -> Result<bool, IoError> {
        let there = vfs.open(there, OpenMode::Read)?;
        Ok(there.len()? == range.end - range.start && same_content(from, range.start, &*there)?)
    };
    match look() {
        // REC-14: what lies there is needed by nobody.
        Err(e) if e.path == there && (e.is_of_the_file() || e.is_denied()) => Ok(false),
        looked => looked,
    }
}

/// REC-17: a name in a directory of files that were set aside under which nothing lies, or that which `may_be` allows. Nothing is set aside but
/// under such a name.
fn free_name(
    vfs: &dyn Vfs,
    dir: &Path,
    name: &str,
    may_be: impl Fn(&Path) -> Result<bool, IoError>,
) -> Result<PathBuf, IoError> {
    let mut target = dir.join(name);
    // What lies there from another time stays; and what a file is, its name's end says.
    for n in 2.. {
        if vfs.file_len(&target)?.is_none() || may_be(&target)? {
            break;
        }
        target = dir.join(format!("{n}-{name}"));
    }
    Ok(target)
}

/// Moves a file into the quarantine directory, and says where it lies then: it need not be readable.
///
/// # Errors
/// When a file operation fails.
pub fn move_aside(vfs: &dyn Vfs, layout: &Layout, path: &Path) -> Result<PathBuf> {
    Ok(move_into(vfs, &layout.quarantine_dir(), path)?)
}

/// Copies the manifests into the directory of the salvage that begins: with what is moved there later, it is the database as it was.
pub(crate) fn keep_manifests(
    vfs: &dyn Vfs,
    layout: &Layout,
    salvage: u64,
    report: &mut RecoveryReport,
) -> Result<()> {
    let aside = Layout::new(layout.salvage_dir(salvage));
    create_dir_durably(vfs, aside.root())?;
    for file in numbered_files(vfs, layout.root(), &[FileKind::Manifest])? {
        let from = match vfs.open(&file.path, OpenMode::Read) {
            Ok(from) => from,
            // It was of no use before, either.
            Err(e) if e.is_of_the_file() => continue,
            Err(e) => return Err(e.into()),
        };
        let end = from.len()?;
        let is_it = |there: &Path| is_copy(vfs, &*from, 0..end, there);
        let copied = free_name(vfs, aside.root(), &name_of(&file.path), is_it)
            .and_then(|target| publish(vfs, &target, |to| copy_range(&*from, 0..end, &**to, 0)));
        match copied {
            Err(e) if e.is_of_the_file() => {}
            copied => drop(copied?),
        }
    }
    report.set_aside.push(aside.root().into());
    Ok(())
}

/// Moves a file into a directory, under a name that is free there, durably, into another file system, too. What the medium does not give, so that
/// it can be moved to no other one, is put beside its place, under a name that means nothing to anybody.
fn move_into(vfs: &dyn Vfs, dir: &Path, from: &Path) -> Result<PathBuf, IoError> {
    create_dir_durably(vfs, dir)?;
    let here = from.parent().unwrap_or(dir);
    let mut to = free_name(vfs, dir, &name_of(from), |_| Ok(false))?;
    match vfs.rename(from, &to) {
        Err(e) if e.cause.kind() == std::io::ErrorKind::CrossesDevices => match copy_whole(vfs, from, &to) {
            Err(e) if e.is_of_the_medium() && e.path == from => {
                to = free_name(vfs, here, &format!("{}.aside", name_of(from)), |_| Ok(false))?;
                vfs.rename(from, &to)?;
            }
            copied => {
                copied?;
                vfs.remove(from)?;
            }
        },
        renamed => renamed?,
    }
    vfs.sync_dir(dir)?;
    vfs.sync_dir(here)?;
    Ok(to)
}

fn copy_whole(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(), IoError> {
    let source = vfs.open(from, OpenMode::Read)?;
    let end = source.len()?;
    publish(vfs, to, |to| copy_range(&*source, 0..end, &**to, 0)).map(drop)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned())
}

fn has_content(file: &dyn VfsFile, from: u64, end: u64) -> Result<bool, IoError> {
    let mut buffer = vec![0; COPY_BYTES];
    for at in (from..end).step_by(COPY_BYTES) {
        let bytes = &mut buffer[..(end - at).min(COPY_BYTES as u64) as usize];
        file.read_exact_at(bytes, at)?;
        if ecsdb_io::first_nonzero(bytes).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where what is not zero ends, between two places of a file.
fn end_of_content(file: &dyn VfsFile, from: u64, end: u64) -> Result<Option<u64>, IoError> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut found = None;
    for at in (from..end).step_by(COPY_BYTES) {
        let bytes = &mut buffer[..(end - at).min(COPY_BYTES as u64) as usize];
        file.read_exact_at(bytes, at)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            found = Some(at + last as u64 + 1);
        }
    }
    Ok(found)
}

/// Whether a file from `offset` on begins with what the whole of `other` is.
fn same_content(file: &dyn VfsFile, offset: u64, other: &dyn VfsFile) -> Result<bool, IoError> {
    let len = other.len()?;
    let (mut one, mut two) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    for at in (0..len).step_by(COPY_BYTES) {
        let n = (len - at).min(COPY_BYTES as u64) as usize;
        file.read_exact_at(&mut one[..n], offset + at)?;
        other.read_exact_at(&mut two[..n], at)?;
        if one[..n] != two[..n] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies `range` of a file to where `to_at` is in another one, or in the same.
fn copy_range(
    from: &dyn VfsFile,
    range: std::ops::Range<u64>,
    to: &dyn VfsFile,
    to_at: u64,
) -> Result<(), IoError> {
    let mut buffer = vec![0; COPY_BYTES.min((range.end - range.start) as usize)];
    for at in range.clone().step_by(COPY_BYTES) {
        let bytes = &mut buffer[..(range.end - at).min(COPY_BYTES as u64) as usize];
        from.read_exact_at(bytes, at)?;
        to.write_at(bytes, to_at + (at - range.start))?;
    }
    Ok(())
}
