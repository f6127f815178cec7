//! The scan: every segment and the chain between them verified, and the end of the log [judged](crate::tail).

use std::path::{Path, PathBuf};

use ecsdb_io::{NumberedFile, Vfs};

use crate::error::{LogError, Result};
use crate::files::{LogDir, SegmentHead, copy_in_archive, misnamed, segment_files};
use crate::format::SegmentHeader;
use crate::found::{Found, is_followed_now, look_at, remains_of};
use crate::life::OtherLife;
use crate::losses::{Headless, Loss, hole};
use crate::options::SegmentEnd;
use crate::reader::{Damage, SegmentReader};
use crate::tail::{Behind, Tail, corrupt};
use crate::walk::{Take, walk};
use ecsdb_id::Lsn;

/// A used segment.
#[derive(Debug, Clone)]
pub struct ScannedSegment {
    /// The file.
    pub path: PathBuf,
    /// Its header.
    pub header: SegmentHeader,
    /// Its valid end.
    pub end: SegmentEnd,
    /// Bytes of the file.
    pub bytes: u64,
    /// Damage before that end's due.
    pub damage: Option<Damage>,
    /// It ends where the medium did not give what is there: it may the next time.
    pub not_given: bool,
    /// When its last group was written, in nanoseconds since 1970-01-01 UTC.
    pub last_unix_ns: u64,
    /// Up to here its own records say that it had been on stable storage, and this is what the next frame links to. What follows may be with the
    /// operating system alone, and after a sync that failed no later one brings it to the disk (WAL-5).
    pub(crate) durable_to: (u64, u32),
    /// It says itself that the next one was there, with its header.
    pub followed: bool,
}

impl ScannedSegment {
    /// Itself, if the medium gave all of it.
    ///
    /// # Errors
    /// [`LogError::Damaged`], with the place that it did not give.
    pub fn given(self) -> Result<ScannedSegment> {
        if !self.not_given {
            return Ok(self);
        }
        let what = "the disk does not give what is there";
        let here = || Damage::new(&self.path, self.end.offset, self.end.last_lsn.next(), what);
        Err(self.damage.clone().unwrap_or_else(here).into())
    }
}

/// What is known of a log's files.
#[derive(Debug, Clone)]
pub struct LogScan {
    /// The used segments, oldest first.
    pub segments: Vec<ScannedSegment>,
    /// Files that were prepared and never used, or whose header was never durable or is damaged.
    pub unused: Vec<PathBuf>,
    /// How the log ends.
    pub tail: Tail,
    /// What of all segments is damaged or missing, behind the tail, too: once for each file.
    pub losses: Vec<Loss>,
    /// The last whole transaction before the tail.
    pub last_lsn: Lsn,
    /// So many of the segments come before the tail, the one that it is in included.
    before_tail: usize,
    /// The highest LSN that any valid frame or header mentions, beyond the tail, too (WAL-7).
    pub seen_lsn: Lsn,
    /// The segment that is [known](Known::mark) is not there, though it should be in the log: a snapshot covers it, and nothing needs it.
    pub lacks_marked: bool,
    /// The highest number of any segment file.
    pub last_file: u64,
    /// The highest incarnation seen.
    pub incarnation: u64,
    /// What comes up to here is had from elsewhere.
    pub(crate) after: Lsn,
}

/// What is known of a log from elsewhere: a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// What the log is read after: a snapshot holds everything up to here.
    pub after: Lsn,
    /// An LSN that was durable; [`Lsn::ZERO`] when none is known.
    pub durable: Lsn,
    /// The segment before this one, or a later one, was there with its header; 0 when that is not known.
    pub next_segment: u64,
    /// An incarnation whose first segment was there; 0 when none is known.
    pub incarnation: u64,
    /// Number and salt of a segment that had a durable transaction; (0, 0) when none is known.
    pub mark: (u64, u32),
    /// What was durable when that was noted: no segment before it ends there.
    pub marked_at: Lsn,
}

