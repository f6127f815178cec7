//! Reading a segment frame by frame, through a bounded window; no length is believed before its checksum (REC-1).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_io::frame::{ALIGN, FrameDamage, FrameHeader, HEADER_LEN, frame_len, header_sum};
use ecsdb_io::{OpenMode, Vfs, VfsFile, patiently, seekable};

use crate::error::{LogError, Result};
use crate::format::{CLOSE, GROUP_BYTES, HEADER_BYTES, PACKED, PAGE, SegmentHeader, TRANSACTION};
use crate::packing::unpack;
use ecsdb_id::Lsn;

/// Bytes read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// Damage in a segment: which file, where, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {offset}{}: {what}", path.display(), expected(*lsn))]
pub struct Damage {
    /// The segment file.
    pub path: PathBuf,
    /// Byte in it.
    pub offset: u64,
    /// The transaction that should be there; 0 when that is not known.
    pub lsn: Lsn,
    /// What is wrong.
    pub what: String,
}

fn expected(lsn: Lsn) -> String {
    if lsn == Lsn::ZERO { String::new() } else { format!(", where LSN {lsn} was expected") }
}

impl Damage {
    pub(crate) fn new(path: &Path, offset: u64, lsn: Lsn, what: impl Into<String>) -> Self {
        Damage { path: path.into(), offset, lsn, what: what.into() }
    }
}

/// A verified frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    /// Unpacked.
    pub(crate) payload: &'a [u8],
    /// As it lies in the file.
    pub(crate) raw: &'a [u8],
    /// Where the next one begins.
    pub(crate) end: u64,
    /// Its header checksum: what the next one links to.
    pub(crate) sum: u32,
}

/// Why there is no frame.
#[derive(Debug)]
pub(crate) enum NoFrame {
    Damaged(FrameDamage),
    Failed(LogError),
}

/// What is left of a segment without a valid header.
#[derive(Debug)]
pub(crate) struct Remains {
    /// All zeros, or nothing at all.
    pub(crate) blank: bool,
    /// Something is behind the header's page.
    pub(crate) has_records: bool,
    /// What is there is the clean end of a segment without a transaction.
    pub(crate) closed_empty: bool,
    /// The highest LSN of a transaction.
    pub(crate) seen: Lsn,
}

/// A segment open for reading.
#[derive(Debug)]
pub struct SegmentReader {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    header: SegmentHeader,
    salt: u32,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
    /// The payload of a frame that was packed.
    unpacked: Vec<u8>,
    /// What is not given, where something is looked for, is passed over.
    passes_over: bool,
    passed_over: bool,
}

