//! Passing the system's cache by: whole pages go from this process's memory to the disk and back. What is written or read once costs no copy
//! and no bookkeeping then on the cores that the application runs on, and nobody else's file is put out of the cache for it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use parking_lot::Mutex;
use rkyv::util::AlignedVec;

use crate::error::{Context, FileOp, Result};
use crate::platform;

/// Memory, offset and length of a direct transfer are multiples of this: what any disk takes.
pub const PAGE_BYTES: usize = 4096;

/// Bytes that can be transferred directly as they lie. Written in order, they make a file of which all but the end passes the cache by.
pub type PageVec = AlignedVec<PAGE_BYTES>;

/// Bytes that are copied at a time when they do not lie so: a megabyte, with the pages in which it begins and ends.
const PIECE_BYTES: usize = (1 << 20) + 2 * PAGE_BYTES;
/// What is shorter is not worth waiting for the disk, and goes through the cache all the same.
pub const LARGE_BYTES: usize = 64 << 10;

thread_local! {
    static PIECE: RefCell<PageVec> = RefCell::new(PageVec::new());
}

/// Gives this thread's piece; another one while the thread ends, and its own is gone.
fn with_piece<T>(mut work: impl FnMut(&mut PageVec) -> T) -> T {
    match PIECE.try_with(|piece| work(&mut piece.borrow_mut())) {
        Ok(done) => done,
        Err(_) => work(&mut PageVec::new()),
    }
}

/// A second handle of a file, with which no cache is in between.
#[derive(Debug)]
pub(crate) struct Direct {
    file: File,
    path: PathBuf,
    /// The file system has not refused yet.
    works: AtomicBool,
    /// For the next long write.
    pieces: Mutex<Vec<PageVec>>,
}

/// What is to be written, as it is copied.
struct Source<'a, 'b> {
    bufs: std::slice::Iter<'a, IoSlice<'b>>,
    rest: &'a [u8],
    /// Where in the file.
    at: u64,
}

impl Source<'_, '_> {
    /// Fills `piece` with what comes next, up to a page of the file first and then whole ones, and says where that goes; `None` at the end.
    fn fill(&mut self, piece: &mut PageVec) -> Option<u64> {
        let max = match (self.at % PAGE_BYTES as u64) as usize {
            0 => PIECE_BYTES,
            odd => PAGE_BYTES - odd,
        };
        piece.clear();
        while piece.len() < max {
            if self.rest.is_empty() {
                let Some(buf) = self.bufs.next() else { break };
                self.rest = buf;
            }
            let (now, later) = self.rest.split_at(self.rest.len().min(max - piece.len()));
            piece.extend_from_slice(now);
            self.rest = later;
        }
        let at = self.at;
        self.at += piece.len() as u64;
        (!piece.is_empty()).then_some(at)
    }
}

impl Direct {
    /// `None` where the system or the file system has no such thing.
    pub(crate) fn of(file: &File, path: &Path, write: bool) -> Option<Direct> {
        let file = platform::open_direct(file, write)?;
        Some(Direct { file, path: path.into(), works: AtomicBool::new(true), pieces: Mutex::default() })
    }

