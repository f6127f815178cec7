//! Writing segments: frames, whole pages, rotation. One thread at a time is in here, whoever leads.

use std::io::IoSlice;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ecsdb_io::frame::{self, FrameHeader, HEADER_LEN, frame_len};
use ecsdb_io::sync::Instant;
use ecsdb_io::{IoError, LARGE_BYTES, OpenMode, Vfs, VfsFile, checksum, checksum_append, publish, replace};

use crate::format::{
    CLOSE, CONTINUES, FOLLOWED, GROUP, GROUP_BYTES, GroupInfo, HEADER_BYTES, PACKED, PAGE, SegmentHeader,
    TRANSACTION, VERSION,
};
use crate::options::{LogOptions, LogStart, SegmentEnd};
use crate::packing::Packer;
use crate::prepare::{Fill, Preparer, SLICE_BYTES};
use crate::queue::{Entry, Queue};
use crate::scan::{LogScan, ScannedSegment};
use crate::stamps::Stamps;
use crate::stats::{Counters, add};
use ecsdb_id::Lsn;

/// Bytes of a segment at most, whatever the options say, but for a transaction that needs more.
const SEGMENT_BYTES_MAX: u64 = 1 << 40;

/// The end of the log.
pub(crate) struct Writer {
    vfs: Arc<dyn Vfs>,
    stamps: Arc<Stamps>,
    segment_bytes_max: u64,
    part_bytes_max: u64,
    preparer: Preparer,
    file: Arc<dyn VfsFile>,
    header: SegmentHeader,
    /// Bytes of the segment at most.
    limit: u64,
    salt: u32,
    /// Where the next frame begins.
    offset: u64,
    /// What the file has between the last page boundary and `offset`: written again with what follows, so that
    /// only whole pages are ever written, and none has to be read.
    tail: Vec<u8>,
    link: u32,
    /// The last transaction written.
    last: Lsn,
    /// Transactions in this segment, and when the first one was written, in nanoseconds since 1970-01-01 UTC.
    transactions: u64,
    began_unix_ns: u64,
    /// Bytes of large writes in this segment.
    large_bytes: u64,
    /// Written since the last sync.
    unsynced: bool,
    /// Nothing is written from here on but the end.
    closed: bool,
    /// The queue that is not in use.
    pub(crate) spare: Queue,
    packer: Packer,
    /// Headers of frames that have no room in the queue, and packed payloads.
    heads: Vec<u8>,
    pieces: Vec<Piece>,
    /// Bytes of all pieces.
    pending: u64,
}

/// A part of the write under way.
enum Piece {
    /// Of [`Writer::heads`].
    Head(Range<usize>),
    /// Of [`Queue::bytes`].
    Queued(Range<usize>),
    Shared(Bytes),
    Zeros(usize),
}

fn segment_bytes_max(max: u64) -> u64 {
    max.clamp(2 * PAGE, SEGMENT_BYTES_MAX).next_multiple_of(PAGE)
}

static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

