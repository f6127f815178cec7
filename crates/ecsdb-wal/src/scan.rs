//! The scan: every segment and the chain between them verified, and the end of the log judged.
//!
//! A torn tail is what a crash leaves of a write that was not synced; damage anywhere else is loss of something that was
//! durable. The two are told apart by proof: a segment that a later one follows was synced, and so was the header of one that has
//! records, or after which another was prepared, or that the segment before says to have been there; no file is shorter than it was made; and a frame that still
//! validates after a break says, at its group's head or end, up to which LSN everything was durable when it was written. Valid
//! frames after a break alone prove nothing: un-synced sectors reach the disk in any order.

use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, NumberedFile, Vfs};

use crate::error::{LogError, Result};
use crate::files::{LogDir, is_of, segment_files};
use crate::format::{CLOSE, FOLLOWED, GROUP, GroupInfo, SegmentHeader};
use crate::losses::{Headless, Loss, hole, missed};
use crate::options::SegmentEnd;
use crate::reader::{Damage, Remains, SegmentReader};
use crate::walk::{Take, Walked, walk};
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
    /// Up to here its own records say that it had been on stable storage. What follows may be with the operating system alone, and after a sync
    /// that failed no later one brings it to the disk (WAL-5).
    pub durable_to: u64,
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

/// How a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// After a whole transaction, with nothing behind it.
    Clean,
    /// In a write that was never synced: to be cut.
    Torn {
        /// Where, and what is there instead of a frame.
        damage: Damage,
        /// Bytes from there to the end of the file.
        bytes: u64,
        /// The transaction whose parts are there, but not its last one.
        incomplete: Option<Lsn>,
    },
    /// Something that had been durable is gone.
    Corrupt {
        /// Where, and what is there instead.
        damage: Damage,
        /// The first transaction that is lost.
        first_lost: Lsn,
        /// What proves that it had been durable.
        evidence: String,
        /// Something shows that there were transactions in it. A segment that is lost without that may have had none.
        shown: bool,
    },
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
    /// The highest number of any segment file.
    pub last_file: u64,
    /// The highest incarnation seen.
    pub incarnation: u64,
    /// What comes up to here is had from elsewhere.
    after: Lsn,
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
}

impl LogScan {
    /// The number of the first segment that can hold a transaction above `after`: what a replay from there needs. Reads
    /// headers only; 0 when none is readable.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn first_needed(vfs: &dyn Vfs, dirs: &[LogDir<'_>], after: Lsn) -> Result<u64> {
        let mut first = 0;
        for file in segment_files(vfs, dirs)? {
            match SegmentReader::open(vfs, &file.path) {
                // A copy under another number is not the segment that it says it is, nor is a stranger's.
                Ok(Some(reader)) if !is_of(&file, reader.header(), dirs) => {}
                // Its first LSN may be a higher one: those between were never anything.
                Ok(Some(reader)) if reader.header().previous.last_lsn <= after => first = file.number,
                Ok(Some(_)) => return Ok(first),
                // What is wrong with it, and whether it matters, is for the scan to say.
                Ok(None) => {}
                Err(e) if e.is_damage() => {}
                Err(e) => return Err(e),
            }
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
        LogScan::run_through(vfs, dirs, database, known, from, &mut |_, _, _| {})
    }

