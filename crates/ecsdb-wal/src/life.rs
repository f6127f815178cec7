//! Whose life a log is of. A database that was put back from a copy writes other segments under the numbers that it had used before; what the manifest
//! knows of them, and what they say of one another, tells one from the other (REC-13).

use std::cmp::Ordering;
use std::path::Path;

use ecsdb_io::{FileKind, NumberedFile, Vfs};

use crate::error::Result;
use crate::files::{LogDir, SegmentHead};
use crate::found::{Found, look_at};
use crate::losses::MISSING;
use crate::options::SegmentEnd;
use crate::reader::{Damage, SegmentReader};
use crate::scan::{Known, LogScan, ScannedSegment};
use crate::walk::{Walked, walk};

const OTHER: &str = "the segment is another one of that number";

/// From where on a log is that of another life.
pub(crate) struct OtherLife {
    /// How many of its segments come before.
    pub(crate) at: usize,
    /// The first one that does not belong to it.
    pub(crate) damage: Damage,
    /// What tells that.
    pub(crate) evidence: String,
}

impl LogScan {
    /// Of whose life the log is. `covered` are the segments before those that were read: a snapshot holds what is in them, but the log of another life may
    /// go on behind them. O(1) for the log of this one.
    ///
    /// # Errors
    /// When one of these cannot be opened for no fault of its own.
    pub(crate) fn other_life(
        &self,
        vfs: &dyn Vfs,
        dirs: &[LogDir<'_>],
        database: u128,
        known: Known,
        covered: &[NumberedFile],
    ) -> Result<Option<OtherLife>> {
        let (marked, salt) = known.mark;
        let by_salt = || format!("the manifest knows the salt of segment {marked}");
        let other = |at, path: &Path, first, what, evidence| {
            Ok(Some(OtherLife { at, damage: Damage::new(path, 0, first, what), evidence }))
        };
        let first = dirs.first().map_or(0, |dir| dir.first).max(1);
        if let Some(file) = covered.iter().find(|file| file.number == marked && marked >= first)
            && let Some(header) = SegmentHead::of(vfs, file, database)?.own()
        {
            // What comes after the snapshot follows from a segment that is another one.
            if header.salt != salt {
                return other(0, &file.path, known.after.next(), OTHER, by_salt());
            }
            // Or from one before it, though it had a transaction. A salvage's log follows from none.
            if let Some(next) =
                self.segments.first().filter(|next| (1..marked).contains(&next.header.previous.segment))
            {
                let evidence = format!(
                    "it follows from none after segment {}, and {} is there",
                    next.header.previous.segment,
                    file.path.display()
                );
                return other(0, &next.path, known.after.next().max(next.header.first_lsn), OTHER, evidence);
            }
        }
        // Or it is gone that would tell.
        if self.lacks_marked
            && self.last_lsn > known.after
            && let Some(dir) = dirs.first()
        {
            let path = dir.path.join(FileKind::Segment.name(marked));
            return other(0, &path, known.after.next(), MISSING, by_salt());
        }
        // REC-8: what nobody needs closes nothing that the manifest knows.
        let is_known =
            |segment: &ScannedSegment| segment.header.sequence == marked && segment.header.salt == salt;
        if marked != 0
            && !self.whole().iter().any(is_known)
            && let Some(next) = self.segments.first()
            && let Some(path) = goes_on_otherwise(vfs, database, covered, next.header.previous)?
        {
            let evidence = format!("{} ends elsewhere than it says", path.display());
            return other(0, &next.path, known.after.next().max(next.header.first_lsn), OTHER, evidence);
        }
        // No segment before the one that is known ends behind what was durable then.
        let other_segment =
            self.segments.iter().position(|segment| match segment.header.sequence.cmp(&marked) {
                Ordering::Less => segment.end.last_lsn >= known.marked_at,
                Ordering::Equal => segment.header.salt != salt,
                Ordering::Greater => false,
            });
        match other_segment.and_then(|at| Some((at, self.segments.get(at)?))) {
            Some((at, segment)) => other(at, &segment.path, segment.header.first_lsn, OTHER, by_salt()),
            None => Ok(None),
        }
    }
}

/// The last one of these segments, if the next one does not follow from it, by what that says of its end.
fn goes_on_otherwise<'a>(
    vfs: &dyn Vfs,
    database: u128,
    covered: &'a [NumberedFile],
    end: SegmentEnd,
) -> Result<Option<&'a Path>> {
    for file in covered.iter().rev() {
        let Found::Segment(mut reader) = look_at(vfs, &file.path)? else { continue };
        let header = reader.header();
        if header.database != database || header.sequence != file.number {
            continue;
        }
        // A salvage's log follows from none.
        let otherwise = end.segment == file.number && ends_elsewhere(&mut reader, end)?;
        return Ok(otherwise.then_some(&*file.path));
    }
    Ok(None)
}

/// Whether a segment tells itself that it does not end there: it goes on with what was on stable storage, or was closed elsewhere. One that is damaged
/// does not tell. O(1) where it does end there.
fn ends_elsewhere(reader: &mut SegmentReader, end: SegmentEnd) -> Result<bool> {
    let it = (end.offset, end.link);
    let mut behind = Walked::from(reader, end);
    behind.go_on(reader, u64::MAX, &mut |_, _, _| {})?;
    // As at the end of a log: without a transaction there is nothing that had been durable.
    if behind.durable > end.last_lsn {
        return Ok(true);
    }
    if reader.closed_at()?.is_none_or(|closed| closed == it) {
        return Ok(false);
    }
    let mut walked = walk(reader, end.offset, &mut |_, _, _| {})?;
    // It was damaged there once, behind what a snapshot holds, and the log went on (REC-8).
    if (walked.end.offset, walked.end.link) == it || walked.unreadable {
        return Ok(false);
    }
    walked.go_on(reader, u64::MAX, &mut |_, _, _| {})?;
    Ok(walked.closed)
}
