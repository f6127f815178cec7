//! Reading a file in large pieces, since frames are small and each read of a scheduled file has its price.

use ecsdb_io::VfsFile;

use crate::error::Result;

/// Bytes read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// What was read last of one file.
#[derive(Default)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    at: u64,
}

impl Window {
    /// `n` bytes at `offset`, which the caller has held against `end`, the end of the file.
    pub(crate) fn get(&mut self, file: &dyn VfsFile, offset: u64, n: usize, end: u64) -> Result<&[u8]> {
        let within = offset >= self.at && offset + n as u64 <= self.at + self.bytes.len() as u64;
        if !within {
            let len = (n as u64).max(WINDOW_BYTES).min(end.saturating_sub(offset)).max(n as u64);
            self.read(file, offset, len as usize)?;
            file.will_need(offset + len, WINDOW_BYTES);
        }
        let start = (offset - self.at) as usize;
        Ok(&self.bytes[start..start + n])
    }

    /// Reads exactly `n` bytes at `offset`, to be taken out piece by piece with [`Window::get`].
    pub(crate) fn read(&mut self, file: &dyn VfsFile, offset: u64, n: usize) -> Result<()> {
        // Not valid while it is being read.
        self.at = u64::MAX;
        self.bytes.resize(n, 0);
        file.read_exact_at(&mut self.bytes, offset)?;
        self.at = offset;
        Ok(())
    }
}