    /// As [`LogScan::run`], and gives each transaction to `take` as it is verified, with its bytes in one or more parts, of which the last
    /// is said to be it: its number, the part, whether it is the last one. These are the transactions of a log that ends
    /// [`Tail::Clean`] or [`Tail::Torn`], whole and in order, but that the parts of one that is torn lack the last. Of a log that does not
    /// end so they mean nothing.
    ///
    /// # Errors
    /// As [`LogScan::run`].
    pub fn run_through(
        vfs: &dyn Vfs,
        dirs: &[LogDir<'_>],
        database: u128,
        known: Known,
        from: u64,
        take: Take<'_>,
    ) -> Result<LogScan> {
        let (scan, strangers) = LogScan::survey(vfs, dirs, database, known, from, take)?;
        strangers.into_iter().next().map_or(Ok(scan), Err)
    }

    /// As [`LogScan::run_through`], with the segments of other databases that lie in the place of segments of the log beside it: what is told of a log
    /// with any is good for a list of its [losses](LogScan::losses), and for nothing else.
    ///
    /// # Errors
    /// When a directory cannot be listed, or a segment is one of a newer version.
    pub fn survey(
        vfs: &dyn Vfs,
        dirs: &[LogDir<'_>],
        database: u128,
        mut known: Known,
        from: u64,
        take: Take<'_>,
    ) -> Result<(LogScan, Vec<LogError>)> {
        let mut scan = LogScan {
            segments: Vec::new(),
            unused: Vec::new(),
            tail: Tail::Clean,
            losses: Vec::new(),
            last_lsn: Lsn::ZERO,
            before_tail: 0,
            seen_lsn: Lsn::ZERO,
            last_file: 0,
            incarnation: 0,
            after: known.after,
        };
        let own = dirs.first().map(|dir| dir.path);
        // IO-1: two segments at most are open at a time, the one to be walked and the one that says where it ends.
        let mut before: Option<SegmentReader> = None;
        let mut broken: Option<Tail> = None;
        let mut cut_short = None;
        let (mut headless, mut strangers) = (Vec::<Headless>::new(), Vec::new());
        for NumberedFile { number, path, bytes } in segment_files(vfs, dirs)? {
            scan.last_file = scan.last_file.max(number);
            if number < from {
                continue;
            }
            let is_own = path.parent() == own;
            let (damage, remains, unreadable) = match look_at(vfs, &path)? {
                Found::Segment(reader) => {
                    let header = reader.header();
                    if header.database == database && header.sequence == number {
                        let declared = header.previous;
                        if let Some(mut before) = before.replace(reader) {
                            scan.segment(&mut before, Some(declared), (dirs, &headless), &mut broken, take)?;
                        }
                        continue;
                    }
                    if header.database != database && is_own {
                        // CKP-10: it is in nobody's way, unless the segment of that number is missed.
                        let (found, expected) = (header.database, database);
                        strangers.push((number, LogError::OtherDatabase { path, found, expected }));
                        continue;
                    }
                    let what = format!("its header is that of segment {}", header.sequence);
                    let (remains, unreadable) = remains_of(vfs, &path)?;
                    (Damage::new(&path, 0, Lsn::ZERO, what), remains, unreadable)
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
        if let Some(mut last) = before {
            cut_short = scan.segment(&mut last, None, (dirs, &headless), &mut broken, take)?;
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
        if let Some(first) = scan.segments.first()
            && scan.incarnation < known.incarnation
            && !matches!(scan.tail, Tail::Corrupt { .. })
        {
            // No segment of the last opening is there, and none is missed: it is the log of another history, and nothing in it follows from what
            // the manifest names.
            let what = format!("the log ends with opening {} of the database", scan.incarnation);
            let damage = Damage::new(&first.path, 0, first.header.first_lsn, what);
            let evidence = format!("there was opening {}, and each leaves a segment", known.incarnation);
            scan.last_lsn = Lsn(first.header.first_lsn.0.saturating_sub(1));
            scan.before_tail = 0;
            scan.end_with(damage, evidence);
        }
        let (marked, salt) = known.mark;
        let is_other =
            |segment: &ScannedSegment| segment.header.sequence == marked && segment.header.salt != salt;
        if let Some(at) = scan.segments.iter().position(is_other)
            && !matches!(scan.tail, Tail::Corrupt { .. })
        {
            // The database was put back from a copy, and this is what it wrote in its other life.
            let other = &scan.segments[at];
            let first = other.header.first_lsn;
            let damage = Damage::new(&other.path, 0, first, "the segment is another one of that number");
            scan.last_lsn = Lsn(first.0.saturating_sub(1));
            scan.before_tail = at;
            scan.end_with(damage, "the manifest knows its salt".into());
        }
        let durable = known.durable;
        if scan.tail == Tail::Clean && durable > scan.last_lsn {
            let dir = own.unwrap_or(Path::new(""));
            scan.goes_on(dir, format!("LSN {durable} is known to have been durable"));
        } else if let Tail::Torn { damage, .. } = &scan.tail
            && durable >= damage.lsn
        {
            scan.end_with(damage.clone(), format!("LSN {durable} is known to have been durable"));
        }
        scan.seen_lsn = scan.seen_lsn.max(scan.last_lsn);
        let is_missed = |number: u64| scan.misses(number, &headless, known);
        let strangers: Vec<LogError> = strangers
            .into_iter()
            .filter_map(|(number, stranger)| is_missed(number).then_some(stranger))
            .collect();
        scan.tell_missing(&headless);
        Ok((scan, strangers))
    }

    /// Whether a segment of that number, where there is none of this log, is one that was there.
    fn misses(&self, number: u64, headless: &[Headless], known: Known) -> bool {
        let Some((first, last)) = self.segments.first().zip(self.segments.last()) else { return true };
        let prepared = headless.iter().map(|file| file.number).max().unwrap_or(0);
        let end = last.header.sequence.max(known.next_segment.saturating_sub(1)).max(prepared);
        let is_within = number > first.header.sequence && number <= end;
        number <= first.header.previous.segment || (is_within && matches!(self.tail, Tail::Corrupt { .. }))
    }

    /// Says that there was more than this log has, which lies in `dir`, by what `evidence`: where it ends something is lost.
    pub fn goes_on(&mut self, dir: &Path, evidence: String) {
        let (path, offset) = self.whole().last().map_or((dir, 0), |last| (&*last.path, last.end.offset));
        let damage = Damage::new(path, offset, self.expected(), "the log ends here");
        self.end_with(damage, evidence);
    }

    fn end_with(&mut self, damage: Damage, evidence: String) {
        self.lose(damage.clone(), evidence.clone());
        self.tail = corrupt(damage, evidence);
    }

    /// What comes next.
    fn expected(&self) -> Lsn {
        if self.segments.is_empty() { self.after.next() } else { self.last_lsn.next() }
    }

    /// The segments before the tail, the one that it is in included: what comes after a loss was made for another state than what is left
    /// before it, and is no part of any past (REC-16).
    pub fn whole(&self) -> &[ScannedSegment] {
        &self.segments[..self.before_tail]
    }

    /// Judges what is behind the last segment with a header: nothing, a beginning that was never durable, or damage (REC-13). Of a
    /// file before that the chain says whether it is missed.
    fn judge_headless(
        &mut self,
        dirs: &[LogDir<'_>],
        headless: &[Headless],
        known: Known,
        broken: &mut Option<Tail>,
    ) {
        let last = self.segments.last().map_or(0, |segment| segment.header.sequence);
        let expected = self.expected();
        let behind = || headless.iter().filter(|file| file.number > last);
        // A segment is prepared, and all zeros, once the one before has its header. Where that one is missing, a bit that flipped in these zeros
        // makes them no stranger's file.
        let is_next = |file: &Headless| file.number == last + 2 && !file.remains.has_records;
        let is_prepared = |file: &&Headless| file.bytes > 0 && (file.remains.blank || is_next(file));
        // Of segments that followed one another all but the last had transactions.
        let is_shown =
            |number: u64| number != last + 1 || number == known.mark.0 || known.durable >= expected;
        let lost = |damage: Damage, evidence, shown| Tail::Corrupt {
            first_lost: damage.lsn,
            damage,
            evidence,
            shown,
        };
        let prepared = behind().rfind(is_prepared);
        for file in behind() {
            let damage = Damage { lsn: expected, ..file.damage.clone() };
            let evidence = match prepared {
                Some(prepared) if prepared.number > file.number => {
                    format!("{} was prepared after it had one", prepared.damage.path.display())
                }
                _ if file.number < known.next_segment => "it is known to have been there".into(),
                // Far behind the end of the log, it is a file of somebody else's.
                _ if file.remains.has_records && file.number == last + 1 => {
                    "there is something behind it, and a header is durable before any record".into()
                }
                _ if file.remains.blank || file.number > last + 1 => continue,
                _ => {
                    self.judge(Tail::Torn { damage, bytes: file.bytes, incomplete: None }, broken);
                    continue;
                }
            };
            let has_transactions = file.remains.has_records && !file.remains.closed_empty;
            self.judge(lost(damage, evidence, has_transactions || is_shown(file.number)), broken);
        }
        let missing = match prepared {
            Some(prepared) if prepared.number > last + 1 => prepared.number - 1,
            _ => known.next_segment.saturating_sub(1),
        };
        if missing > last && !headless.iter().any(|file| file.number == missing) {
            let damage = Damage { lsn: expected, ..missed(missing, dirs, headless) };
            self.judge(lost(damage, "it was there, with its header".into(), is_shown(missing)), broken);
        }
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
        (dirs, headless): (&[LogDir<'_>], &[Headless]),
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

    /// Judges by what is behind it whether what is missing at the end of the last segment had been durable, and says whether anything is missing.
    fn judge_tail(
        &mut self,
        reader: &SegmentReader,
        walked: &Walked,
        stop: Damage,
        behind: &Behind,
        broken: &mut Option<Tail>,
    ) -> bool {
        let expected = walked.end.last_lsn.next();
        self.seen_lsn = self.seen_lsn.max(behind.seen);
        let proof = behind.durable;
        if proof >= expected {
            let evidence = format!("a record after the break says that LSN {proof} had been durable");
            self.judge(corrupt(stop, evidence), broken);
            return true;
        }
        let is_torn = behind.leftovers || walked.incomplete.is_some() || !walked.blank;
        if is_torn && behind.not_given {
            let evidence = "the disk does not give what is behind it, which may tell";
            self.judge(corrupt(stop, evidence.into()), broken);
        } else if is_torn {
            let bytes = reader.file_len().saturating_sub(walked.end.offset);
            let damage = Damage { offset: walked.end.offset, lsn: expected, ..stop };
            self.judge(Tail::Torn { damage, bytes, incomplete: walked.incomplete }, broken);
        } else {
            return false;
        }
        true
    }

    /// The first break counts.
    fn judge(&mut self, tail: Tail, broken: &mut Option<Tail>) {
        if let Tail::Corrupt { damage, evidence, .. } = &tail {
            self.lose(damage.clone(), evidence.clone());
        }
        match broken {
            None => *broken = Some(tail),
            // A torn end that is followed by anything at all was no torn end.
            Some(Tail::Torn { .. }) if matches!(tail, Tail::Corrupt { .. }) => *broken = Some(tail),
            Some(_) => {}
        }
    }
}

/// What is behind the end of a walk.
#[derive(Default)]
struct Behind {
    /// Bytes that are not zero.
    leftovers: bool,
    /// The highest LSN that a group there says to have been durable.
    durable: Lsn,
    /// The highest LSN of a transaction there.
    seen: Lsn,
    /// The medium does not give all of it.
    not_given: bool,
}

impl Behind {
    fn look(reader: &mut SegmentReader, from: u64) -> Result<Behind> {
        reader.pass_over();
        let leftovers = reader.first_nonzero(from)?.is_some();
        let mut behind = Behind { leftovers, ..Behind::default() };
        let mut at = from;
        while let Some(found) = reader.resync(at)? {
            behind.leftovers = true;
            let Ok(frame) = reader.frame(found, u64::MAX) else { break };
            match frame.header.kind {
                GROUP | CLOSE | FOLLOWED => {
                    if let Some(info) = GroupInfo::decode(frame.payload) {
                        behind.durable = behind.durable.max(Lsn(info.durable));
                    }
                }
                _ => behind.seen = behind.seen.max(Lsn(frame.header.sequence)),
            }
            at = frame.end;
        }
        behind.not_given = reader.has_passed_over();
        Ok(behind)
    }
}

/// A file that has the name of a segment.
enum Found {
    Segment(SegmentReader),
    /// What is wrong with its header, what is left of it, and whether the disk would not give it: it may the next time.
    Headless(Damage, Remains, bool),
}

fn look_at(vfs: &dyn Vfs, path: &Path) -> Result<Found> {
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
fn is_followed_now(vfs: &dyn Vfs, last: &ScannedSegment) -> bool {
    let number = last.header.sequence + 1;
    let path = last.path.with_file_name(FileKind::Segment.name(number));
    matches!(SegmentReader::open(vfs, &path), Ok(Some(next)) if next.header().previous == last.end
        && next.header().database == last.header.database && next.header().sequence == number)
}

/// What is left of a file without a valid header, and whether the disk would not give it: then it may have anything in it.
fn remains_of(vfs: &dyn Vfs, path: &Path) -> Result<(Remains, bool)> {
    match SegmentReader::without_header(vfs, path) {
        Ok(remains) => Ok((remains, false)),
        Err(e) if e.is_damage() => {
            Ok((Remains { blank: false, has_records: true, closed_empty: false, seen: Lsn::ZERO }, true))
        }
        Err(e) => Err(e),
    }
}

fn corrupt(damage: Damage, evidence: String) -> Tail {
    let first_lost = damage.lsn;
    Tail::Corrupt { damage, first_lost, evidence, shown: true }
}