impl Writer {
    /// Makes the first segment, durable when this returns.
    pub(crate) fn start(
        vfs: Arc<dyn Vfs>,
        stamps: Arc<Stamps>,
        dir: PathBuf,
        options: &LogOptions,
        start: LogStart,
        preparer: Preparer,
    ) -> Result<Self, IoError> {
        let bytes = options.segment_bytes_first.clamp(2 * PAGE, SEGMENT_BYTES_MAX).next_multiple_of(PAGE);
        let header = SegmentHeader {
            version: VERSION,
            database: start.database,
            incarnation: start.incarnation,
            sequence: start.segment,
            salt: vfs.random_u64() as u32,
            first_lsn: start.lsn,
            previous: start.previous,
            bytes,
            created_unix_ns: stamps.now(),
            prepared_bytes: bytes,
        };
        let path = dir.join(ecsdb_io::FileKind::Segment.name(start.segment));
        let make = |file: &Arc<dyn VfsFile>| {
            let mut slice = vec![0; bytes.min(SLICE_BYTES) as usize];
            slice[..HEADER_BYTES].copy_from_slice(&header.encode());
            for at in (0..bytes).step_by(SLICE_BYTES as usize) {
                file.write_at(&slice[..(bytes - at).min(SLICE_BYTES) as usize], at)?;
                slice[..HEADER_BYTES].fill(0);
            }
            Ok::<(), IoError>(())
        };
        // IO-1: a session that wrote nothing makes room for the next one. What holds anything is no place to start at.
        let is_empty = |there: &ScannedSegment| {
            there.header.database == start.database && there.end.last_lsn < there.header.first_lsn
        };
        let ((), file) = match LogScan::file(&*vfs, &path) {
            Ok(there) if is_empty(&there) => replace(&*vfs, &path, make)?,
            _ => publish(&*vfs, &path, make)?,
        };
        let mut packer = Packer::default();
        packer.set_level(options.compression);
        let mut writer = Writer {
            vfs,
            stamps,
            packer,
            segment_bytes_max: segment_bytes_max(options.segment_bytes_max).max(bytes),
            part_bytes_max: u64::from(options.part_bytes_max.max(1)),
            preparer,
            file,
            header,
            limit: bytes,
            salt: header.frame_salt(),
            offset: PAGE,
            tail: Vec::with_capacity(PAGE as usize),
            link: header.link(),
            last: Lsn(start.lsn.0 - 1),
            transactions: 0,
            began_unix_ns: 0,
            large_bytes: 0,
            unsynced: false,
            closed: false,
            spare: Queue::default(),
            heads: Vec::new(),
            pieces: Vec::new(),
            pending: 0,
        };
        writer.file.pass_cache_by();
        writer.prepare_next(Fill::Zeros);
        Ok(writer)
    }

    /// Segments have so many bytes at most from here on, the one under way included: what is beyond that already stays.
    pub(crate) fn set_segment_bytes_max(&mut self, max: u64) {
        self.segment_bytes_max = segment_bytes_max(max);
        self.limit = self.limit.min(self.segment_bytes_max);
    }

    /// Number and salt of the segment under way, and the LSN of its first transaction.
    pub(crate) fn mark(&self) -> ((u64, u32), Lsn) {
        ((self.header.sequence, self.header.salt), self.header.first_lsn)
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.limit
    }

