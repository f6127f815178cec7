//! The segment files of a log, wherever they lie: live ones, and archived ones with and without compression.

use std::path::Path;

use ecsdb_io::{FileKind, NumberedFile, Vfs, numbered_files};

use ecsdb_id::Lsn;

use crate::error::{LogError, Result};
use crate::format::SegmentHeader;
use crate::options::SegmentEnd;
use crate::reader::{Damage, SegmentReader};
use crate::scan::{LogScan, ScannedSegment};

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
    /// Of an archive: the number after the last segment that it has of those that the log has given up. From there on to the log's first one none counts.
    pub end: u64,
    /// It is an archive: of what the log has not given up, only that counts there which a header in the log itself leads to. Anything else was
    /// archived by a database that this one is a copy of, or the other way round.
    pub archive: bool,
}

impl<'a> From<&'a Path> for LogDir<'a> {
    /// All segments count, whosever they are.
    fn from(path: &'a Path) -> Self {
        LogDir { path, first: 0, end: u64::MAX, database: 0, archive: false }
    }
}

/// What a file that has the name of a segment says of itself.
#[derive(Debug)]
pub enum SegmentHead {
    /// It is that segment, of the database that was asked for.
    Own(SegmentHeader),
    /// Another database's (CKP-10).
    Strange(SegmentHeader),
    /// It was prepared, and never used.
    Blank,
    /// Its header is damaged, not given, or that of another segment.
    Damaged(LogError),
}

impl SegmentHead {
    /// Reads the header of a file, which has to be of `database`; 0 stands for any.
    ///
    /// # Errors
    /// When it cannot be read for no fault of its own.
    pub fn of(vfs: &dyn Vfs, file: &NumberedFile, database: u128) -> Result<SegmentHead> {
        match SegmentReader::open(vfs, &file.path) {
            Ok(Some(reader)) => Ok(SegmentHead::by_header(file, reader.header(), database)),
            Ok(None) => Ok(SegmentHead::Blank),
            Err(e) if e.is_of_the_file() => Ok(SegmentHead::Damaged(e)),
            Err(e) => Err(e),
        }
    }

    fn by_header(file: &NumberedFile, header: &SegmentHeader, database: u128) -> SegmentHead {
        if database != 0 && header.database != database {
            SegmentHead::Strange(*header)
        } else if header.sequence != file.number {
            SegmentHead::Damaged(misnamed(&file.path, header).into())
        } else {
            SegmentHead::Own(*header)
        }
    }

    /// The header, if it is that segment.
    pub fn own(self) -> Option<SegmentHeader> {
        match self {
            SegmentHead::Own(header) => Some(header),
            _ => None,
        }
    }
}

/// What is wrong with a file that has another segment's header.
pub(crate) fn misnamed(path: &Path, header: &SegmentHeader) -> Damage {
    Damage::new(path, 0, Lsn::ZERO, format!("its header is that of segment {}", header.sequence))
}

/// A file in one of the directories.
type InDir<'a, 'b> = (&'a LogDir<'b>, NumberedFile);

