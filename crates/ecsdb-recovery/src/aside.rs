//! Set aside: a file, or bytes of one, that may be good for something one day is kept before it is cut or makes room (REC-3, REC-17).

use std::path::{Path, PathBuf};

use ecsdb_io::{
    FileKind, IoError, Layout, OpenMode, Vfs, VfsFile, create_dir_durably, numbered_files, replace,
};

use crate::error::Result;
use crate::report::RecoveryReport;

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;
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
    replace(vfs, &target, |to| copy_range(&*from, offset..end, &**to, 0))?;
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

/// The number of a salvage that begins, from `from` on: not one under which files have been set aside already, in another life of the database, say. They
/// would be mixed up, and none of the two could be put back (REC-17).
pub(crate) fn free_salvage(vfs: &dyn Vfs, layout: &Layout, from: u64) -> Result<u64> {
    let mut number = from;
    loop {
        let aside = Layout::new(layout.salvage_dir(number));
        let mut is_taken = false;
        for dir in [aside.log_dir(), aside.snapshot_dir(), aside.archive_dir()] {
            match vfs.read_dir(dir) {
                Ok(there) => is_taken |= !there.is_empty(),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        if !is_taken {
            return Ok(number);
        }
        number += 1;
    }
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
            .and_then(|target| replace(vfs, &target, |to| copy_range(&*from, 0..end, &**to, 0)));
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
pub(crate) fn move_into(vfs: &dyn Vfs, dir: &Path, from: &Path) -> Result<PathBuf, IoError> {
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
    replace(vfs, to, |to| copy_range(&*source, 0..end, &**to, 0)).map(drop)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned())
}

pub(crate) fn has_content(file: &dyn VfsFile, from: u64, end: u64) -> Result<bool, IoError> {
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
pub(crate) fn copy_range(
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