    pub(crate) fn last(&self) -> Lsn {
        self.last
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// When the segment's first transaction was written, in nanoseconds since 1970-01-01 UTC; `None` without one.
    pub(crate) fn began_unix_ns(&self) -> Option<u64> {
        (self.transactions > 0).then_some(self.began_unix_ns)
    }

    /// Writes all of `queue`: one write, but for rotations on the way. Nothing is synced, but for segments that
    /// came to their end.
    pub(crate) fn write(
        &mut self,
        queue: &mut Queue,
        durable: Lsn,
        counters: &Counters,
    ) -> Result<(), IoError> {
        let mut lsn = queue.first;
        let mut next = 0;
        while next < queue.entries.len() {
            let (run, bytes) = self.fitting(queue, next);
            if run.is_empty() {
                self.rotate_for(bytes, lsn, counters)?;
                continue;
            }
            next = run.end;
            let first = lsn;
            lsn = Lsn(first.0 + run.len() as u64);
            // What takes time to make is written meanwhile.
            if bytes > self.part_bytes_max {
                self.write_while_made(queue, run, (first, durable), counters)?;
            } else {
                self.make(queue, run, (first, durable), &mut |_, _| {});
                self.put(queue, counters)?;
            }
        }
        let transactions = queue.entries.len() as u64;
        add(&counters.transactions, transactions);
        add(&counters.groups, 1);
        metrics::counter!("ecsdb_log_transactions_total").increment(transactions);
        Ok(())
    }

    /// Which transactions from `first` on have room in the segment, as one group, and how many bytes they take; where there is none, how many the
    /// first one needs. WAL-9: room for the frames that end the group and the segment is always kept. A transaction that no segment takes is the
    /// first of one that is as large as it needs.
    fn fitting(&self, queue: &Queue, first: usize) -> (Range<usize>, u64) {
        let mut bytes = GROUP_BYTES;
        for (i, entry) in queue.entries.iter().enumerate().skip(first) {
            let more = self.frames_len(entry.len);
            if self.offset + bytes + more + 2 * GROUP_BYTES > self.limit {
                return (first..i, if i == first { bytes + more } else { bytes });
            }
            bytes += more;
        }
        (first..queue.entries.len(), bytes)
    }

    /// Makes the frames of a group. `made` is called whenever some are, for the pieces.
    fn make(
        &mut self,
        queue: &mut Queue,
        run: Range<usize>,
        (first, durable): (Lsn, Lsn),
        made: &mut dyn FnMut(&mut Writer, &Queue),
    ) {
        let begun = self.offset;
        self.group(GROUP, first, durable);
        for (i, lsn) in run.zip(first.0..).map(|(i, lsn)| (i, Lsn(lsn))) {
            self.transaction(queue, queue.entries[i], lsn, made);
            made(self, queue);
            self.last = lsn;
            if self.transactions == 0 {
                self.began_unix_ns = self.stamps.now();
            }
            self.transactions += 1;
        }
        self.end_group(begun, self.last.next(), durable);
    }

    /// Says once more, behind a group that goes beyond the page it began in, what was durable: a page that is damaged takes the end of
    /// the group before and the head of this one with it, and there has to be a witness that the former was no torn write (REC-2).
    fn end_group(&mut self, begun: u64, next: Lsn, durable: Lsn) {
        if begun / PAGE != (self.offset + self.pending) / PAGE {
            self.group(GROUP, next, durable);
        }
    }

    /// Brings everything written to stable storage.
    pub(crate) fn sync(&mut self, counters: &Counters) -> Result<(), IoError> {
        add(&counters.syncs, 1);
        let started = Instant::now();
        self.file.sync_data()?;
        self.unsynced = false;
        metrics::histogram!("ecsdb_log_sync_seconds").record(started.elapsed());
        Ok(())
    }

    /// Large transactions are compressed by this level from here on, or not at all.
    pub(crate) fn set_compression(&mut self, level: Option<i32>) {
        self.packer.set_level(level);
    }

    /// Ends the segment, if it has transactions.
    pub(crate) fn rotate(&mut self, counters: &Counters) -> Result<(), IoError> {
        if self.transactions > 0 { self.rotate_for(0, self.last.next(), counters) } else { Ok(()) }
    }

    /// Ends the preparing of segments; nothing is rotated after this.
    pub(crate) fn stop_preparing(&mut self) -> Result<(), IoError> {
        self.closed = true;
        self.preparer.stop()
    }

    /// Whether its end has come.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Marks a clean end, so that later damage to the last transactions is told from a torn tail.
    pub(crate) fn close(&mut self, counters: &Counters) -> Result<(), IoError> {
        self.end(CLOSE, counters)?;
        // What was preallocated and not used is given back: now that the end is known to be one, and a shorter file is no loss.
        self.file.set_len(self.offset.next_multiple_of(PAGE))?;
        self.sync(counters)
    }

    /// Writes the segment's last frame; durable when this returns.
    fn end(&mut self, kind: u8, counters: &Counters) -> Result<(), IoError> {
        self.group(kind, self.last.next(), self.last);
        self.put(&Queue::default(), counters)?;
        self.sync(counters)
    }

    fn frames_len(&self, len: u64) -> u64 {
        let parts = len.div_ceil(self.part_bytes_max).max(1);
        let last = len - (parts - 1) * self.part_bytes_max;
        (parts - 1) * frame_len(self.part_bytes_max) + frame_len(last)
    }

    fn group(&mut self, kind: u8, lsn: Lsn, durable: Lsn) {
        let info = GroupInfo { unix_ns: self.stamps.now(), durable: durable.0 };
        let header = self.header(kind, 0, lsn);
        let start = self.heads.len();
        self.link = frame::write_frame(&mut self.heads, header, bytemuck::bytes_of(&info), self.salt);
        self.piece(Piece::Head(start..self.heads.len()), GROUP_BYTES);
    }

    fn header(&self, kind: u8, flags: u8, lsn: Lsn) -> FrameHeader {
        FrameHeader { len: 0, payload_sum: 0, link: self.link, sequence: lsn.0, kind, flags }
    }

    fn transaction(
        &mut self,
        queue: &mut Queue,
        entry: Entry,
        lsn: Lsn,
        made: &mut dyn FnMut(&mut Writer, &Queue),
    ) {
        let inline = entry.start + HEADER_LEN..entry.start + HEADER_LEN + entry.inline;
        let may_pack = self.packer.packs(entry.len);
        if entry.shared.0 == entry.shared.1 && entry.len <= self.part_bytes_max && !may_pack {
            // The frame lies in the queue as it will lie in the file: only its header is missing.
            let header = FrameHeader {
                len: entry.len as u32,
                payload_sum: checksum(self.salt, &queue.bytes[inline.clone()]),
                ..self.header(TRANSACTION, 0, lsn)
            };
            let bytes = header.encode(self.salt);
            self.link = frame::header_sum(&bytes);
            queue.bytes[entry.start..inline.start].copy_from_slice(&bytes);
            let len = header.frame_len();
            self.piece(Piece::Queued(entry.start..entry.start + len as usize), len);
            return;
        }
        // The payload as a stream of slices, cut into parts.
        let mut stream: Vec<Source> = Vec::new();
        let mut at = inline.start;
        for (offset, block) in &queue.shared[entry.shared.0..entry.shared.1] {
            stream.push(Source::Queued(at..*offset));
            stream.push(Source::Shared(block.clone()));
            at = *offset;
        }
        stream.push(Source::Queued(at..inline.end));
        stream.reverse();
        let mut left = entry.len;
        loop {
            let part = left.min(self.part_bytes_max);
            left -= part;
            let slices = take(&mut stream, part as usize);
            let flags = if left > 0 { CONTINUES } else { 0 };
            if may_pack && self.packed(&slices, queue, flags, lsn) {
                if left == 0 {
                    return;
                }
                made(self, queue);
                continue;
            }
            let mut sum = self.salt;
            for slice in &slices {
                sum = checksum_append(sum, slice.bytes(&queue.bytes));
            }
            let header =
                FrameHeader { len: part as u32, payload_sum: sum, ..self.header(TRANSACTION, flags, lsn) };
            let bytes = header.encode(self.salt);
            self.link = frame::header_sum(&bytes);
            let start = self.heads.len();
            self.heads.extend_from_slice(&bytes);
            self.piece(Piece::Head(start..self.heads.len()), HEADER_LEN as u64);
            for slice in slices {
                let len = slice.len() as u64;
                let piece = match slice {
                    Source::Queued(range) => Piece::Queued(range),
                    Source::Shared(block) => Piece::Shared(block),
                };
                self.piece(piece, len);
            }
            let padding = header.frame_len() - HEADER_LEN as u64 - part;
            self.piece(Piece::Zeros(padding as usize), padding);
            if left == 0 {
                return;
            }
            made(self, queue);
        }
    }

    /// A part as a packed frame, if it gets smaller by that.
    fn packed(&mut self, slices: &[Source], queue: &Queue, flags: u8, lsn: Lsn) -> bool {
        let header = self.header(TRANSACTION, flags | PACKED, lsn);
        let slices = slices.iter().map(|slice| slice.bytes(&queue.bytes));
        let Some(payload) = self.packer.pack(slices) else { return false };
        let start = self.heads.len();
        self.link = frame::write_frame(&mut self.heads, header, payload, self.salt);
        let end = self.heads.len();
        self.piece(Piece::Head(start..end), (end - start) as u64);
        true
    }

    /// Appends a piece to the write under way, as one with the piece before where they touch.
    fn piece(&mut self, piece: Piece, len: u64) {
        if len == 0 {
            return;
        }
        self.pending += len;
        match (self.pieces.last_mut(), &piece) {
            (Some(Piece::Queued(before)), Piece::Queued(next)) if before.end == next.start => {
                before.end = next.end
            }
            (Some(Piece::Head(before)), Piece::Head(next)) if before.end == next.start => {
                before.end = next.end
            }
            _ => self.pieces.push(piece),
        }
    }

    /// Writes the pieces: whole pages, from the one that the tail begins.
    fn put(&mut self, queue: &Queue, counters: &Counters) -> Result<(), IoError> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let mut written = Written::after(self.offset, std::mem::take(&mut self.tail));
        let tail = written.tail.clone();
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(self.pieces.len() + 2);
        slices.push(IoSlice::new(&tail));
        for piece in &self.pieces {
            let bytes = slice_of(piece, &self.heads, &queue.bytes);
            written.add(bytes);
            slices.push(IoSlice::new(bytes));
        }
        slices.push(IoSlice::new(written.padding()));
        self.unsynced = true;
        self.file.write_all_at(&mut slices, written.from)?;
        drop(slices);
        self.clear_pieces();
        self.goes_on_after(written, counters);
        Ok(())
    }

