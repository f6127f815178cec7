//! The snapshot file under way: frames are gathered and written a megabyte at a time.

use std::ops::ControlFlow;

use ecsdb_io::frame::{FrameHeader, header_sum};
use ecsdb_io::{PageWriter, VfsFile, checksum_append};

use crate::error::{Error, Result};
use crate::format::{ALLOCATORS, DIRECTORY, Header, RESOURCES, SCHEMA};

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks written, and blocks read back.
    pub blocks_done: u64,
    /// Blocks to write and to read back.
    pub blocks: u64,
    /// Bytes written to the file.
    pub bytes_written: u64,
}

/// Told by the progress callback to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Told of the progress about once a megabyte, and says whether to go on.
pub type Follow<'a> = &'a mut (dyn FnMut(Progress) -> ControlFlow<Stopped> + Send);

pub(crate) struct Output<'a> {
    pages: PageWriter<'a>,
    pub(crate) header: Header,
    /// Frames so far, and the last one's header checksum.
    position: u64,
    link: u32,
    pub(crate) progress: Progress,
    report: Follow<'a>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(file: &'a dyn VfsFile, header: Header, report: Follow<'a>) -> Self {
        let mut pages = PageWriter::new(file);
        pages.gather(&header.encode());
        Output { pages, header, position: 0, link: 0, progress: Progress::default(), report }
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.pages.offset()
    }

    /// Appends a frame whose payload is `parts` in a row. `sum` is the payload's checksum where it is known already.
    pub(crate) fn frame(&mut self, kind: u8, parts: &[&[u8]], sum: Option<u32>) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let what = match kind {
            SCHEMA => "bytes of what all components say of themselves",
            RESOURCES => "bytes of all resources together",
            ALLOCATORS => "bytes of the list of free ids",
            DIRECTORY => "bytes of the list of all columns",
            _ => "bytes of a block",
        };
        let len = Error::fit(what, len as u64)?;
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
        let end = self.offset() + header.frame_len();
        self.pages.gather(&bytes);
        parts.iter().for_each(|part| self.pages.gather(part));
        self.pages.gather_zeros_to(end);
        self.link = header_sum(&bytes);
        self.position += 1;
        Ok(())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.pages.gather(bytes);
    }

    /// Writes what was gathered, once it is a megabyte, and reports how far it is.
    pub(crate) fn write_full(&mut self) -> Result<()> {
        match self.pages.write_full() {
            Ok(true) => self.report(),
            Ok(false) => Ok(()),
            Err(e) => Err(Error::Io(e)),
        }
    }

    /// Writes all that is left.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.pages.finish().map_err(Error::Io)?;
        self.report()
    }

    fn report(&mut self) -> Result<()> {
        self.progress.bytes_written = self.pages.written();
        match (self.report)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Stopped) => Err(Error::Cancelled),
        }
    }
}