impl LogScan {
    /// The number of the first segment that can hold a transaction above `after`: what a replay from there needs. Reads
    /// headers only; 0 when none is readable.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn first_needed(vfs: &dyn Vfs, dirs: &[LogDir<'_>], after: Lsn) -> Result<u64> {
        let database = dirs.iter().map(|dir| dir.database).find(|database| *database != 0).unwrap_or(0);
        let mut first = 0;
        for file in segment_files(vfs, dirs)? {
            // What is wrong with any other, and whether it matters, is for the scan to say.
            let Some(header) = SegmentHead::of(vfs, &file, database)?.own() else { continue };
            // Its first LSN may be a higher one: those between were never anything.
            if header.previous.last_lsn > after {
                break;
            }
            first = file.number;
        }
        Ok(first)
    }

    /// Reads every segment in `dirs`, of copies of one segment that in the earlier directory; the first directory is the log's own.
    /// `database` is the identity they must have. `from` is the number of the first segment that is needed; older files are
    /// not looked at. O(bytes).
    ///
    /// # Errors
    /// When a directory cannot be listed, or in the place of a segment of the log there is one of another database, or one of a newer version. Damage is no error
    /// here, nor is a file that cannot be read: it is in the result.
    pub fn run(
        vfs: &dyn Vfs,
        dirs: &[LogDir<'_>],
        database: u128,
        known: Known,
        from: u64,
    ) -> Result<LogScan> {
        let (scan, strangers) = LogScan::survey(vfs, dirs, database, known, from, &mut |_, _| {})?;
        strangers.into_iter().next().map_or(Ok(scan), Err)
    }

    /// As [`LogScan::run`] of a log without its archive, and gives each transaction to `take` as it is verified, with its bytes in one or more parts, of which
    /// the last is said to be it: its number, the part, whether it is the last one. These are the transactions of a log that ends
    /// [`Tail::Clean`] or [`Tail::Torn`], whole and in order, but that the parts of one that is torn lack the last. Of a log that does not
    /// end so they mean nothing.
    ///
    /// # Errors
    /// As [`LogScan::run`].
    pub fn run_through(
        vfs: &dyn Vfs,
        dir: LogDir<'_>,
        database: u128,
        known: Known,
        from: u64,
        take: Take<'_>,
    ) -> Result<LogScan> {
        let (scan, strangers) = LogScan::read(vfs, &[dir], database, known, from, take, &mut |_, _| {})?;
        strangers.into_iter().next().map_or(Ok(scan), Err)
    }

    /// As [`LogScan::run`], with the segments of other databases that lie in the place of segments of the log beside it: what is told of a log
    /// with any is good for a list of its [losses](LogScan::losses), and for nothing else. `begins` is told of each segment before it is verified: its number
    /// and the bytes of its file.
    ///
    /// # Errors
    /// When a directory cannot be listed, or a segment is one of a newer version.
    pub fn survey(
        vfs: &dyn Vfs,
        dirs: &[LogDir<'_>],
        database: u128,
        known: Known,
        from: u64,
        begins: &mut dyn FnMut(u64, u64),
    ) -> Result<(LogScan, Vec<LogError>)> {
        LogScan::read(vfs, dirs, database, known, from, &mut |_, _, _| {}, begins)
    }

    fn read(
        vfs: &dyn Vfs,
        dirs: &[LogDir<'_>],
        database: u128,
        mut known: Known,
        from: u64,
        take: Take<'_>,
        begins: &mut dyn FnMut(u64, u64),
    ) -> Result<(LogScan, Vec<LogError>)> {
        let mut scan = LogScan {
            segments: Vec::new(),
            unused: Vec::new(),
            tail: Tail::Clean,
            losses: Vec::new(),
            last_lsn: Lsn::ZERO,
            before_tail: 0,
            seen_lsn: Lsn::ZERO,
            lacks_marked: false,
            last_file: 0,
            incarnation: 0,
            after: known.after,
        };
        let own = dirs.first().map(|dir| dir.path);
        // IO-1: two segments at most are open at a time, the one to be walked and the one that says where it ends.
        let mut before: Option<(SegmentReader, u64)> = None;
        let mut broken: Option<Tail> = None;
        let mut cut_short = None;
        let first = dirs.first().map_or(0, |dir| dir.first).max(1);
        scan.lacks_marked = (first..from).contains(&known.mark.0);
        let mut covered = Vec::new();
        let (mut headless, mut strangers) = (Vec::<Headless>::new(), Vec::new());
        for NumberedFile { number, path, bytes } in segment_files(vfs, dirs)? {
            scan.last_file = scan.last_file.max(number);
            let is_own = path.parent() == own;
            scan.lacks_marked &= number != known.mark.0;
            if number < from {
                covered.push(NumberedFile { number, path, bytes });
                continue;
            }
            let (damage, remains, unreadable) = match look_at(vfs, &path)? {
                Found::Segment(reader) => {
                    let header = reader.header();
                    if header.database == database && header.sequence == number {
                        let declared = header.previous;
                        if let Some((mut before, bytes)) = before.replace((reader, bytes)) {
                            let beside = (vfs, dirs, &headless[..]);
                            begins(before.header().sequence, bytes);
                            scan.segment(&mut before, Some(declared), beside, &mut broken, take)?;
                        }
                        continue;
                    }
                    if header.database != database && is_own {
                        // CKP-10: it is in nobody's way, unless the segment of that number is missed.
                        let (found, expected) = (header.database, database);
                        strangers.push((number, LogError::OtherDatabase { path, found, expected }));
                        continue;
                    }
                    let (remains, unreadable) = remains_of(vfs, &path)?;
                    (misnamed(&path, header), remains, unreadable)
                }
                Found::Headless(damage, remains, unreadable) => (damage, remains, unreadable),
            };
            scan.seen_lsn = scan.seen_lsn.max(remains.seen);
            // An archived file is never the log's to remove.
            if is_own && !unreadable {
                scan.unused.push(path);
            }
            headless.push(Headless { number, damage, bytes, remains });
        }
        if let Some((mut last, bytes)) = before {
            begins(last.header().sequence, bytes);
            cut_short = scan.segment(&mut last, None, (vfs, dirs, &headless[..]), &mut broken, take)?;
        }
        if let Some(last) = scan.segments.last()
            && last.followed
            && !is_followed_now(vfs, last)
        {
            known.next_segment = known.next_segment.max(last.header.sequence + 2);
        }
        scan.lose_before(&headless);
        let within = scan.losses.len();
        scan.judge_headless(dirs, &headless, known, &mut broken);
        // Where a later segment is missed, it is that one which would say where this one ends.
        if let Some(found) = cut_short.filter(|_| scan.losses.len() == within)
            && let Some(last) = scan.segments.last_mut()
        {
            last.damage.get_or_insert_with(|| found.clone());
            let evidence = format!("it had {} bytes when it was begun", last.header.prepared_bytes);
            scan.judge(corrupt(found, evidence), &mut broken);
        }
        if let Some(tail) = broken {
            scan.tail = tail;
        }
        scan.hold_against(known, (vfs, dirs, database), &covered)?;
        scan.seen_lsn = scan.seen_lsn.max(scan.last_lsn);
        let is_missed = |number: u64| scan.misses(number, &headless, known);
        let strangers: Vec<LogError> = strangers
            .into_iter()
            .filter_map(|(number, stranger)| is_missed(number).then_some(stranger))
            .collect();
        scan.tell_missing(&headless);
        Ok((scan, strangers))
    }

    /// Judges what was read by what is known from elsewhere: that it is the log of this history, and goes on as far as was durable.
    fn hold_against(
        &mut self,
        known: Known,
        (vfs, dirs, database): (&dyn Vfs, &[LogDir<'_>], u128),
        covered: &[NumberedFile],
    ) -> Result<()> {
        if let Some(first) = self.segments.first()
            && self.incarnation < known.incarnation
            && !matches!(self.tail, Tail::Corrupt { .. })
        {
            // No segment of the last opening is there, and none is missed: it is the log of another history, and nothing in it follows from what
            // the manifest names.
            let what = format!("the log ends with opening {} of the database", self.incarnation);
            let damage = Damage::new(&first.path, 0, first.header.first_lsn, what);
            let evidence = format!("there was opening {}, and each leaves a segment", known.incarnation);
            self.last_lsn = Lsn(first.header.first_lsn.0.saturating_sub(1));
            self.before_tail = 0;
            self.end_with(damage, evidence);
        }
        // Whatever else is lost behind it.
        if let Some(OtherLife { at, damage, evidence }) =
            self.other_life(vfs, dirs, database, known, covered)?
            && (at < self.before_tail || !matches!(self.tail, Tail::Corrupt { .. }))
        {
            self.last_lsn = Lsn(damage.lsn.0.saturating_sub(1));
            self.before_tail = at;
            self.end_with(damage, evidence);
        }
        let durable = known.durable;
        if self.tail == Tail::Clean && durable > self.last_lsn {
            let dir = dirs.first().map_or(Path::new(""), |dir| dir.path);
            self.goes_on(dir, format!("LSN {durable} is known to have been durable"));
        } else if let Tail::Torn { damage, .. } = &self.tail
            && durable >= damage.lsn
        {
            self.end_with(damage.clone(), format!("LSN {durable} is known to have been durable"));
        }
        Ok(())
    }

    /// The segments before the tail, the one that it is in included: what comes after a loss was made for another state than what is left
    /// before it, and is no part of any past (REC-16).
    pub fn whole(&self) -> &[ScannedSegment] {
        &self.segments[..self.before_tail]
    }

    /// Reads and verifies one segment file by itself: what it holds. O(bytes).
    ///
    /// # Errors
    /// When it cannot be read or has no valid header.
    pub fn file(vfs: &dyn Vfs, path: &Path) -> Result<ScannedSegment> {
        let mut reader = SegmentReader::open(vfs, path)?.ok_or_else(|| {
            LogError::Damaged(Damage::new(path, 0, Lsn::ZERO, "the segment was never used"))
        })?;
        let walked = walk(&mut reader, u64::MAX, &mut |_, _, _| {})?;
        Ok(ScannedSegment {
            path: path.into(),
            header: *reader.header(),
            end: walked.end,
            bytes: reader.file_len(),
            damage: walked.stop,
            not_given: walked.unreadable,
            last_unix_ns: walked.last_unix_ns,
            durable_to: walked.durable_to,
            followed: walked.followed,
        })
    }

    /// Gives what is wrong with a file that is shorter than it was made, if it is the last one that this is: no file becomes so but by a clean end, or
    /// when a later segment says where it ends.
    fn segment(
        &mut self,
        reader: &mut SegmentReader,
        declared: Option<SegmentEnd>,
        (vfs, dirs, headless): (&dyn Vfs, &[LogDir<'_>], &[Headless]),
        broken: &mut Option<Tail>,
        take: Take<'_>,
    ) -> Result<Option<Damage>> {
        let header = *reader.header();
        self.incarnation = self.incarnation.max(header.incarnation);
        if let Some(before) = self.segments.last()
            && before.end != header.previous
        {
            let (previous, number) = (header.previous, before.header.sequence);
            let first = before.end.last_lsn.next();
            if previous.segment > number {
                // What is missing is at fault, not what follows it.
                let follows = format!("{} follows it", reader.path().display());
                for (i, damage) in hole(number, previous.segment, dirs, headless).into_iter().enumerate() {
                    let lsn = if i == 0 { first } else { Lsn::ZERO };
                    self.judge(corrupt(Damage { lsn, ..damage }, follows.clone()), broken);
                }
            } else if previous.segment < number {
                let what = format!("the segment follows segment {}, and not {number}", previous.segment);
                let damage = Damage::new(reader.path(), 0, first, what);
                self.judge(corrupt(damage, "a later segment follows".into()), broken);
            }
            // The one before ends elsewhere than this one says: that is found in that one.
        }
        // A later segment says where this one ends; what lies beyond was cut by a recovery. One that follows another segment than this says
        // only that there is a hole, and that is its own fault.
        let is_last = declared.is_none();
        let declared = declared.filter(|end| end.segment == header.sequence);
        let intact = broken.is_none();
        let limit = declared.map_or(u64::MAX, |end| end.offset);
        let mut walked = walk(reader, limit, take)?;
        let mut behind = Behind::default();
        while is_last && let Some(stop) = walked.stop.as_ref().filter(|_| !walked.unreadable) {
            behind = Behind::look(reader, stop.offset)?;
            // Somebody may be writing: what has come since the walk stopped is no witness against it.
            if !(behind.leftovers && walked.unframed && reader.reread(stop.offset)) {
                break;
            }
            walked.go_on(reader, limit, take)?;
        }
        if let Some(end) = declared.filter(|end| *end != walked.end)
            && let Some(copy) = copy_in_archive(vfs, dirs, &end, &header)?
        {
            // It counts for nothing then: neither its damage nor what is behind that.
            let what = walked.stop.map_or_else(|| "the segment ends here".into(), |stop| stop.what);
            let damage = Damage::new(reader.path(), walked.end.offset, walked.end.last_lsn.next(), what);
            self.lose(damage, format!("{} has it whole", copy.path.display()));
            self.seen_lsn = self.seen_lsn.max(copy.end.last_lsn);
            if intact {
                self.last_lsn = copy.end.last_lsn;
                self.before_tail += 1;
            }
            self.segments.push(copy);
            return Ok(None);
        }
        self.seen_lsn = self.seen_lsn.max(walked.seen);
        // Nothing but zeros behind the end is how a log ends that was not closed.
        let mut damage = walked.stop.clone().filter(|_| declared.is_none() && !is_last);
        let mut cut_short = None;
        match (declared, &walked.stop) {
            (Some(end), stop) if end != walked.end => {
                let expected = walked.end.last_lsn.next();
                let what =
                    stop.as_ref().map_or_else(|| "the segment ends here".into(), |stop| stop.what.clone());
                let found = Damage::new(reader.path(), walked.end.offset, expected, what);
                let evidence = format!("the next segment says that this one ends with LSN {}", end.last_lsn);
                damage = Some(found.clone());
                self.judge(corrupt(found, evidence), broken);
            }
            (None, Some(stop)) if walked.unreadable => {
                damage = Some(stop.clone());
                self.judge(corrupt(stop.clone(), "the disk does not give what is there".into()), broken);
            }
            (None, stop) if is_last => {
                if let Some(stop) = stop
                    && self.judge_tail(reader, &walked, stop.clone(), &behind, broken)
                {
                    damage = Some(stop.clone());
                }
                if reader.file_len() < header.prepared_bytes && !walked.closed {
                    let lsn = walked.end.last_lsn.next();
                    let what = format!("the file ends at byte {}", reader.file_len());
                    cut_short = Some(Damage::new(reader.path(), walked.end.offset, lsn, what));
                }
            }
            // A hole is behind it, and its end is what the segment there would say.
            (None, Some(stop)) if !walked.blank || reader.has_given_behind(stop.offset)? => {
                self.lose(stop.clone(), "there is something behind it".into());
            }
            _ => {}
        }
        if intact {
            self.last_lsn = walked.end.last_lsn;
            self.before_tail += 1;
        }
        self.segments.push(ScannedSegment {
            path: reader.path().into(),
            header,
            end: walked.end,
            bytes: reader.file_len(),
            damage,
            not_given: walked.unreadable,
            last_unix_ns: walked.last_unix_ns,
            durable_to: walked.durable_to,
            followed: walked.followed,
        });
        Ok(cut_short)
    }
}
