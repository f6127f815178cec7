//! Writing a file in order, a megabyte of whole pages at a time, past the system's cache where the platform can.

use std::io;

use crate::direct::{PAGE_BYTES, PageVec};
use crate::error::Result;
use crate::vfs::VfsFile;

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes after which what was written is synced, so that the log's syncs never wait for a mountain of them.
const SYNC_BYTES: u64 = 32 << 20;

/// Gathers what is written in order to a new file. Whoever has written everything calls [`PageWriter::finish`].
#[derive(Debug)]
pub struct PageWriter<'a> {
    file: &'a dyn VfsFile,
    buffer: PageVec,
    /// Bytes written before the buffer, and synced.
    written: u64,
    synced: u64,
}

impl<'a> PageWriter<'a> {
    /// A writer from the start of `file`.
    pub fn new(file: &'a dyn VfsFile) -> Self {
        file.pass_cache_by();
        PageWriter { file, buffer: PageVec::new(), written: 0, synced: 0 }
    }

    /// The file.
    pub fn file(&self) -> &'a dyn VfsFile {
        self.file
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Bytes that were written to the file: whole pages until the end.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends `bytes`. Nothing is written before [`PageWriter::write_full`] or [`PageWriter::finish`].
    pub fn gather(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends zeros up to `offset`.
    pub fn gather_zeros_to(&mut self, offset: u64) {
        self.buffer.resize(offset.saturating_sub(self.written) as usize, 0);
    }

    /// Writes the whole pages that were gathered once they are a megabyte, and says whether it did. Now and then it waits for a sync.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_full(&mut self) -> Result<bool> {
        let is_full = self.buffer.len() >= WRITE_BYTES;
        if is_full {
            self.write(self.buffer.len() / PAGE_BYTES * PAGE_BYTES)?;
            if self.written - self.synced >= SYNC_BYTES {
                self.file.sync_data()?;
                self.synced = self.written;
            }
        }
        Ok(is_full)
    }

    /// Writes all that is left. The sync is the caller's.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn finish(&mut self) -> Result<()> {
        self.write(self.buffer.len())
    }

    fn write(&mut self, n: usize) -> Result<()> {
        let (now, later) = self.buffer.split_at(n);
        self.file.write_at(now, self.written)?;
        let later = later.to_vec();
        self.written += n as u64;
        self.buffer.clear();
        self.buffer.extend_from_slice(&later);
        Ok(())
    }
}

impl io::Write for PageWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gather(bytes);
        self.write_full().map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
