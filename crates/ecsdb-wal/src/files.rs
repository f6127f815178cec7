//! The segment files of a log, wherever they lie: live ones, and archived ones with and without compression.

use std::path::Path;

use ecsdb_io::{FileKind, NumberedFile, Vfs, numbered_files};

use crate::error::Result;
use crate::format::SegmentHeader;
use crate::reader::SegmentReader;

/// A directory with segments, and the first that counts there: what is below was given up by a published manifest, and a deletion that
/// was not synced can bring it back with another file's bytes in it. Nobody reads it (CKP-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogDir<'a> {
    /// The directory.
    pub path: &'a Path,
    /// The number of the first segment that counts.
    pub first: u64,
    /// Whose log it is; 0 for anybody's.
    pub database: u128,
    /// It is an archive: only what comes before the last segment of the log itself counts there. What comes after was archived by a
    /// database that this one is a copy of, or the other way round.
    pub archive: bool,
}

impl<'a> From<&'a Path> for LogDir<'a> {
    /// All segments count, whosever they are.
    fn from(path: &'a Path) -> Self {
        LogDir { path, first: 0, database: 0, archive: false }
    }
}

/// The segments in `dirs` that count, by number. Of one that is there more than once, the copy in the earlier directory is given; where a stranger
/// has put a file of that number beside it, the database's own. A directory that is not there has none.
///
/// # Errors
/// When a directory cannot be listed, or of two files of a number one cannot be opened for no fault of its own.
pub fn segment_files(vfs: &dyn Vfs, dirs: &[LogDir<'_>]) -> Result<Vec<NumberedFile>> {
    let mut there = Vec::new();
    for dir in dirs {
        let mut files = numbered_files(vfs, dir.path, &[FileKind::Segment, FileKind::CompressedSegment])?;
        files.retain(|file| file.number >= dir.first);
        there.push((dir.archive, files));
    }
    let own = there.iter().filter(|(archive, _)| !archive).flat_map(|(_, files)| files);
    let last = own.map(|file| file.number).max().unwrap_or(u64::MAX);
    let counts = |archive: bool, file: &NumberedFile| !archive || file.number < last;
    let mut files: Vec<NumberedFile> = Vec::new();
    for (archive, of_dir) in there {
        files.extend(of_dir.into_iter().filter(|file| counts(archive, file)));
    }
    // Stable, so that the earlier directory's copy comes first.
    files.sort_by_key(|file| file.number);
    let mut chosen: Vec<NumberedFile> = Vec::with_capacity(files.len());
    for copies in files.chunk_by(|one, other| one.number == other.number) {
        let mut own = 0;
        if copies.len() > 1 {
            for (i, copy) in copies.iter().enumerate().rev() {
                match SegmentReader::open(vfs, &copy.path) {
                    Ok(Some(reader)) if is_of(copy, reader.header(), dirs) => own = i,
                    Ok(_) => {}
                    Err(e) if e.is_of_the_file() => {}
                    Err(e) => return Err(e),
                }
            }
        }
        chosen.extend(copies.get(own).cloned());
    }
    Ok(chosen)
}

/// CKP-10: a file with this header is what its name says, and of the database whose directories these are.
pub(crate) fn is_of(file: &NumberedFile, header: &SegmentHeader, dirs: &[LogDir<'_>]) -> bool {
    header.sequence == file.number
        && dirs.iter().any(|dir| dir.database == 0 || dir.database == header.database)
}
