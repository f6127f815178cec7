//! The queue: transactions in commit order, laid out as they will be written.

use bytes::Bytes;
use ecsdb_io::frame::{ALIGN, HEADER_LEN};

use crate::options::Payload;
use ecsdb_id::Lsn;

/// What was appended since the queue was last taken.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// For each transaction: room for a frame header, the inline bytes, and zeros up to the next multiple of 8.
    pub(crate) bytes: Vec<u8>,
    /// (offset in `bytes`, block), ascending.
    pub(crate) shared: Vec<(usize, Bytes)>,
    pub(crate) entries: Vec<Entry>,
    /// LSN of the first entry.
    pub(crate) first: Lsn,
    /// Bytes of all entries, shared blocks included.
    pub(crate) total: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Where its frame header is in [`Queue::bytes`].
    pub(crate) start: usize,
    /// Inline bytes.
    pub(crate) inline: usize,
    /// Range of its blocks in [`Queue::shared`].
    pub(crate) shared: (usize, usize),
    /// Payload bytes, blocks included.
    pub(crate) len: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, lsn: Lsn, payload: Payload<'_>, len: u64) {
        if self.entries.is_empty() {
            self.first = lsn;
        }
        let start = self.bytes.len();
        let end = (start + HEADER_LEN + payload.inline.len()).next_multiple_of(ALIGN);
        self.bytes.reserve(end - start);
        self.bytes.extend_from_slice(&[0; HEADER_LEN]);
        self.bytes.extend_from_slice(payload.inline);
        self.bytes.resize(end, 0);
        let first_shared = self.shared.len();
        for (at, block) in payload.shared {
            self.shared.push((start + HEADER_LEN + at, block.clone()));
        }
        let shared = (first_shared, self.shared.len());
        self.entries.push(Entry { start, inline: payload.inline.len(), shared, len });
        self.total += len;
    }

    /// Empties it for the next use; a burst's memory is given back.
    pub(crate) fn clear(&mut self) {
        const KEPT_BYTES: usize = 8 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.shared.clear();
        self.entries.clear();
        self.total = 0;
    }
}
