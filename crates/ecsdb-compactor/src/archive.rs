//! Log segments that recovery does not need any more, kept for going back to any moment.

use std::path::{Path, PathBuf};

use ecsdb_io::{
    FileKind, Layout, NumberedFile, OpenMode, PageWriter, Vfs, VfsFile, numbered_files, publish,
    remove_temporaries, seekable,
};
use ecsdb_recovery::{Mark, claim, log_dirs, mark, missing_segments, move_aside};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogDir, LogError, LogScan, Lsn, ScannedSegment, SegmentEnd, SegmentHead, segment_files};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::info::Task;
use crate::store::{Store, Work};

/// Bytes copied at once.
const COPY_BYTES: u64 = 1 << 20;
/// What the medium does not give so often, with the time between two attempts, is taken for lost.
const ATTEMPTS: u32 = 4;

/// A segment in the archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArchivedSegment {
    pub(crate) number: u64,
    /// The segment before it in the log.
    pub(crate) previous: u64,
    /// The last transaction before it; `None` if its header cannot be read.
    pub(crate) after: Option<Lsn>,
    /// Its last transaction; `None` if nothing tells.
    pub(crate) last_lsn: Option<Lsn>,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

/// What was found out about a segment's file.
pub(crate) struct Scanned {
    pub(crate) found: Result<ScannedSegment, LogError>,
    /// The medium gave all of it: what is wrong with it is so for good.
    is_given: bool,
}

impl Work {
    /// Whether a file that the medium has not given now is to be asked for once more, later: everything behind it waits so long (CKP-7).
    fn waits_for(&mut self, path: &Path) -> bool {
        let attempts = self.not_given.entry(path.into()).or_default();
        *attempts += 1;
        *attempts < ATTEMPTS
    }
}