    /// The same of a group of which the first frames are on their way to the disk while the others are made: of large ones it takes as long to find the
    /// checksum as to write them.
    fn write_while_made(
        &mut self,
        queue: &mut Queue,
        run: Range<usize>,
        lsns: (Lsn, Lsn),
        counters: &Counters,
    ) -> Result<(), IoError> {
        let mut written = Written::after(self.offset, std::mem::take(&mut self.tail));
        self.unsynced = true;
        let file = Arc::clone(&self.file);
        file.write_while_made(written.from, &mut |push| {
            push(&written.tail);
            let mut made = |writer: &mut Writer, queue: &Queue| {
                for piece in &writer.pieces {
                    let bytes = slice_of(piece, &writer.heads, &queue.bytes);
                    written.add(bytes);
                    push(bytes);
                }
                writer.clear_pieces();
            };
            self.make(queue, run.clone(), lsns, &mut made);
            made(self, queue);
            push(written.padding());
        })?;
        self.goes_on_after(written, counters);
        Ok(())
    }

    fn clear_pieces(&mut self) {
        self.pieces.clear();
        self.heads.clear();
        self.heads.shrink_to(SLICE_BYTES as usize);
    }

    fn goes_on_after(&mut self, written: Written, counters: &Counters) {
        let bytes = written.end.next_multiple_of(PAGE) - written.from;
        if bytes >= LARGE_BYTES as u64 {
            self.large_bytes += bytes;
        }
        add(&counters.bytes_written, bytes);
        metrics::counter!("ecsdb_log_written_bytes_total").increment(bytes);
        (self.offset, self.tail, self.pending) = (written.end, written.tail, 0);
    }

