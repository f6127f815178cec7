//! What lies in the archive ahead of its end: what a trim that came no further has put there, and what another life of the database has.

use ecsdb_io::{FileKind, NumberedFile, numbered_files};
use ecsdb_recovery::log_dirs;
use ecsdb_wal::{SegmentEnd, SegmentHead, segment_files};

use crate::archive::{ArchivedSegment, before_it};
use crate::error::Result;
use crate::store::{Store, Work};

impl Store {
    /// Puts on the list what is in the archive of what the log has not given up below `first_needed`: segments that the log has, too, or has lost and leads
    /// to. A trim that came no further has put it there, or one of which the manifest is lost. Gives all that lies there under numbers that count from
    /// here on.
    pub(crate) fn list_counted(&self, work: &mut Work, first_needed: u64) -> Result<Vec<NumberedFile>> {
        let (vfs, manifest) = (&*self.direct_vfs, self.manifest());
        let [_, archive] = log_dirs(&self.layout, &manifest);
        let kinds = [FileKind::ArchivedSegment, FileKind::CompressedSegment];
        let mut copies = numbered_files(vfs, archive.path, &kinds)?;
        // Of manifests that were made anew the end of the archive is a guess: what leads to the log tells.
        let from = manifest.archive_end.min(manifest.first_segment).max(archive.first);
        copies.retain(|copy| (from..first_needed).contains(&copy.number));
        if copies.is_empty() {
            return Ok(copies);
        }
        self.list_led_to(work, &copies, from)?;
        let mut is_given = false;
        for copy in &copies {
            if matches!(
                SegmentHead::of(vfs, copy, manifest.database)?,
                SegmentHead::Strange(_) | SegmentHead::Blank
            ) {
                continue;
            }
            is_given |= !self.is_listed(work, copy.number)? && self.scan_patiently(work, copy)?.found.is_ok();
        }
        if is_given {
            // By one that the medium had not given before, what it leads to was not known.
            self.list_led_to(work, &copies, from)?;
        }
        Ok(copies)
    }

    fn is_listed(&self, work: &mut Work, number: u64) -> Result<bool> {
        Ok(self.archived(work)?.iter().any(|segment| segment.number == number))
    }

    fn list_led_to(&self, work: &mut Work, copies: &[NumberedFile], from: u64) -> Result<()> {
        let (vfs, manifest) = (&*self.direct_vfs, self.manifest());
        let files = segment_files(vfs, &log_dirs(&self.layout, &manifest))?;
        let mut behind: Option<SegmentEnd> = None;
        for file in files.into_iter().rev().take_while(|file| file.number >= from) {
            let Some(header) = SegmentHead::of(vfs, &file, manifest.database)?.own() else { continue };
            for copy in copies.iter().filter(|copy| copy.number == file.number) {
                let is_it = copy.path == file.path
                    || SegmentHead::of(vfs, copy, manifest.database)?.own() == Some(header);
                if is_it && !self.is_listed(work, copy.number)? {
                    let (number, bytes) = (copy.number, copy.bytes);
                    let (previous, after) = before_it(number, Some(header.previous));
                    let end = behind.filter(|end| end.segment == number);
                    let last_lsn = end.map(|end| end.last_lsn);
                    self.put_on_list(work, ArchivedSegment { number, previous, after, last_lsn, bytes })?;
                }
            }
            behind = Some(header.previous);
        }
        Ok(())
    }

    /// Sets aside those of the `copies` that are not on the list: another life of the database has archived them under numbers that this log has passed
    /// over, or lost. From here on they would count (CKP-11).
    pub(crate) fn make_room_between(&self, work: &mut Work, copies: &[NumberedFile]) -> Result<()> {
        let database = self.manifest().database;
        for copy in copies {
            // It may have made room already.
            if self.is_listed(work, copy.number)? || self.archive_vfs.file_len(&copy.path)?.is_none() {
                continue;
            }
            match SegmentHead::of(&*self.archive_vfs, copy, database)? {
                SegmentHead::Own(_) | SegmentHead::Damaged(_) => self.make_room(work, copy)?,
                SegmentHead::Strange(_) | SegmentHead::Blank => {}
            }
        }
        Ok(())
    }
}