/// The segments in `dirs` that count, by number. Of one that is there more than once, the copy in the earlier directory is given; where a stranger
/// has put a file of that number beside it, the database's own. Of an archive, what the log has not given up yet counts only where the log does not have it,
/// and the segment behind it names this very copy, in a chain that a header in the log's own directory begins: what another life of the database has
/// archived is no part of this one, least of all where the log is away (CKP-11, REC-13). A directory that is not there has none.
///
/// # Errors
/// When a directory cannot be listed, or one of several files of a number cannot be opened for no fault of its own.
pub fn segment_files(vfs: &dyn Vfs, dirs: &[LogDir<'_>]) -> Result<Vec<NumberedFile>> {
    let mut files = Vec::<InDir<'_, '_>>::new();
    let first = dirs.iter().filter(|dir| !dir.archive).map(|dir| dir.first).min().unwrap_or(u64::MAX);
    for dir in dirs {
        let mut there = numbered_files(vfs, dir.path, &[FileKind::Segment, FileKind::CompressedSegment])?;
        there.retain(|file| file.number >= dir.first && !(dir.end..first).contains(&file.number));
        files.extend(there.into_iter().map(|file| (dir, file)));
    }
    // Stable, so that the earlier directory's copy comes first.
    files.sort_by_key(|(_, file)| file.number);
    let mut chosen: Vec<NumberedFile> = Vec::with_capacity(files.len());
    for copies in files.chunk_by(|(_, one), (_, other)| one.number == other.number).rev() {
        let number = copies.first().map_or(0, |(_, file)| file.number);
        let file = if number < first {
            let copies: Vec<_> = copies.iter().collect();
            // Which of several it is, the next one says.
            let led_to = if copies.len() > 1 { named(vfs, &copies, &chosen)? } else { None };
            led_to.or(choose(vfs, &copies, false)?.map(|(file, _)| file))
        } else {
            let (archived, own): (Vec<_>, Vec<_>) = copies.iter().partition(|(dir, _)| dir.archive);
            match choose(vfs, &own, !archived.is_empty())? {
                Some((file, true)) => Some(file),
                own => named(vfs, &archived, &chosen)?.or(own.map(|(file, _)| file)),
            }
        };
        chosen.extend(file.cloned());
    }
    chosen.reverse();
    Ok(chosen)
}

/// Of copies of a segment the first that says itself that it is it, or else the first; and whether it does say so, where that is `asked` for.
fn choose<'a>(
    vfs: &dyn Vfs,
    copies: &[&'a InDir<'_, '_>],
    asked: bool,
) -> Result<Option<(&'a NumberedFile, bool)>> {
    if copies.len() > 1 || asked {
        for (dir, file) in copies {
            if SegmentHead::of(vfs, file, dir.database)?.own().is_some() {
                return Ok(Some((file, true)));
            }
        }
    }
    Ok(copies.first().map(|(_, file)| (file, false)))
}

/// The copy of a segment that the nearest one of those `behind` it says was before it, to its last record.
fn named<'a>(
    vfs: &dyn Vfs,
    copies: &[&'a InDir<'_, '_>],
    behind: &[NumberedFile],
) -> Result<Option<&'a NumberedFile>> {
    let Some((LogDir { database, .. }, _)) = copies.first() else { return Ok(None) };
    let Some(end) = end_before(vfs, behind, *database)? else { return Ok(None) };
    for (_, file) in copies {
        if whole_copy(vfs, file, &end, *database)?.is_some() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// What the nearest of the segments `behind`, of which that is the last one, says of the end of the one before it.
fn end_before(vfs: &dyn Vfs, behind: &[NumberedFile], database: u128) -> Result<Option<SegmentEnd>> {
    for next in behind.iter().rev() {
        match SegmentHead::of(vfs, next, database)? {
            SegmentHead::Own(header) => return Ok(Some(header.previous)),
            // CKP-10: a stranger's says nothing of this log, and is in nobody's way.
            SegmentHead::Strange(_) | SegmentHead::Blank => {}
            SegmentHead::Damaged(_) => break,
        }
    }
    Ok(None)
}

/// A copy of a segment, if it is whole, and ends as the one behind it says.
fn whole_copy(
    vfs: &dyn Vfs,
    file: &NumberedFile,
    end: &SegmentEnd,
    database: u128,
) -> Result<Option<ScannedSegment>> {
    if end.segment != file.number || SegmentHead::of(vfs, file, database)?.own().is_none() {
        return Ok(None);
    }
    match LogScan::file(vfs, &file.path) {
        Ok(scanned) => Ok(Some(scanned).filter(|scanned| scanned.end == *end && !scanned.not_given)),
        Err(e) if e.is_of_the_file() => Ok(None),
        Err(e) => Err(e),
    }
}

/// The copy in an archive of the segment with this header, that ends so. Another one that does is of another life, whose next segment somebody has put
/// into the log.
pub(crate) fn copy_in_archive(
    vfs: &dyn Vfs,
    dirs: &[LogDir<'_>],
    end: &SegmentEnd,
    header: &SegmentHeader,
) -> Result<Option<ScannedSegment>> {
    for dir in dirs.iter().filter(|dir| dir.archive) {
        let files = numbered_files(vfs, dir.path, &[FileKind::Segment, FileKind::CompressedSegment])?;
        for file in files.iter().filter(|file| file.number == end.segment && file.number >= dir.first) {
            if let Some(copy) = whole_copy(vfs, file, end, header.database)?
                && copy.header == *header
            {
                return Ok(Some(copy));
            }
        }
    }
    Ok(None)
}