    /// Goes on in a new segment with room for `needed` bytes of frames. The old one is synced first, so that damage anywhere but in the
    /// last segment is never a torn tail, and so is the header before any record: one that is missing with records behind it, or with
    /// a segment prepared after it, is damage; and so is a missing segment that the one before says to have been there (REC-2, REC-13).
    fn rotate_for(&mut self, needed: u64, first_lsn: Lsn, counters: &Counters) -> Result<(), IoError> {
        if self.unsynced {
            self.sync(counters)?;
        }
        let bytes = self.next_bytes();
        let sequence = self.header.sequence + 1;
        // What is to come is taken to be as what came.
        let fill = if self.large_bytes > self.offset / 2 { Fill::Room } else { Fill::Zeros };
        let (prepared, late) = self.preparer.take(sequence, bytes, fill)?;
        add(&counters.segments, 1);
        add(&counters.segments_late, u64::from(late));
        let previous = SegmentEnd {
            segment: self.header.sequence,
            last_lsn: self.last,
            offset: self.offset,
            link: self.link,
        };
        // Written without a detour from here on, however it was prepared.
        let file = self.vfs.open(&prepared.path, OpenMode::ReadWrite)?;
        file.pass_cache_by();
        let limit = bytes.max((PAGE + needed + 2 * GROUP_BYTES).next_multiple_of(PAGE));
        // WAL-10: in its whole length, also where it was made in a hurry or has to hold more than was foreseen: a file that is shorter than its header
        // says was cut. And so before the header is there, which may be durable by itself.
        if file.len()? < limit {
            file.reserve(limit)?;
            file.sync_data()?;
        }
        let header = SegmentHeader {
            sequence,
            salt: self.vfs.random_u64() as u32,
            first_lsn,
            previous,
            bytes: limit,
            created_unix_ns: self.stamps.now(),
            prepared_bytes: file.len()?,
            ..self.header
        };
        let mut page = header.encode().to_vec();
        page.resize(PAGE as usize, 0);
        file.write_at(&page, 0)?;
        file.sync_data()?;
        // Before any record: whatever becomes of the new segment, the old one knows of it.
        self.end(FOLLOWED, counters)?;
        (self.file, self.header, self.limit) = (file, header, limit);
        self.salt = self.header.frame_salt();
        self.link = self.header.link();
        self.transactions = 0;
        self.offset = PAGE;
        self.tail.clear();
        self.large_bytes = 0;
        self.prepare_next(fill);
        Ok(())
    }

