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
use crate::vfs::Make;

/// Memory, offset and length of a direct transfer are multiples of this: what any disk takes.
pub const PAGE_BYTES: usize = 4096;

/// Bytes that can be transferred directly as they lie. Written in order, they make a file of which all but the end passes the cache by.
pub type PageVec = AlignedVec<PAGE_BYTES>;

/// Bytes that are copied at a time when they do not lie so: two megabytes, with the pages in which it begins and ends.
const PIECE_BYTES: usize = (if cfg!(test) { 32 << 10 } else { 2 << 20 }) + 2 * PAGE_BYTES;
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

/// Where the next byte goes, and what is gathered for there.
struct Gathered {
    at: u64,
    piece: PageVec,
}

impl Gathered {
    /// Takes from the front of `bytes` what there is room for, and says whether the piece is full: it ends at a page of the file.
    fn take(&mut self, bytes: &mut &[u8]) -> bool {
        let max = match (self.at % PAGE_BYTES as u64) as usize {
            0 => PIECE_BYTES,
            odd => PAGE_BYTES - odd,
        };
        let (now, later) = bytes.split_at(bytes.len().min(max - self.piece.len()));
        self.piece.extend_from_slice(now);
        *bytes = later;
        self.piece.len() == max
    }

    /// Gives what is gathered, and where it goes; goes on with another, empty piece.
    fn next(&mut self, mut empty: PageVec) -> (PageVec, u64) {
        empty.clear();
        let piece = std::mem::replace(&mut self.piece, empty);
        let at = self.at;
        self.at += piece.len() as u64;
        (piece, at)
    }
}

/// A second thread, which waits for the disk.
struct Writer<'scope> {
    full: mpsc::SyncSender<(PageVec, u64)>,
    empty: mpsc::Receiver<PageVec>,
    thread: thread::ScopedJoinHandle<'scope, Result<()>>,
}

fn start_writer<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    write: &'scope (impl Fn(&[u8], u64) -> Result<()> + Sync),
) -> Option<Writer<'scope>> {
    let (full, to_write) = mpsc::sync_channel::<(PageVec, u64)>(1);
    let (written, empty) = mpsc::channel();
    let work = move || {
        for (piece, at) in to_write {
            write(&piece, at)?;
            // Nobody fills it again where all is made.
            written.send(piece).ok();
        }
        Ok(())
    };
    let thread = thread::Builder::new().name("ecsdb-write".into()).spawn_scoped(scope, work).ok()?;
    Some(Writer { full, empty, thread })
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
        if let [buf] = bufs
            && buf.as_ptr().align_offset(PAGE_BYTES) == 0
            && offset.is_multiple_of(PAGE_BYTES as u64)
        {
            return self.write_piece(buf, offset, &cached);
        }
        self.write_while_made(offset, &mut |push| bufs.iter().for_each(|buf| push(buf)), cached)
    }

    fn write_piece(&self, bytes: &[u8], at: u64, cached: &impl Fn(&[u8], u64) -> Result<()>) -> Result<()> {
        let done = if at.is_multiple_of(PAGE_BYTES as u64) { self.write_pages(bytes, at)? } else { 0 };
        cached(&bytes[done..], at + done as u64)
    }

    /// Writes what `make` gives from `offset` on. From the first full piece on a second thread waits for the disk while this one makes more, where there
    /// is one to be had.
    pub(crate) fn write_while_made(
        &self,
        offset: u64,
        make: Make<'_>,
        cached: impl Fn(&[u8], u64) -> Result<()> + Sync,
    ) -> Result<()> {
        let write = |bytes: &[u8], at: u64| self.write_piece(bytes, at, &cached);
        thread::scope(|scope| {
            let mut spare = self.pieces.lock();
            let mut gathered = Gathered { at: offset, piece: PageVec::new() };
            gathered.next(spare.pop().unwrap_or_default());
            let (mut writer, mut written) = (None, Ok(()));
            let mut pass_on = |gathered: &mut Gathered| {
                if gathered.piece.len() == PIECE_BYTES && writer.is_none() {
                    writer = start_writer(scope, &write);
                }
                let empty = writer.as_ref().and_then(|writer| writer.empty.try_recv().ok());
                let (piece, at) = gathered.next(empty.or_else(|| spare.pop()).unwrap_or_default());
                match &writer {
                    // It has ended with an error, which it gives at the end.
                    Some(writer) => drop(writer.full.send((piece, at))),
                    None => {
                        if written.is_ok() {
                            written = write(&piece, at);
                        }
                        spare.push(piece);
                    }
                }
            };
            make(&mut |mut bytes| {
                while !bytes.is_empty() {
                    if gathered.take(&mut bytes) {
                        pass_on(&mut gathered);
                    }
                }
            });
            if !gathered.piece.is_empty() {
                pass_on(&mut gathered);
            }
            spare.push(gathered.piece);
            let Some(Writer { full, empty, thread }) = writer else { return written };
            drop(full);
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            spare.extend(empty.try_iter());
            written.and(done)
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
            writes in proptest::collection::vec(
                (0u64..30, 0u64..3, 0usize..40, 0usize..3, any::<u8>(), proptest::option::of(1usize..50_000)),
                1..12,
            ),
            reads in proptest::collection::vec((0u64..200_000, 0usize..150_000), 1..8),
        ) {
            // On the build directory's disk: one in memory may have a cache only.
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let path = dir.path().join("f");
            let file = Disk.create(&path).unwrap();
            file.pass_cache_by();
            let mut expected: Vec<u8> = Vec::new();
            for (page, odd, pages, odd_len, seed, made) in writes {
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
                match made {
                    Some(n) => {
                        file.write_while_made(at, &mut |push| bytes.chunks(n).for_each(&mut *push)).unwrap();
                    }
                    None => file.write_all_at(&mut [IoSlice::new(head), IoSlice::new(&aligned)], at).unwrap(),
                }
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
