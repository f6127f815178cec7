//! The segment files of a log, wherever they lie: live ones, and archived ones with and without compression.

use std::path::Path;

use ecsdb_io::{FileKind, NumberedFile, Vfs, numbered_files};

use crate::error::Result;

/// A directory with segments, and the first that counts there: what is below was given up by a published manifest, and a deletion that
/// was not synced can bring it back with another file's bytes in it. Nobody reads it (CKP-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogDir<'a> {
    /// The directory.
    pub path: &'a Path,
    /// The number of the first segment that counts.
    pub first: u64,
}

impl<'a> From<&'a Path> for LogDir<'a> {
    /// All segments count.
    fn from(path: &'a Path) -> Self {
        LogDir { path, first: 0 }
    }
}

/// The segments in `dirs` that count, by number. Of one that is in several, the copy in the earlier directory is given. A
/// directory that is not there has none.
///
/// # Errors
/// When a directory cannot be listed.
pub fn segment_files(vfs: &dyn Vfs, dirs: &[LogDir<'_>]) -> Result<Vec<NumberedFile>> {
    let mut files: Vec<NumberedFile> = Vec::new();
    for dir in dirs {
        let there = numbered_files(vfs, dir.path, &[FileKind::Segment, FileKind::CompressedSegment])?;
        files.extend(there.into_iter().filter(|file| file.number >= dir.first));
    }
    // Stable, so that the earlier directory's copy comes first.
    files.sort_by_key(|file| file.number);
    files.dedup_by_key(|file| file.number);
    Ok(files)
}
