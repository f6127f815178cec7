//! A file that has the name of a segment: what it is.

use std::path::Path;

use ecsdb_id::Lsn;
use ecsdb_io::{FileKind, Vfs};

use crate::error::{LogError, Result};
use crate::reader::{Damage, Remains, SegmentReader};
use crate::scan::ScannedSegment;

/// A file that has the name of a segment.
pub(crate) enum Found {
    Segment(SegmentReader),
    /// What is wrong with its header, what is left of it, and whether the disk would not give it: it may the next time.
    Headless(Damage, Remains, bool),
}

pub(crate) fn look_at(vfs: &dyn Vfs, path: &Path) -> Result<Found> {
    let damage = |what: String| Damage::new(path, 0, Lsn::ZERO, what);
    match SegmentReader::open(vfs, path) {
        Ok(Some(reader)) => Ok(Found::Segment(reader)),
        Ok(None) => {
            let (remains, unreadable) = remains_of(vfs, path)?;
            // Of a log that is being written the segment may have been begun between the two looks.
            if remains.has_records
                && let Ok(Some(reader)) = SegmentReader::open(vfs, path)
            {
                return Ok(Found::Segment(reader));
            }
            Ok(Found::Headless(damage("the segment header was never written".into()), remains, unreadable))
        }
        Err(LogError::Damaged(damage)) => {
            let (remains, unreadable) = remains_of(vfs, path)?;
            Ok(Found::Headless(damage, remains, unreadable))
        }
        Err(e) if e.is_damage() => {
            // The disk may give it the next time, and where it goes on no log may be ended.
            let remains = Remains { blank: false, has_records: true, ..remains_of(vfs, path)?.0 };
            Ok(Found::Headless(damage(format!("it cannot be read: {e}")), remains, true))
        }
        Err(e) => Err(e),
    }
}

/// Whether the segment that `last` says to follow it is there by now: of a log that is being written it may have been begun after the directory
/// was listed.
pub(crate) fn is_followed_now(vfs: &dyn Vfs, last: &ScannedSegment) -> bool {
    let number = last.header.sequence + 1;
    let path = last.path.with_file_name(FileKind::Segment.name(number));
    matches!(SegmentReader::open(vfs, &path), Ok(Some(next)) if next.header().previous == last.end
        && next.header().database == last.header.database && next.header().sequence == number)
}

/// What is left of a file without a valid header, and whether the disk would not give it: then it may have anything in it.
pub(crate) fn remains_of(vfs: &dyn Vfs, path: &Path) -> Result<(Remains, bool)> {
    match SegmentReader::without_header(vfs, path) {
        Ok(remains) => Ok((remains, false)),
        Err(e) if e.is_damage() => {
            Ok((Remains { blank: false, has_records: true, closed_empty: false, seen: Lsn::ZERO }, true))
        }
        Err(e) => Err(e),
    }
}