impl Store {
    /// The archived segments that this log has given up, or that were [compared](Store::find_archived) with its own, oldest first: listed once, by
    /// reading headers.
    pub(crate) fn archived<'w>(&self, work: &'w mut Work) -> Result<&'w mut Vec<ArchivedSegment>> {
        // Where some should be, and none was when it was listed, they may be back.
        let is_known =
            work.archived.as_ref().is_some_and(|list| !list.is_empty() || !had_some(&self.manifest()));
        if !is_known {
            work.archived = Some(list_archive(&*self.direct_vfs, &self.layout, &self.manifest())?);
        }
        Ok(work.archived.get_or_insert_default())
    }

    /// Takes the archive's directory for this database, once (CKP-10). One that had segments which are still wanted, and is empty now,
    /// is away: what recovery does not need any more stays in the log until it is back (CKP-11). It may go away at any time.
    fn claim_archive(&self, work: &mut Work) -> Result<()> {
        let (vfs, dir, manifest) = (&*self.archive_vfs, self.layout.archive_dir(), self.manifest());
        let is_empty = mark(vfs, &self.layout, dir, manifest.database)? == Mark::Empty;
        if work.archive_lock.is_some() && !is_empty {
            return Ok(());
        }
        work.archive_lock = None;
        if is_empty && had_some(&manifest) && self.settings().kept(manifest.kept).archive != 0 {
            return Err(Error::ArchiveAway(dir.into()));
        }
        work.archive_lock = Some(claim(vfs, &self.layout, dir, manifest.database)?);
        work.archived = None;
        // What was begun may never get its name: the next attempt compresses as it is said by then. It is in nobody's way.
        let kinds = [FileKind::ArchivedSegment, FileKind::CompressedSegment];
        if let Err(e) = remove_temporaries(vfs, dir, &kinds) {
            tracing::warn!(error = %e, "what an interrupted attempt has left in the archive stays");
        }
        Ok(())
    }

    /// Reports a hole in the archive, once: moments before it cannot be gone back to. It gives nothing up (CKP-11). The log begins with
    /// `first_segment`, which says what was before it, too.
    pub(crate) fn report_hole(&self, work: &mut Work, first_segment: u64) -> Result<()> {
        if work.hole_reported {
            return Ok(());
        }
        let manifest = self.manifest();
        let [log, archive] = log_dirs(&self.layout, &manifest);
        let begin = self.begin_of(LogDir { first: first_segment, ..log })?;
        let archived = self.archived(work)?.iter().map(|segment| (segment.number, segment.previous));
        if let Some(missing) = missing_segments(archive.first, archived.chain(begin)).last() {
            let error = format!(
                "the archive has a hole: segment {missing} is not in {}; moments before it may be out of reach",
                self.layout.archive_dir().display()
            );
            work.hole_reported = true;
            self.events.send(Event::Failed { task: Task::Retention, error, retry_in: None });
        }
        Ok(())
    }

    /// The first segment in a directory that says which one was before it, and that one.
    fn begin_of(&self, dir: LogDir<'_>) -> Result<Option<(u64, u64)>> {
        for file in segment_files(&*self.direct_vfs, &[dir])? {
            match SegmentHead::of(&*self.direct_vfs, &file, dir.database)? {
                SegmentHead::Own(header) => return Ok(Some((file.number, header.previous.segment))),
                SegmentHead::Strange(_) | SegmentHead::Blank => {}
                // What was before the next one says nothing of the archive.
                SegmentHead::Damaged(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Copies the sealed segments below `first_needed` into the archive, those that are not there yet. Nothing is deleted here. Gives the segment before which
    /// all are there: where it failed, that is the one at which it did, so that what fits makes room in the log (CKP-7).
    pub(crate) fn archive_below(&self, work: &mut Work, first_needed: u64) -> (u64, Result<()>) {
        let first = self.manifest().first_segment;
        let mut reached = first;
        let archived = self.archive_each(work, first_needed, &mut reached);
        if archived.is_ok() {
            return (first_needed, archived);
        }
        match &mut work.archived {
            // What is there of those behind counts from when they all are.
            Some(list) if reached > first => list.retain(|segment| segment.number < reached),
            // What is there by now may not be on the list, by which the past is given up.
            list => *list = None,
        }
        (reached, archived)
    }

    fn archive_each(&self, work: &mut Work, first_needed: u64, reached: &mut u64) -> Result<()> {
        self.claim_archive(work)?;
        let mut ahead = self.list_counted(work, first_needed)?;
        let first = *reached;
        let mut at = first;
        let copied = self.copy_each(work, first_needed, &mut at);
        if copied.is_ok() {
            at = first_needed;
        } else {
            ahead.retain(|copy| copy.number < at);
        }
        let settled = self.settle(work, &ahead, at > first);
        if settled.is_ok() {
            *reached = at;
        }
        copied.and(settled)
    }

    /// Makes sure of what is there, before the log lets go of it.
    fn settle(&self, work: &mut Work, ahead: &[NumberedFile], is_new: bool) -> Result<()> {
        self.make_room_between(work, ahead)?;
        // CKP-2: what was found there may have been put there by a process that came no further, or before a sync that failed.
        if is_new || !ahead.is_empty() {
            self.archive_vfs.sync_dir(self.layout.archive_dir())?;
        }
        // CKP-11: the archive may be away by now, and what was copied may lie under the name that it was mounted at.
        work.archive_lock.as_ref().map_or(Ok(()), |lock| Ok(lock.check()?))
    }

    /// Gives in `at` how far it has come: what is before that segment is in the archive, or was set aside.
    fn copy_each(&self, work: &mut Work, first_needed: u64, at: &mut u64) -> Result<()> {
        let first = self.manifest().first_archived;
        let [log, _] = log_dirs(&self.layout, &self.manifest());
        let mut segments = Vec::new();
        for file in segment_files(&*self.direct_vfs, &[log])? {
            match SegmentHead::of(&*self.direct_vfs, &file, log.database)? {
                // CKP-10: a stranger's is neither archived, nor does it say where another one ends; nor does one that was prepared, and never used: an
                // opening that was interrupted left it behind.
                SegmentHead::Strange(_) | SegmentHead::Blank => {}
                head => segments.push((file, head)),
            }
        }
        let mut copies = None;
        for pair in segments.windows(2) {
            let [(file, _), (next, behind)] = pair else { continue };
            if file.number < first || file.number >= first_needed {
                continue;
            }
            *at = file.number.max(*at);
            // Where a segment ends is said by the one after it.
            let declared = match behind {
                SegmentHead::Own(header) => Some(header.previous).filter(|end| end.segment == file.number),
                SegmentHead::Damaged(e) if e.is_of_the_medium() && work.waits_for(&next.path) => {
                    return Err(e.clone().into());
                }
                SegmentHead::Damaged(e) if !e.is_damage() => return Err(e.clone().into()),
                SegmentHead::Damaged(_) | SegmentHead::Strange(_) | SegmentHead::Blank => None,
            };
            if copies.is_none() {
                // Listed before anything is added.
                self.archived(work)?;
                let kinds = [FileKind::ArchivedSegment, FileKind::CompressedSegment];
                copies = Some(numbered_files(&*self.archive_vfs, self.layout.archive_dir(), &kinds)?);
            }
            let scanned = self.scan_patiently(work, file)?;
            let copies = copies.as_deref().unwrap_or_default();
            if let Some(archived) = self.find_archived(work, copies, file, &scanned, declared)? {
                self.put_on_list(work, archived)?;
                continue;
            }
            let scanned = scanned.found;
            // What is damaged is kept as it is, and keeps nobody else waiting: a part of it may still be good for something. Where neither the next one
            // nor it itself says where it ends, that is at the end of the file.
            let own = scanned.as_ref().ok();
            let end = declared.or(own.filter(|own| own.followed).map(|own| own.end));
            let is_damaged = own.is_none_or(|own| declared.is_some_and(|end| end != own.end));
            let len = end.map_or(file.bytes, |end| end.offset.min(file.bytes));
            let archived = match self.archive_one(file.number, &file.path, own, end, len) {
                Ok(archived) => archived,
                // Not even the bytes are to be had. CKP-3: what has no copy is not deleted, and it may be read one day.
                Err(Error::Io(cause)) if cause.is_of_the_file() && cause.path == file.path => {
                    if cause.is_of_the_medium() && work.waits_for(&file.path) {
                        return Err(Error::Io(cause));
                    }
                    if self.manifest().log_mark.0 == file.number {
                        // REC-13: it is not missed from here on.
                        self.publish(|manifest| manifest.log_mark = (0, 0))?;
                    }
                    let aside = move_aside(&*self.archive_vfs, &self.layout, &file.path)?;
                    let what = format!("cannot be read, and was moved to {}", aside.display());
                    self.report_damage(&what, &cause.to_string());
                    continue;
                }
                Err(e) => return Err(e),
            };
            if is_damaged {
                let damage = match &scanned {
                    Ok(scanned) => scanned.damage.as_ref().map_or_else(String::new, ToString::to_string),
                    Err(e) => e.to_string(),
                };
                self.report_damage("is damaged, and is archived as it is", &damage);
            }
            work.not_given.remove(&file.path);
            work.not_given.remove(&next.path);
            self.put_on_list(work, archived)?;
        }
        Ok(())
    }

    /// Puts a segment on the list of the archive.
    pub(crate) fn put_on_list(&self, work: &mut Work, archived: ArchivedSegment) -> Result<()> {
        let there = self.archived(work)?;
        there.retain(|segment| segment.number != archived.number);
        there.insert(there.partition_point(|segment| segment.number < archived.number), archived);
        Ok(())
    }

    /// This segment of the log in the archive, if one of the `copies` is it. CKP-11: another one under its number, or under one that this
    /// log has passed over, is of another life of the database, which was put back since from a copy. It makes room, and is kept.
    fn find_archived(
        &self,
        work: &mut Work,
        copies: &[NumberedFile],
        file: &NumberedFile,
        scanned: &Scanned,
        declared: Option<SegmentEnd>,
    ) -> Result<Option<ArchivedSegment>> {
        let (vfs, number) = (&*self.archive_vfs, file.number);
        let [_, archive] = log_dirs(&self.layout, &self.manifest());
        // Of one that is not whole the header may be had all the same.
        let own = match &scanned.found {
            Ok(scanned) => Some(scanned.header),
            Err(_) => SegmentHead::of(vfs, file, archive.database)?.own(),
        };
        let before = own.map_or(number.saturating_sub(1), |own| own.previous.segment);
        // What was archived before a salvage is none of this log's.
        let is_passed_over = |copy: &&NumberedFile| {
            copy.number >= archive.first && copy.number > before && copy.number <= number
        };
        let mut there = None;
        for copy in copies.iter().filter(is_passed_over) {
            let Scanned { found: copied, is_given } = self.scan_patiently(work, copy)?;
            let is_it = match (copied, &scanned.found) {
                (Ok(copied), _) if own.is_some_and(|own| own != copied.header) => false,
                (Ok(copied), _) if copied.header.database != archive.database => false,
                // Whole, by the word of the next one, whatever has become of the segment itself.
                (Ok(copied), _) if declared == Some(copied.end) => true,
                (Ok(copied), Ok(own)) => own.end == copied.end,
                // CKP-11: without that header nobody tells whose the copy is.
                (Ok(_), Err(_)) => own.is_some() && declared.is_none(),
                (Err(e), _) if !e.is_of_the_file() => return Err(e.into()),
                (Err(_), _) => own.is_none() && scanned.is_given && is_given,
            };
            if is_it {
                work.not_given.remove(&copy.path);
                let (previous, after) = before_it(number, own.map(|own| own.previous));
                let end = declared.or(scanned.found.as_ref().ok().map(|own| own.end));
                let (last_lsn, bytes) = (end.map(|end| end.last_lsn), copy.bytes);
                there = Some(ArchivedSegment { number, previous, after, last_lsn, bytes });
                continue;
            }
            self.make_room(work, copy)?;
        }
        Ok(there)
    }

    /// Sets aside what lies in the archive under the number of a segment of this log, and is another one.
    pub(crate) fn make_room(&self, work: &mut Work, copy: &NumberedFile) -> Result<()> {
        let aside = move_aside(&*self.archive_vfs, &self.layout, &copy.path)?;
        self.archived(work)?.retain(|segment| segment.number != copy.number);
        let error = format!(
            "{} is not segment {} of this log, and was moved to {}",
            copy.path.display(),
            copy.number,
            aside.display()
        );
        self.events.send(Event::Failed { task: Task::Retention, error, retry_in: None });
        Ok(())
    }

    fn report_damage(&self, what: &str, damage: &str) {
        let error = format!("a sealed segment of the log {what}: {damage}");
        self.events.send(Event::Failed { task: Task::Retention, error, retry_in: None });
    }

    fn scan(&self, path: &Path) -> Result<ScannedSegment, LogError> {
        self.urgency.once(|| LogScan::file(&*self.archive_vfs, path))
    }

    /// What a segment's file holds, or why that is not known for good. What the medium does not give is an error of all the work, which is tried again
    /// later. A file with the header of another segment is a damaged one, whatever it holds.
    pub(crate) fn scan_patiently(&self, work: &mut Work, file: &NumberedFile) -> Result<Scanned> {
        let path = &file.path;
        let scanned = match SegmentHead::of(&*self.archive_vfs, file, 0) {
            Ok(SegmentHead::Damaged(e)) => Err(e),
            Ok(_) => self.scan(path),
            Err(e) => Err(e),
        };
        let is_given = match &scanned {
            Ok(scanned) => !scanned.not_given,
            Err(e) => !e.is_of_the_medium(),
        };
        match scanned.and_then(ScannedSegment::given) {
            Err(e) if !is_given && work.waits_for(path) => Err(e.into()),
            found => Ok(Scanned { found, is_given }),
        }
    }

    /// Copies `len` bytes of a segment, which ends where others say, if they do; of one without a valid header `scanned` is `None`.
    fn archive_one(
        &self,
        number: u64,
        from: &Path,
        scanned: Option<&ScannedSegment>,
        declared: Option<SegmentEnd>,
        len: u64,
    ) -> Result<ArchivedSegment> {
        let _span = tracing::info_span!("archive", segment = number).entered();
        let vfs = &*self.archive_vfs;
        let source = vfs.open(from, OpenMode::Read)?;
        let level = self.settings().kept(self.manifest().kept).archive_level;
        let compression = (level != 0).then_some(level as i32);
        let kind = match compression {
            Some(_) => FileKind::CompressedSegment,
            None => FileKind::ArchivedSegment,
        };
        let path = self.layout.file(kind, number);
        publish::<_, Error>(vfs, &path, |to| {
            self.urgency.once(|| match compression {
                Some(level) => Ok(seekable::compress(&*source, len, &**to, level).map(|_| ())?),
                None => copy(&*source, len, &**to),
            })
        })?;
        if let Some(ScannedSegment { end, .. }) = scanned {
            // CKP-2: read back before anything relies on it. What was damaged is so in the copy, too.
            let copied = self.scan(&path).and_then(ScannedSegment::given);
            let what = match &copied {
                Ok(copied) if copied.end == *end || Some(copied.end) == declared => None,
                Ok(copied) => Some(format!("it ends with LSN {}, not {}", copied.end.last_lsn, end.last_lsn)),
                Err(e) => Some(e.to_string()),
            };
            if let Some(what) = what {
                vfs.remove(&path)?;
                return Err(Error::NotVerified { path, what });
            }
        }
        let last_lsn = declared.map(|end| end.last_lsn);
        let bytes = vfs.file_len(&path)?.unwrap_or(0);
        metrics::counter!("ecsdb_archived_bytes_total").increment(bytes);
        self.events.send(Event::Archived { segment: number, last_lsn: last_lsn.unwrap_or_default(), bytes });
        let (previous, after) = before_it(number, scanned.map(|scanned| scanned.header.previous));
        Ok(ArchivedSegment { number, previous, after, last_lsn, bytes })
    }
}

/// The archived segments, oldest first. Reads headers.
fn list_archive(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Vec<ArchivedSegment>> {
    let archive = layout.archive_dir();
    if mark(vfs, layout, archive, manifest.database)? == Mark::Empty {
        return Ok(Vec::new());
    }
    let [log, kept] = log_dirs(layout, manifest);
    let mut ends = Vec::new();
    for file in segment_files(vfs, &[log])? {
        ends.extend(SegmentHead::of(vfs, &file, manifest.database)?.own().map(|header| header.previous));
    }
    let mut archived: Vec<(ArchivedSegment, PathBuf)> = Vec::new();
    // Up to where the log has given up its own. CKP-11: what is there beyond may be of another life, until it is compared with what the log has.
    for file in segment_files(vfs, &[LogDir { archive: false, ..kept }])? {
        if file.number >= log.first.min(kept.end) {
            break;
        }
        let previous = match SegmentHead::of(vfs, &file, manifest.database)? {
            SegmentHead::Own(header) => Some(header.previous),
            // What cannot be read any more hinders nobody who does not need it.
            SegmentHead::Damaged(_) => None,
            // CKP-10: a stranger's says nothing of this log.
            SegmentHead::Strange(_) | SegmentHead::Blank => continue,
        };
        ends.extend(previous);
        let (number, bytes) = (file.number, file.bytes);
        let (previous, after) = before_it(number, previous);
        let segment = ArchivedSegment { number, previous, after, last_lsn: None, bytes };
        archived.push((segment, file.path));
    }
    for (segment, path) in &mut archived {
        // Where a segment ends stands in the next one.
        segment.last_lsn = match ends.iter().find(|end| end.segment == segment.number) {
            Some(end) => Some(end.last_lsn),
            None => match LogScan::file(vfs, path).and_then(ScannedSegment::given) {
                // CKP-11: what is damaged goes on behind where it can be read.
                Ok(scanned) => (scanned.end.offset == scanned.bytes).then_some(scanned.end.last_lsn),
                Err(e) if e.is_of_the_file() => None,
                Err(e) => return Err(e.into()),
            },
        };
    }
    Ok(archived.into_iter().map(|(segment, _)| segment).collect())
}

/// Whether segments that are still wanted went to the archive: one that is empty is away then.
fn had_some(manifest: &Manifest) -> bool {
    manifest.archived_from() < manifest.archive_end
}

/// The segment before another one and its last transaction, as that one's header says; the first is guessed if it cannot be read.
pub(crate) fn before_it(number: u64, previous: Option<SegmentEnd>) -> (u64, Option<Lsn>) {
    let segment = previous.map_or(number.saturating_sub(1), |end| end.segment);
    (segment, previous.map(|end| end.last_lsn))
}

fn copy(from: &dyn VfsFile, len: u64, to: &dyn VfsFile) -> Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(len) as usize];
    let mut pages = PageWriter::new(to);
    while pages.offset() < len {
        let n = (len - pages.offset()).min(COPY_BYTES) as usize;
        from.read_exact_at(&mut buffer[..n], pages.offset())?;
        pages.gather(&buffer[..n]);
        pages.write_full()?;
    }
    Ok(pages.finish()?)
}
