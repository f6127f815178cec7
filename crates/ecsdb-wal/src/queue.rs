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
    /// Memory of all entries, shared blocks included.
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
    /// Says how much memory it takes.
    pub(crate) fn push(&mut self, lsn: Lsn, payload: Payload<'_>, len: u64) -> u64 {
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
        let beside = end - start - payload.inline.len() + size_of::<Entry>() + size_of_val(payload.shared);
        let memory = len + beside as u64;
        self.total += memory;
        memory
    }

    /// Empties it for the next use; a burst's memory is given back.
    pub(crate) fn clear(&mut self) {
        const KEPT_BYTES: usize = 8 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.shared.clear();
        self.shared.shrink_to(KEPT_BYTES / size_of::<(usize, Bytes)>());
        self.entries.clear();
        self.entries.shrink_to(KEPT_BYTES / size_of::<Entry>());
        self.total = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_transactions_take_while_they_wait_is_counted_and_given_back() {
        let mut queue = Queue::default();
        let block = Bytes::from_static(&[7; 100]);
        let (mut memory, mut blocks) = (0, 0);
        for i in 0..1_000_000_u64 {
            let shared: &[(usize, Bytes)] = if i % 10 == 0 { &[(0, block.clone())] } else { &[] };
            blocks += shared.len();
            let len = 9 + 100 * shared.len() as u64;
            memory += queue.push(Lsn(i + 1), Payload { inline: &[1; 9], shared }, len);
        }
        let held = queue.bytes.len()
            + queue.entries.len() * size_of::<Entry>()
            + blocks * (size_of::<(usize, Bytes)>() + block.len());
        assert_eq!((memory, queue.total), (held as u64, held as u64));
        queue.clear();
        let kept = queue.bytes.capacity()
            + queue.entries.capacity() * size_of::<Entry>()
            + queue.shared.capacity() * size_of::<(usize, Bytes)>();
        assert!(kept <= 24 << 20, "{kept} bytes are kept");
    }
}
