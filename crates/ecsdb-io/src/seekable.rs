//! Files compressed in the seekable format of zstd: independent frames and a table of them, so that reading from the
//! middle does not decompress from the start, while any zstd decoder reads the whole.

use std::io::{self, IoSlice, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use zeekstd::{EncodeOptions, FrameSizePolicy, SeekTable};

use crate::compress::decompress;
use crate::error::{FileOp, IoError, Result};
use crate::page_writer::PageWriter;
use crate::sync::Mutex;
use crate::vfs::VfsFile;

/// Bytes of a frame before compression: what is decompressed at least to read one byte.
const FRAME_BYTES: u32 = 256 << 10;
/// Bytes copied at once.
const COPY_BYTES: u64 = 1 << 20;
/// The end of a seek table: number of frames, descriptor, magic number.
const TABLE_END: u64 = 9;

/// Writes the first `len` bytes of `source` to `target`, compressed at zstd `level`, and says how many bytes that took. O(len).
///
/// # Errors
/// When a file operation fails, or zstd does.
pub fn compress(source: &dyn VfsFile, len: u64, target: &dyn VfsFile, level: i32) -> Result<u64> {
    let failed = |e: zeekstd::Error| IoError::new(FileOp::Write, target.path(), io::Error::other(e));
    let options = EncodeOptions::new()
        .compression_level(level)
        .checksum_flag(true)
        .frame_size_policy(FrameSizePolicy::Uncompressed(FRAME_BYTES));
    let mut pages = PageWriter::new(target);
    let mut encoder = options.into_encoder(&mut pages).map_err(failed)?;
    let mut buffer = vec![0; COPY_BYTES.min(len) as usize];
    let mut at = 0;
    while at < len {
        let n = (len - at).min(COPY_BYTES) as usize;
        source.read_exact_at(&mut buffer[..n], at)?;
        encoder.compress(&buffer[..n]).map_err(failed)?;
        at += n as u64;
    }
    let stored = encoder.finish().map_err(failed)?;
    pages.finish()?;
    Ok(stored)
}

/// Reads a file that [`compress`] wrote as if it were not compressed. O(frames).
///
/// # Errors
/// When it cannot be read, or has no valid table of frames.
pub fn open(file: Arc<dyn VfsFile>) -> Result<Arc<dyn VfsFile>> {
    let invalid = |what: String| invalid(&*file, what);
    // What the table claims is held against the file before anything is allocated for it (REC-1).
    let stored = file.len()?;
    let mut end = [0; TABLE_END as usize];
    if stored < TABLE_END {
        return Err(invalid("the file is too short for a table of frames".into()));
    }
    file.read_exact_at(&mut end, stored - TABLE_END)?;
    let frames = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if frames * 8 > stored {
        return Err(invalid(format!("{frames} frames do not fit a file of {stored} bytes")));
    }
    let mut reader = Owned { file: file.clone(), at: 0, failed: None };
    // A reading that failed says nothing of the table.
    let table = SeekTable::from_seekable(&mut reader)
        .map_err(|e| reader.failed.take().unwrap_or_else(|| invalid(e.to_string())))?;
    // Every frame but the last is full.
    let last = table.num_frames().saturating_sub(1);
    let fits = |index: u32| {
        let bytes = table.frame_size_decomp(index).unwrap_or(u64::MAX);
        bytes == u64::from(FRAME_BYTES) || index == last && bytes < u64::from(FRAME_BYTES)
    };
    if table.size_comp() > stored - frames * 8 || !(0..table.num_frames()).all(fits) {
        return Err(invalid("the table of frames claims what cannot be".into()));
    }
    let len = table.size_decomp();
    let frame = Mutex::new(Frame { index: None, packed: Vec::new(), bytes: Vec::new() });
    Ok(Arc::new(Seekable { file, len, table, frame }))
}

fn invalid(file: &dyn VfsFile, what: String) -> IoError {
    IoError::new(FileOp::Read, file.path(), io::Error::new(io::ErrorKind::InvalidData, what))
}

struct Seekable {
    file: Arc<dyn VfsFile>,
    len: u64,
    table: SeekTable,
    frame: Mutex<Frame>,
}

/// The frame that was read last: whole, and with the length that the table claims, or not at all.
struct Frame {
    index: Option<u32>,
    packed: Vec<u8>,
    bytes: Vec<u8>,
}

impl VfsFile for Seekable {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if offset >= self.len || buf.is_empty() {
            return Ok(0);
        }
        let mut frame = self.frame.lock();
        let index = self.table.frame_index_decomp(offset);
        if frame.index != Some(index) {
            self.unpack(index, &mut frame)?;
        }
        let begin = self.table.frame_start_decomp(index).map_err(|e| invalid(&*self.file, e.to_string()))?;
        let rest = frame.bytes.get(offset.saturating_sub(begin) as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_all_at(&self, _: &mut [IoSlice<'_>], _: u64) -> Result<()> {
        Err(self.read_only())
    }

    fn set_len(&self, _: u64) -> Result<()> {
        Err(self.read_only())
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }
}

impl Seekable {
    /// Reads and decompresses a frame. Its sizes were held against the file and the largest frame there is.
    fn unpack(&self, index: u32, frame: &mut Frame) -> Result<()> {
        let failed = |e: zeekstd::Error| invalid(&*self.file, e.to_string());
        let Frame { index: read, packed, bytes } = frame;
        *read = None;
        let at = self.table.frame_start_comp(index).map_err(failed)?;
        packed.resize(self.table.frame_size_comp(index).map_err(failed)? as usize, 0);
        let raw_len = self.table.frame_size_decomp(index).map_err(failed)? as usize;
        self.file.read_exact_at(packed, at)?;
        decompress(packed, raw_len, bytes)
            .map_err(|e| invalid(&*self.file, format!("frame {index}: {e}")))?;
        *read = Some(index);
        Ok(())
    }
}

impl Seekable {
    fn read_only(&self) -> IoError {
        let source = io::Error::new(io::ErrorKind::Unsupported, "a compressed file is only read");
        IoError::new(FileOp::Write, self.path(), source)
    }
}

impl std::fmt::Debug for Seekable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seekable({}, {} bytes)", self.path().display(), self.len)
    }
}

/// A file as the standard library's reader.
struct Owned {
    file: Arc<dyn VfsFile>,
    at: u64,
    /// The failure of the file itself, which the reader's error would hide.
    failed: Option<IoError>,
}

impl Owned {
    fn hide(&mut self, e: IoError) -> io::Error {
        let hidden = io::Error::from(e.cause.kind());
        self.failed = Some(e);
        hidden
    }
}

impl Read for Owned {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at).map_err(|e| self.hide(e))?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Owned {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.len().map_err(|e| self.hide(e))?.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, OpenMode, Vfs, publish};

    #[test]
    fn a_compressed_file_reads_back_from_anywhere_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed.zst"));
        let bytes: Vec<u8> = (0..1_500_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
        let (_, source) = publish(&Disk, &plain, |file| file.write_at(&bytes, 0)).unwrap();
        let len = bytes.len() as u64 - 5;
        let (written, _) = publish(&Disk, &packed, |file| compress(&*source, len, &**file, 3)).unwrap();
        assert_eq!(Disk.file_len(&packed).unwrap(), Some(written));
        assert!(written < len / 2, "{written}");

        let reopen = || open(Disk.open(&packed, OpenMode::Read).unwrap());
        let file = reopen().unwrap();
        assert_eq!(file.len().unwrap(), len);
        for (offset, n) in [(0, 100), (100, 100), (5_000_000, 700_000), (1, 300_000), (len - 7, 7)] {
            let mut back = vec![0; n];
            file.read_exact_at(&mut back, offset).unwrap();
            assert_eq!(back, bytes[offset as usize..][..n], "{n} bytes at {offset}");
        }
        assert!(file.read_exact_at(&mut [0; 8], len - 7).is_err());
        assert!(file.set_len(0).is_err());

        let raw = Disk.open(&packed, OpenMode::ReadWrite).unwrap();
        // The number of frames: far more than there can be.
        raw.write_at(&[0xff; 3], written - TABLE_END).unwrap();
        assert!(reopen().unwrap_err().to_string().contains("do not fit"));
        raw.set_len(4).unwrap();
        assert!(reopen().is_err());
    }
    /// REC-1: one in the table, in the decompressed size, made reading go on for ever.
    #[test]
    fn any_flipped_bit_is_an_error_or_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed.zst"));
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i / 5_000) as u8).collect();
        let (_, source) = publish(&Disk, &plain, |file| file.write_at(&bytes, 0)).unwrap();
        let (written, raw) =
            publish(&Disk, &packed, |file| compress(&*source, bytes.len() as u64, &**file, 3)).unwrap();
        let mut good = vec![0; written as usize];
        raw.read_exact_at(&mut good, 0).unwrap();
        let read = || -> Result<Vec<u8>> {
            let file = open(Disk.open(&packed, OpenMode::Read)?)?;
            let mut back = Vec::new();
            let mut part = vec![0; 64 << 10];
            loop {
                match file.read_at(&mut part, back.len() as u64)? {
                    0 => return Ok(back),
                    n => back.extend_from_slice(&part[..n]),
                }
                assert!(back.len() <= 4 * bytes.len(), "it has no end");
            }
        };
        assert_eq!(read().unwrap(), bytes);
        let mut unseen = 0;
        for bit in 0..good.len() * 8 {
            let (byte, flip) = (bit / 8, 1 << (bit % 8));
            raw.write_at(&[good[byte] ^ flip], byte as u64).unwrap();
            match read() {
                // Every frame's bytes have a checksum; a table that leads to fewer of them is seen by who reads them.
                Ok(back) => {
                    assert!(bytes.starts_with(&back), "bit {bit}");
                    unseen += 1;
                }
                Err(e) => assert!(!e.is_not_found(), "bit {bit}: {e}"),
            }
            raw.write_at(&good[byte..=byte], byte as u64).unwrap();
        }
        assert!(unseen < good.len(), "{unseen} of {} bits", good.len() * 8);
    }
}
