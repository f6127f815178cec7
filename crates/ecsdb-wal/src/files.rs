//! The segment files of a log, wherever they lie: live ones, and archived ones with and without compression.

use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, Vfs};

use crate::error::Result;

/// A segment's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// The segment's number.
    pub number: u64,
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
}

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
pub fn segment_files(vfs: &dyn Vfs, dirs: &[LogDir<'_>]) -> Result<Vec<SegmentFile>> {
    let mut files: Vec<SegmentFile> = Vec::new();
    for dir in dirs {
        let entries = match vfs.read_dir(dir.path) {
            Ok(entries) => entries,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e.into()),
        };
        // A directory with the name of a segment is none of ours.
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let number = [FileKind::Segment, FileKind::CompressedSegment]
                .into_iter()
                .find_map(|kind| kind.parse(&entry.name))
                .filter(|&number| number >= dir.first);
            if let Some(number) = number {
                files.push(SegmentFile { number, path: dir.path.join(&entry.name), bytes: entry.len });
            }
        }
    }
    // Stable, so that the earlier directory's copy comes first.
    files.sort_by_key(|file| file.number);
    files.dedup_by_key(|file| file.number);
    Ok(files)
}
