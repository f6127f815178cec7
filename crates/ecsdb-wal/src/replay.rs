//! Replay: the transactions of a scanned log, whole and in order.

use ecsdb_io::Vfs;

use crate::error::{LogError, Result};
use crate::format::{CONTINUES, GROUP, GroupInfo, PAGE, TRANSACTION};
use crate::reader::{Damage, NoFrame, SegmentReader};
use crate::scan::LogScan;
use crate::tail::Tail;
use ecsdb_id::Lsn;

/// A logged transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// Its number.
    pub lsn: Lsn,
    /// When its group was written, in nanoseconds since 1970-01-01 UTC.
    pub unix_ns: u64,
}

/// Gives the transactions of a log one after another. Nothing behind a loss is ever given: where it comes to one, that is an error (REC-16).
#[derive(Debug)]
pub struct Replay<'a> {
    vfs: &'a dyn Vfs,
    scan: &'a LogScan,
    after: Lsn,
    to: Lsn,
    /// The last one that was given.
    last: Lsn,
    segment: usize,
    reader: Option<SegmentReader>,
    at: u64,
    unix_ns: u64,
    bytes_done: u64,
}

impl<'a> Replay<'a> {
    /// The transactions with an LSN above `after`, up to and with `to`.
    pub fn new(vfs: &'a dyn Vfs, scan: &'a LogScan, after: Lsn, to: Lsn) -> Self {
        let last = after;
        Replay { vfs, scan, after, to, last, segment: 0, reader: None, at: PAGE, unix_ns: 0, bytes_done: 0 }
    }

    /// Bytes of log read so far, and in all.
    pub fn progress(&self) -> (u64, u64) {
        let total = self.scan.whole().iter().map(|segment| segment.end.offset).sum();
        // Before the first look at a segment, and at the end, nothing of one is read.
        (self.bytes_done + self.reader.as_ref().map_or(0, |_| self.at), total)
    }

    /// The next transaction, whose bytes are appended to `payload`: there is no other copy of them in memory. `None` at the end. A segment in
    /// which nothing is above the start is not read.
    ///
    /// # Errors
    /// [`LogError::Lost`] when one of those that were asked for is, or may be; when a file cannot be read, or is no more what it was when it was
    /// scanned.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Transaction>> {
        while self.last < self.to {
            let Some(segment) = self.scan.whole().get(self.segment) else { return self.end() };
            if self.at >= segment.end.offset || segment.end.last_lsn <= self.after {
                self.bytes_done += segment.end.offset;
                self.segment += 1;
                self.reader = None;
                self.at = PAGE;
                continue;
            }
            let changed =
                |lsn, what: String| LogError::Damaged(Damage::new(&segment.path, self.at, lsn, what));
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let reader = SegmentReader::open(self.vfs, &segment.path)?
                        .ok_or_else(|| changed(segment.header.first_lsn, "the header is gone".into()))?;
                    none.insert(reader)
                }
            };
            let frame = match reader.frame(self.at, segment.end.offset) {
                Ok(frame) => frame,
                Err(NoFrame::Failed(e)) => return Err(e),
                Err(NoFrame::Damaged(damage)) => return Err(changed(Lsn::ZERO, damage.to_string())),
            };
            self.at = frame.end;
            let lsn = Lsn(frame.header.sequence);
            match frame.header.kind {
                GROUP => {
                    if let Some(info) = GroupInfo::decode(frame.payload) {
                        self.unix_ns = info.unix_ns;
                    }
                }
                // LSNs between two openings were never anything.
                TRANSACTION if lsn > self.to => break,
                TRANSACTION if lsn > self.after => {
                    payload.extend_from_slice(frame.payload);
                    if frame.header.flags & CONTINUES == 0 {
                        self.last = lsn;
                        return Ok(Some(Transaction { lsn, unix_ns: self.unix_ns }));
                    }
                }
                _ => {}
            }
        }
        self.last = self.to;
        Ok(None)
    }

    fn end(&self) -> Result<Option<Transaction>> {
        match &self.scan.tail {
            Tail::Corrupt { damage, first_lost, evidence, shown } if *first_lost <= self.to => {
                let (damage, evidence) = (Box::new(damage.clone()), evidence.clone());
                Err(LogError::Lost { first: *first_lost, damage, evidence, shown: *shown })
            }
            _ => Ok(None),
        }
    }
}
