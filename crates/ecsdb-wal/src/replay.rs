//! Replay: the transactions of a scanned log, whole and in order.

use ecsdb_io::Vfs;

use crate::error::{LogError, Result};
use crate::format::{CONTINUES, GROUP, GroupInfo, PAGE, TRANSACTION};
use crate::reader::{Damage, NoFrame, SegmentReader};
use crate::scan::LogScan;
use ecsdb_id::Lsn;

/// A logged transaction.
#[derive(Debug)]
pub struct Transaction<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// When its group was written, in nanoseconds since 1970-01-01 UTC.
    pub unix_ns: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// Gives the transactions of a log one after another.
#[derive(Debug)]
pub struct Replay<'a> {
    vfs: &'a dyn Vfs,
    scan: &'a LogScan,
    after: Lsn,
    segment: usize,
    reader: Option<SegmentReader>,
    at: u64,
    unix_ns: u64,
    payload: Vec<u8>,
    /// The payload was given out.
    given: bool,
    bytes_done: u64,
}

impl<'a> Replay<'a> {
    /// The transactions with an LSN above `after`, up to the end that the scan found in each segment.
    pub fn new(vfs: &'a dyn Vfs, scan: &'a LogScan, after: Lsn) -> Self {
        Replay {
            vfs,
            scan,
            after,
            segment: 0,
            reader: None,
            at: PAGE,
            unix_ns: 0,
            payload: Vec::new(),
            given: false,
            bytes_done: 0,
        }
    }

    /// Bytes of log read so far, and in all.
    pub fn progress(&self) -> (u64, u64) {
        let total = self.scan.segments.iter().map(|segment| segment.end.offset).sum();
        (self.bytes_done + self.at, total)
    }

    /// The next transaction, or `None` at the end. A segment in which nothing is above the start is not read.
    ///
    /// # Errors
    /// When a file cannot be read, or is no more what it was when it was scanned.
    #[expect(clippy::should_implement_trait, reason = "the transaction borrows from the replay")]
    pub fn next(&mut self) -> Result<Option<Transaction<'_>>> {
        loop {
            let Some(segment) = self.scan.segments.get(self.segment) else { return Ok(None) };
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
                TRANSACTION if lsn > self.after => {
                    // The payload given out last time ends where a new transaction begins.
                    if std::mem::take(&mut self.given) {
                        self.payload.clear();
                    }
                    self.payload.extend_from_slice(frame.payload);
                    if frame.header.flags & CONTINUES == 0 {
                        self.given = true;
                        return Ok(Some(Transaction { lsn, unix_ns: self.unix_ns, payload: &self.payload }));
                    }
                }
                _ => {}
            }
        }
    }
}
