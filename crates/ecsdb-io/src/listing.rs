//! The numbered files of a directory: the one way in which they are listed, so that everybody passes over the same strangers.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::layout::FileKind;
use crate::publish::TEMPORARY_SUFFIX;
use crate::vfs::{DirEntry, EntryKind, Vfs};

/// A file with a name of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedFile {
    /// Its number.
    pub number: u64,
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The files of these kinds in a directory, by number; none where there is no directory. What has the name of such a file and is
/// none (a directory, a link) is a stranger's (CKP-10).
///
/// # Errors
/// When the directory cannot be listed.
pub fn numbered_files(vfs: &dyn Vfs, dir: &Path, kinds: &[FileKind]) -> Result<Vec<NumberedFile>> {
    let mut files: Vec<NumberedFile> = entries(vfs, dir)?
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::File)
        .filter_map(|entry| {
            let number = kinds.iter().find_map(|kind| kind.parse(&entry.name))?;
            Some(NumberedFile { number, path: dir.join(&entry.name), bytes: entry.len })
        })
        .collect();
    files.sort_by_key(|file| file.number);
    Ok(files)
}

/// The first number that no name of this kind in the directory has, whatever it names, nor a higher one; 0 without any. A number under which
/// nothing could be published, since its temporary name is that of something else than a file, is not free, either.
///
/// # Errors
/// When the directory cannot be listed.
pub fn next_free_number(vfs: &dyn Vfs, dir: &Path, kind: FileKind) -> Result<u64> {
    let names = entries(vfs, dir)?;
    let taken = names.iter().filter_map(|entry| match entry.name.strip_suffix(TEMPORARY_SUFFIX) {
        Some(name) => kind.parse(name).filter(|_| entry.kind != EntryKind::File),
        None => kind.parse(&entry.name),
    });
    Ok(taken.max().map_or(0, |number| number + 1))
}

/// What is in a directory; nothing where there is none.
pub(crate) fn entries(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<DirEntry>> {
    match vfs.read_dir(dir) {
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        entries => entries,
    }
}
