//! The end of the log, judged.
//!
//! A torn tail is what a crash leaves of a write that was not synced; damage anywhere else is loss of something that was
//! durable. The two are told apart by proof: a segment that a later one follows was synced, and so was the header of one that has
//! records, or after which another was prepared, or that the segment before says to have been there; no file is shorter than it was made; and a frame that still
//! validates after a break says, at its group's head or end, up to which LSN everything was durable when it was written. Valid
//! frames after a break alone prove nothing: un-synced sectors reach the disk in any order.

use std::path::Path;

use ecsdb_id::Lsn;

use crate::error::Result;
use crate::files::LogDir;
use crate::format::{CLOSE, FOLLOWED, GROUP, GroupInfo};
use crate::losses::{Headless, missed};
use crate::reader::{Damage, SegmentReader};
use crate::scan::{Known, LogScan};
use crate::walk::Walked;

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

impl LogScan {
    /// Whether a segment of that number, where there is none of this log, is one that was there.
    pub(crate) fn misses(&self, number: u64, headless: &[Headless], known: Known) -> bool {
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

    pub(crate) fn end_with(&mut self, damage: Damage, evidence: String) {
        self.lose(damage.clone(), evidence.clone());
        self.tail = corrupt(damage, evidence);
    }

    /// What comes next.
    fn expected(&self) -> Lsn {
        if self.segments.is_empty() { self.after.next() } else { self.last_lsn.next() }
    }

    /// Judges what is behind the last segment with a header: nothing, a beginning that was never durable, or damage (REC-13). Of a
    /// file before that the chain says whether it is missed.
    pub(crate) fn judge_headless(
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

    /// Judges by what is behind it whether what is missing at the end of the last segment had been durable, and says whether anything is missing.
    pub(crate) fn judge_tail(
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
    pub(crate) fn judge(&mut self, tail: Tail, broken: &mut Option<Tail>) {
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
pub(crate) struct Behind {
    /// Bytes that are not zero.
    pub(crate) leftovers: bool,
    /// The highest LSN that a group there says to have been durable.
    durable: Lsn,
    /// The highest LSN of a transaction there.
    seen: Lsn,
    /// The medium does not give all of it.
    not_given: bool,
}

impl Behind {
    pub(crate) fn look(reader: &mut SegmentReader, from: u64) -> Result<Behind> {
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

pub(crate) fn corrupt(damage: Damage, evidence: String) -> Tail {
    let first_lost = damage.lsn;
    Tail::Corrupt { damage, first_lost, evidence, shown: true }
}
