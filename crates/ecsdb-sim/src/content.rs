//! A file's bytes: sparse pages, copied on write, so that a disk can be cloned at every operation.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

const PAGE: usize = 4096;
const PAGE_U64: u64 = PAGE as u64;
static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// The bytes of one file. A page that holds only zeros takes no memory.
///
/// Bytes of the last page beyond `len` are zero, so that growing the file shows zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    len: u64,
    /// Shorter than the file where it ends in zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what there is at `offset`, at most `buf.len()` bytes.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let (page, within) = locate(offset + done as u64);
            let n = (PAGE - within).min(count - done);
            let target = &mut buf[done..done + n];
            match self.page(page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + n]),
                None => target.fill(0),
            }
            done += n;
        }
        count
    }

    /// Hashes length and bytes; zeros cost nothing.
    pub(crate) fn hash(&self, into: &mut Xxh3) {
        into.update(&self.len.to_le_bytes());
        for (at, page) in self.pages.iter().enumerate() {
            if let Some(page) = page
                && **page != ZERO_PAGE
            {
                into.update(&(at as u64).to_le_bytes());
                into.update(&page[..]);
            }
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Writes at `offset`, growing the file where needed.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.len = self.len.max(offset + bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = locate(offset + done as u64);
            let n = (PAGE - within).min(bytes.len() - done);
            self.write_within_page(page, within, &bytes[done..done + n]);
            done += n;
        }
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.truncate(len.div_ceil(PAGE_U64) as usize);
            let (page, within) = locate(len);
            if within > 0 && self.page(page).is_some() {
                self.write_within_page(page, within, &ZERO_PAGE[within..]);
            }
        }
        self.len = len;
    }

    /// Takes over `from`'s bytes `start..end`, zeros where it has ended. They must lie within this file.
    pub(crate) fn copy_range(&mut self, from: &Content, start: u64, end: u64) {
        debug_assert!(end <= self.len);
        let mut at = start;
        while at < end {
            let (page, within) = locate(at);
            let n = (PAGE - within).min((end - at) as usize);
            match from.page(page) {
                Some(bytes) if n == PAGE => *self.slot(page) = Some(Arc::clone(bytes)),
                Some(bytes) => self.write_within_page(page, within, &bytes[within..within + n]),
                None => self.write_within_page(page, within, &ZERO_PAGE[..n]),
            }
            at += n as u64;
        }
    }

    /// Fills `start..end`, which must lie within the file, with bytes that nobody wrote.
    pub(crate) fn fill_with_noise(&mut self, start: u64, end: u64, noise: &mut fastrand::Rng) {
        let mut buffer = [0; PAGE];
        let mut at = start;
        while at < end {
            let n = (end - at).min(PAGE_U64) as usize;
            noise.fill(&mut buffer[..n]);
            self.write(at, &buffer[..n]);
            at += n as u64;
        }
    }

    fn page(&self, page: usize) -> Option<&Arc<[u8; PAGE]>> {
        self.pages.get(page)?.as_ref()
    }

    fn slot(&mut self, page: usize) -> &mut Option<Arc<[u8; PAGE]>> {
        if page >= self.pages.len() {
            self.pages.resize(page + 1, None);
        }
        &mut self.pages[page]
    }

    fn write_within_page(&mut self, page: usize, within: usize, bytes: &[u8]) {
        // One comparison keeps preallocated zeros from taking memory.
        let zeros = bytes == &ZERO_PAGE[..bytes.len()];
        if zeros && (bytes.len() == PAGE || self.page(page).is_none()) {
            if let Some(slot) = self.pages.get_mut(page) {
                *slot = None;
            }
            return;
        }
        let slot = self.slot(page).get_or_insert_with(|| Arc::new(ZERO_PAGE));
        Arc::make_mut(slot)[within..within + bytes.len()].copy_from_slice(bytes);
    }
}

fn locate(offset: u64) -> (usize, usize) {
    ((offset / PAGE_U64) as usize, (offset % PAGE_U64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
        CopyFromFirst(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..6000),
            (0..20_000usize).prop_map(|n| vec![0; n]),
        ];
        prop_oneof![
            (0..20_000u64, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0..30_000u64).prop_map(Step::SetLen),
            (0..30_000u64, 0..30_000u64).prop_map(|(a, b)| Step::CopyFromFirst(a.min(b), a.max(b))),
        ]
    }

    proptest! {
        #[test]
        fn sparse_pages_behave_as_one_vector_of_bytes(steps in proptest::collection::vec(step(), 1..20)) {
            let (mut content, mut bytes) = (Content::default(), Vec::<u8>::new());
            let mut first = None;
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let end = at as usize + data.len();
                        bytes.resize(bytes.len().max(end), 0);
                        bytes[at as usize..end].copy_from_slice(&data);
                        content.write(at, &data);
                    }
                    Step::SetLen(len) => {
                        bytes.resize(len as usize, 0);
                        content.set_len(len);
                    }
                    Step::CopyFromFirst(start, end) => if let Some((from, from_bytes)) = &first {
                        let from_bytes: &Vec<u8> = from_bytes;
                        let end = end.min(bytes.len() as u64);
                        for at in start..end {
                            bytes[at as usize] = from_bytes.get(at as usize).copied().unwrap_or(0);
                        }
                        content.copy_range(from, start, end);
                    }
                }
                prop_assert_eq!(content.len(), bytes.len() as u64);
                prop_assert!(content.to_vec() == bytes);
                if first.is_none() {
                    first = Some((content.clone(), bytes.clone()));
                }
            }
            let (first, first_bytes) = first.unwrap();
            prop_assert!(first.to_vec() == first_bytes, "a clone is not changed by writes to the original");
        }
    }

    #[test]
    fn preallocated_zeros_take_no_memory() {
        let mut content = Content::default();
        content.write(0, &[0; 256 * 1024]);
        assert_eq!(content.len(), 256 * 1024);
        assert!(content.pages.is_empty());
    }
}