    fn next_bytes(&self) -> u64 {
        self.limit.saturating_mul(2).min(self.segment_bytes_max)
    }

    fn prepare_next(&mut self, fill: Fill) {
        self.preparer.request(self.header.sequence + 1, self.next_bytes(), fill);
    }
}

/// How far a write goes.
struct Written {
    /// The page that it begins with.
    from: u64,
    /// Where the last frame ends.
    end: u64,
    /// What there is from the last page boundary to there.
    tail: Vec<u8>,
}

impl Written {
    /// A write that goes on at `end`, where `tail` is what its page has by now.
    fn after(end: u64, tail: Vec<u8>) -> Written {
        Written { from: end - tail.len() as u64, end, tail }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let kept = (self.end % PAGE) as usize;
        if kept <= bytes.len() {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - kept..]);
        } else {
            self.tail.extend_from_slice(bytes);
        }
    }

    /// The rest of the last page.
    fn padding(&self) -> &'static [u8] {
        &ZEROS[..(self.end.next_multiple_of(PAGE) - self.end) as usize]
    }
}

fn slice_of<'a>(piece: &'a Piece, heads: &'a [u8], queued: &'a [u8]) -> &'a [u8] {
    match piece {
        Piece::Head(range) => &heads[range.clone()],
        Piece::Queued(range) => &queued[range.clone()],
        Piece::Shared(block) => block,
        Piece::Zeros(n) => &ZEROS[..*n],
    }
}

/// A slice of a transaction's payload.
enum Source {
    Queued(Range<usize>),
    Shared(Bytes),
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Source::Queued(range) => range.len(),
            Source::Shared(block) => block.len(),
        }
    }

    fn bytes<'a>(&'a self, queued: &'a [u8]) -> &'a [u8] {
        match self {
            Source::Queued(range) => &queued[range.clone()],
            Source::Shared(block) => block,
        }
    }

    fn split_off_front(&mut self, n: usize) -> Source {
        match self {
            Source::Queued(range) => {
                let front = range.start..range.start + n;
                range.start += n;
                Source::Queued(front)
            }
            Source::Shared(block) => Source::Shared(block.split_to(n)),
        }
    }
}

/// Takes `n` bytes off the front of a stream that is stored back to front.
fn take(stream: &mut Vec<Source>, mut n: usize) -> Vec<Source> {
    let mut taken = Vec::new();
    while n > 0 {
        let Some(mut source) = stream.pop() else { break };
        if source.len() > n {
            taken.push(source.split_off_front(n));
            stream.push(source);
            break;
        }
        n -= source.len();
        if source.len() > 0 {
            taken.push(source);
        }
    }
    taken
}
