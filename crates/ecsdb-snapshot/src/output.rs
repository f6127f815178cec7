//! The snapshot file under way: frames are gathered and written a megabyte at a time.

use std::ops::ControlFlow;

use ecsdb_io::frame::{FrameHeader, header_sum};
use ecsdb_io::{VfsFile, checksum_append};

use crate::error::{Error, Result};
use crate::format::Header;

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks written.
    pub blocks_done: u64,
    /// Blocks to write.
    pub blocks: u64,
    /// Bytes written to the file.
    pub bytes_written: u64,
}

/// Told by the progress callback to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Bytes after which what was written is synced, so that the log's syncs never wait for a mountain of them.
const SYNC_BYTES: u64 = 32 << 20;

pub(crate) struct Output<'a> {
    file: &'a dyn VfsFile,
    pub(crate) header: Header,
    /// Bytes gathered for the next write.
    buffer: Vec<u8>,
    /// Bytes written before the buffer, and synced.
    flushed: u64,
    synced: u64,
    /// Frames so far, and the last one's header checksum.
    position: u64,
    link: u32,
    pub(crate) progress: Progress,
    report: &'a mut dyn FnMut(Progress) -> ControlFlow<Stopped>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        file: &'a dyn VfsFile,
        header: Header,
        report: &'a mut dyn FnMut(Progress) -> ControlFlow<Stopped>,
    ) -> Self {
        Output {
            file,
            header,
            buffer: header.encode().to_vec(),
            flushed: 0,
            synced: 0,
            position: 0,
            link: 0,
            progress: Progress::default(),
            report,
        }
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Appends a frame whose payload is `parts` in a row. `sum` is the payload's checksum where it is known already.
    pub(crate) fn frame(&mut self, kind: u8, parts: &[&[u8]], sum: Option<u32>) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let Ok(len) = u32::try_from(len) else {
            let what = "a part of the snapshot is over 4 GiB";
            return Err(Error::damaged(self.file.path(), self.offset(), what));
        };
        let salt = self.header.salt;
        let header = FrameHeader {
            len,
            payload_sum: sum
                .unwrap_or_else(|| parts.iter().fold(salt, |sum, part| checksum_append(sum, part))),
            link: self.link,
            sequence: self.position,
            kind,
            flags: 0,
        };
        let bytes = header.encode(salt);
        let end = self.buffer.len() + header.frame_len() as usize;
        self.buffer.extend_from_slice(&bytes);
        parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
        self.buffer.resize(end, 0);
        self.link = header_sum(&bytes);
        self.position += 1;
        Ok(())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes what was gathered, once it is at least `bytes`, and reports how far it is.
    pub(crate) fn flush_if(&mut self, bytes: usize) -> Result<()> {
        if self.buffer.len() < bytes {
            return Ok(());
        }
        self.file.write_at(&self.buffer, self.flushed).map_err(Error::Io)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        if self.flushed - self.synced >= SYNC_BYTES {
            self.file.sync_data().map_err(Error::Io)?;
            self.synced = self.flushed;
        }
        self.progress.bytes_written = self.flushed;
        match (self.report)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Stopped) => Err(Error::Cancelled),
        }
    }
}