impl SegmentReader {
    /// Opens a segment, compressed or not, and verifies its header. `None` when the file was prepared and never used: its header is blank
    /// or not even there.
    ///
    /// # Errors
    /// When the file cannot be read, its header is damaged or of a newer version.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Option<SegmentReader>> {
        let (file, len, head) = SegmentReader::head(vfs, path)?;
        if head == [0; HEADER_BYTES] {
            return Ok(None);
        }
        let header = SegmentHeader::decode(path, &head)?;
        Ok(Some(SegmentReader::new(file, path, Some(header), header.frame_salt(), len)))
    }

    /// Looks through a file whose header does not validate, or is blank: what lies behind it, and the highest LSN of a frame that still
    /// validates, if the part of the header is left that their checksums start from.
    pub(crate) fn without_header(vfs: &dyn Vfs, path: &Path) -> Result<Remains> {
        let (file, len, head) = SegmentReader::head(vfs, path)?;
        let salt = SegmentHeader::salt_of_damaged(&head);
        let mut reader = SegmentReader::new(file, path, None, salt, len);
        let first = reader.first_nonzero(0)?;
        // Of a record's header the first eight bytes and the third eight are not zero: less than that is a bit that flipped.
        let has_records = match reader.first_nonzero(PAGE)? {
            Some(at) => reader.first_nonzero((at + 1).next_multiple_of(ALIGN as u64))?.is_some(),
            None => false,
        };
        let mut remains =
            Remains { blank: first.is_none(), has_records, closed_empty: false, seen: Lsn::ZERO };
        let mut at = PAGE;
        // Zeros are no frames, and a prepared segment is all zeros.
        while has_records && let Some(found) = reader.resync(at)? {
            let Ok(frame) = reader.frame(found, u64::MAX) else { break };
            remains.closed_empty |= found == PAGE && frame.header.kind == CLOSE;
            if frame.header.kind == TRANSACTION {
                remains.seen = remains.seen.max(Lsn(frame.header.sequence));
            }
            at = frame.end;
        }
        Ok(remains)
    }

    fn head(vfs: &dyn Vfs, path: &Path) -> Result<(Arc<dyn VfsFile>, u64, [u8; HEADER_BYTES])> {
        patiently(LogError::is_of_the_medium, || SegmentReader::head_once(vfs, path))
    }

    fn head_once(vfs: &dyn Vfs, path: &Path) -> Result<(Arc<dyn VfsFile>, u64, [u8; HEADER_BYTES])> {
        let mut file = vfs.open(path, OpenMode::Read)?;
        if path.extension().is_some_and(|extension| extension == "zst") {
            file = seekable::open(file).map_err(|e| match e.is_of_the_medium() || !e.is_of_the_file() {
                true => LogError::from(e),
                false => Damage::new(path, 0, Lsn::ZERO, format!("it does not decompress: {e}")).into(),
            })?;
        }
        let len = file.len()?;
        let mut head = [0; HEADER_BYTES];
        let there = len.min(HEADER_BYTES as u64) as usize;
        file.read_exact_at(&mut head[..there], 0)?;
        Ok((file, len, head))
    }

    fn new(
        file: Arc<dyn VfsFile>,
        path: &Path,
        header: Option<SegmentHeader>,
        salt: u32,
        len: u64,
    ) -> SegmentReader {
        // A damaged header is never asked for.
        let header = header.unwrap_or_else(SegmentHeader::unknown);
        SegmentReader {
            file,
            path: path.into(),
            header,
            salt,
            len,
            window: Vec::new(),
            window_at: 0,
            unpacked: Vec::new(),
            passes_over: false,
            passed_over: false,
        }
    }

    /// The segment's header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// The frame at `offset`, if it ends by `end`.
    pub(crate) fn frame(&mut self, offset: u64, end: u64) -> Result<Frame<'_>, NoFrame> {
        let salt = self.salt;
        let end = end.min(self.len);
        let room = end.saturating_sub(offset);
        let head = self.bytes(offset, room.min(HEADER_LEN as u64))?;
        let header = FrameHeader::decode(head, salt).map_err(NoFrame::Damaged)?;
        let sum = head.first_chunk().map_or(0, header_sum);
        let available = room - HEADER_LEN as u64;
        if u64::from(header.len) > available {
            return Err(NoFrame::Damaged(FrameDamage::PayloadCut { len: header.len, available }));
        }
        let payload = self.fill(offset + HEADER_LEN as u64, u64::from(header.len))?;
        let raw = &self.window[payload];
        let mut payload = raw;
        header.verify(payload, salt).map_err(NoFrame::Damaged)?;
        if header.kind == TRANSACTION && header.flags & PACKED != 0 {
            unpack(payload, &mut self.unpacked).map_err(NoFrame::Damaged)?;
            payload = &self.unpacked;
        }
        Ok(Frame { header, payload, raw, end: offset + frame_len(u64::from(header.len)), sum })
    }

    /// Whether there is a frame at `offset`, read once more.
    pub(crate) fn reread(&mut self, offset: u64) -> bool {
        self.window.clear();
        self.frame(offset, u64::MAX).is_ok()
    }

    /// From here on what the medium does not give, where something is looked for, is passed over.
    pub(crate) fn pass_over(&mut self) {
        (self.passes_over, self.passed_over) = (true, false);
    }

    /// Whether anything was.
    pub(crate) fn has_passed_over(&self) -> bool {
        self.passed_over
    }

    /// Whether to go on behind what failed.
    fn passes(&mut self, e: &LogError) -> bool {
        let passes = self.passes_over && e.is_damage();
        self.passed_over |= passes;
        passes
    }

    /// The first offset from `offset` on at which a frame validates, header and payload. Reads the rest of the file.
    pub(crate) fn resync(&mut self, offset: u64) -> Result<Option<u64>> {
        let mut at = offset.max(PAGE).next_multiple_of(ALIGN as u64);
        while at + (HEADER_LEN as u64) <= self.len {
            match self.frame(at, self.len).map(drop) {
                Ok(()) => return Ok(Some(at)),
                Err(NoFrame::Failed(e)) if self.passes(&e) => at = (at + 1).next_multiple_of(PAGE),
                Err(NoFrame::Failed(e)) => return Err(e),
                Err(NoFrame::Damaged(FrameDamage::Blank)) => {
                    // A frame is not all zeros: the next one begins less than a header before what is not.
                    let Some(written) = self.first_nonzero(at)? else { return Ok(None) };
                    at = (written + 1 - HEADER_LEN as u64).next_multiple_of(ALIGN as u64);
                }
                Err(NoFrame::Damaged(_)) => at += ALIGN as u64,
            }
        }
        Ok(None)
    }

    /// Where the segment was closed, and its last frame's header checksum: a close frame is the last one in the file. Reads the file's last page.
    pub(crate) fn closed_at(&mut self) -> Result<Option<(u64, u32)>> {
        self.pass_over();
        let mut at = self.len.saturating_sub(PAGE + GROUP_BYTES);
        while let Some(found) = self.resync(at)? {
            let Ok(frame) = self.frame(found, u64::MAX) else { break };
            if frame.header.kind == CLOSE {
                return Ok(Some((frame.end, frame.sum)));
            }
            at = frame.end;
        }
        Ok(None)
    }

    /// Whether of what the medium gives anything from `offset` on is not zero.
    pub(crate) fn has_given_behind(&mut self, offset: u64) -> Result<bool> {
        self.pass_over();
        Ok(self.first_nonzero(offset)?.is_some())
    }

    /// The first byte from `offset` on that is not zero, if any.
    pub(crate) fn first_nonzero(&mut self, offset: u64) -> Result<Option<u64>> {
        let mut at = offset;
        let mut at_once = WINDOW_BYTES;
        while at < self.len {
            let n = (self.len - at).min(at_once);
            let found = match self.bytes(at, n).map(ecsdb_io::first_nonzero) {
                Ok(found) => found,
                Err(NoFrame::Failed(e)) if n > PAGE && self.passes(&e) => {
                    at_once = PAGE;
                    continue;
                }
                Err(NoFrame::Failed(e)) if self.passes(&e) => None,
                Err(NoFrame::Failed(e)) => return Err(e),
                Err(NoFrame::Damaged(_)) => None,
            };
            if let Some(i) = found {
                return Ok(Some(at + i as u64));
            }
            at += n;
        }
        Ok(None)
    }

    /// `n` bytes at `offset`, which the caller has held against the file's length.
    fn bytes(&mut self, offset: u64, n: u64) -> Result<&[u8], NoFrame> {
        let here = self.fill(offset, n)?;
        Ok(&self.window[here])
    }

    /// Where they are in the window.
    fn fill(&mut self, offset: u64, n: u64) -> Result<Range<usize>, NoFrame> {
        let within = offset >= self.window_at && offset + n <= self.window_at + self.window.len() as u64;
        if !within {
            let mut len = n.max(WINDOW_BYTES).min(self.len.saturating_sub(offset));
            // What is here already is not read again.
            let known = (offset.checked_sub(self.window_at)).map_or(0..0, |from| {
                let here = self.window.len();
                here.min(from as usize)..here
            });
            self.window.copy_within(known.clone(), 0);
            let known = known.len();
            self.window.resize(len as usize, 0);
            self.window_at = offset;
            let mut read = self.file.read_exact_at(&mut self.window[known..], offset + known as u64);
            if read.is_err() && n < len {
                // What lies behind need not be readable.
                len = n;
                self.window.truncate(n as usize);
                read = self.file.read_exact_at(&mut self.window[known..], offset + known as u64);
            }
            if let Err(e) = read {
                self.window.clear();
                return Err(NoFrame::Failed(e.into()));
            }
            // What comes next is read while this is verified and applied.
            self.file.will_need(offset + len, 4 * WINDOW_BYTES);
        }
        let start = (offset - self.window_at) as usize;
        Ok(start..start + n as usize)
    }
}