    /// Writes all of `bufs`, one after another, at `offset`; what is no whole page, and everything where the file system refuses, by `cached`.
    pub(crate) fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        cached: impl Fn(&[u8], u64) -> Result<()> + Sync,
    ) -> Result<()> {
        let write = |bytes: &[u8], at: u64| {
            let done = if at.is_multiple_of(PAGE_BYTES as u64) { self.write_pages(bytes, at)? } else { 0 };
            cached(&bytes[done..], at + done as u64)
        };
        if let [buf] = bufs
            && buf.as_ptr().align_offset(PAGE_BYTES) == 0
            && offset.is_multiple_of(PAGE_BYTES as u64)
        {
            return write(buf, offset);
        }
        let mut source = Source { bufs: bufs.iter(), rest: &[], at: offset };
        let is_long = bufs.iter().map(|buf| buf.len()).sum::<usize>() >= 2 * PIECE_BYTES;
        if is_long && let Some(done) = self.write_while_copying(&mut source, write) {
            return done;
        }
        with_piece(|piece| {
            while let Some(at) = source.fill(piece) {
                write(piece, at)?;
            }
            Ok(())
        })
    }

    /// The same with a second thread: it waits for the disk while this one copies. `None`, and nothing is done, where there is no other thread to be
    /// had.
    fn write_while_copying(
        &self,
        source: &mut Source<'_, '_>,
        write: impl Fn(&[u8], u64) -> Result<()> + Sync,
    ) -> Option<Result<()>> {
        let (filled, to_write) = mpsc::sync_channel::<(PageVec, u64)>(1);
        let (written, to_fill) = mpsc::channel();
        thread::scope(|scope| {
            let writer = || {
                for (piece, at) in to_write {
                    write(&piece, at)?;
                    // Nobody fills it again where all is copied.
                    written.send(piece).ok();
                }
                Ok(())
            };
            let writer =
                thread::Builder::new().name("ecsdb-write".into()).spawn_scoped(scope, writer).ok()?;
            let mut spare = self.pieces.lock();
            loop {
                let mut piece = to_fill.try_recv().ok().or_else(|| spare.pop()).unwrap_or_default();
                let Some(at) = source.fill(&mut piece) else { break };
                if filled.send((piece, at)).is_err() {
                    break;
                }
            }
            drop(filled);
            let done = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            spare.extend(to_fill.try_iter());
            Some(done)
        })
    }

    /// Writes the whole pages of `bytes`, which lies at a page of memory, at a page of the file, and says how many bytes that was.
    fn write_pages(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        let pages = bytes.len() / PAGE_BYTES * PAGE_BYTES;
        let mut done = 0;
        while done < pages && done % PAGE_BYTES == 0 && self.works.load(Ordering::Relaxed) {
            match platform::write_at(&self.file, &bytes[done..pages], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.refused(e).context(FileOp::Write, &self.path)?,
            }
        }
        Ok(done)
    }

    /// Reads up to `buf.len()` bytes; fewer only at the end of the file, and where the file system refuses. `None` when it is for the cache to give
    /// them.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        if buf.len() < LARGE_BYTES || !self.works.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            // The pages around what is wanted.
            let before = (at % PAGE_BYTES as u64) as usize;
            let rest = &mut buf[done..];
            let around = (before + rest.len()).next_multiple_of(PAGE_BYTES).min(PIECE_BYTES);
            let read: io::Result<(usize, bool)> = with_piece(|piece| {
                piece.resize(PIECE_BYTES, 0);
                let n = platform::read_at(&self.file, &mut piece[..around], at - before as u64)?;
                let there = n.saturating_sub(before).min(rest.len());
                rest[..there].copy_from_slice(&piece[before..before + there]);
                Ok((there, n < around))
            });
            match read {
                Ok((n, is_end)) => {
                    done += n;
                    if is_end {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.refused(e).context(FileOp::Read, &self.path)?;
                    return Ok((done > 0).then_some(done));
                }
            }
        }
        Ok(Some(done))
    }

    /// Notes that it is this way of transfer which does not work; any other failure is the disk's.
    fn refused(&self, e: io::Error) -> io::Result<()> {
        if e.kind() != io::ErrorKind::InvalidInput {
            return Err(e);
        }
        self.works.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Disk, OpenMode, Vfs};

    fn content(seed: u8, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i as u64).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        /// Whatever is written where, in whatever pieces, directly or not: it is what is read, both ways.
        #[test]
        fn a_file_is_the_same_with_the_cache_and_without(
            writes in proptest::collection::vec((0u64..30, 0u64..3, 0usize..40, 0usize..3, any::<u8>()), 1..12),
            reads in proptest::collection::vec((0u64..200_000, 0usize..150_000), 1..8),
        ) {
            // On the build directory's disk: one in memory may have a cache only.
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let path = dir.path().join("f");
            let file = Disk.create(&path).unwrap();
            file.pass_cache_by();
            let mut expected: Vec<u8> = Vec::new();
            for (page, odd, pages, odd_len, seed) in writes {
                let at = page * PAGE_BYTES as u64 + odd * 8;
                let bytes = content(seed, pages * PAGE_BYTES + odd_len * 100);
                let end = at as usize + bytes.len();
                if !bytes.is_empty() {
                    expected.resize(expected.len().max(end), 0);
                    expected[at as usize..end].copy_from_slice(&bytes);
                }
                let (head, tail) = bytes.split_at(bytes.len() / 3);
                let mut aligned = PageVec::new();
                aligned.extend_from_slice(tail);
                file.write_all_at(&mut [IoSlice::new(head), IoSlice::new(&aligned)], at).unwrap();
            }
            file.sync_data().unwrap();
            prop_assert_eq!(file.len().unwrap(), expected.len() as u64);
            prop_assert_eq!(&crate::read_file(&Disk, &path, u64::MAX).unwrap(), &expected);
            for direct in [true, false] {
                let file = Disk.open(&path, OpenMode::Read).unwrap();
                if direct {
                    file.pass_cache_by();
                }
                for &(at, len) in &reads {
                    let mut buf = vec![1; len];
                    let n = file.read_at(&mut buf, at).unwrap();
                    let from = (at as usize).min(expected.len());
                    prop_assert_eq!(&buf[..n], &expected[from..expected.len().min(from + len)]);
                }
            }
        }
    }
}
