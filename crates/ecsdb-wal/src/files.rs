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

/// The segments in `dirs`, by number. Of one that is in several, the copy in the earlier directory counts. A
/// directory that is not there has none.
///
/// # Errors
/// When a directory cannot be listed.
pub fn segment_files(vfs: &dyn Vfs, dirs: &[&Path]) -> Result<Vec<SegmentFile>> {
    let mut files: Vec<SegmentFile> = Vec::new();
    for dir in dirs {
        let entries = match vfs.read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e.into()),
        };
        for entry in entries {
            let number = [FileKind::Segment, FileKind::CompressedSegment]
                .into_iter()
                .find_map(|kind| kind.parse(&entry.name));
            if let Some(number) = number {
                files.push(SegmentFile { number, path: dir.join(&entry.name), bytes: entry.len });
            }
        }
    }
    // Stable, so that the earlier directory's copy comes first.
    files.sort_by_key(|file| file.number);
    files.dedup_by_key(|file| file.number);
    Ok(files)
}
