//! The traits through which every byte reaches the disk, so that a simulated disk can crash it at each step.

use std::fmt::Debug;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{IoError, Result};

/// How an existing file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only.
    Read,
    /// Reading and writing; the file is not truncated.
    ReadWrite,
}

/// One entry of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name within its directory. What is no Unicode in it is replaced, and it is called [`EntryKind::Other`] then.
    pub name: String,
    /// What has that name.
    pub kind: EntryKind,
    /// Length in bytes (0 but for a file).
    pub len: u64,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, a pipe, a device, what has no Unicode for a name: nothing of ours, never opened or followed (CKP-10).
    Other,
}

/// How a directory is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// By whoever changes what is in it: nobody else has it meanwhile.
    Exclusive,
    /// By whoever reads it: others may, too, and nobody changes it meanwhile.
    Shared,
}

/// A lock on a database directory, held until it is dropped.
pub trait DirLock: Debug + Send + Sync {
    /// Makes sure that it keeps others out: that its file is the one that has its name now (REC-12).
    ///
    /// # Errors
    /// When the file was removed or replaced, or the system refuses to look.
    fn check(&self) -> Result<()>;
}

/// Why a directory lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{} is locked by {holder}: it has to be closed there first", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as that is known: what the holder wrote of itself (process id and time), or that it is this process.
        holder: String,
    },
    /// The lock file could not be used.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Everything the engine asks of the operating system: files, directories, time and randomness.
///
/// Implementations must be usable from any thread. Nothing is durable before the matching sync: data before
/// [`VfsFile::sync_data`], a new, renamed or removed name before [`Vfs::sync_dir`] of its directory.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Creates a new file, open for reading and writing. On a real disk it is this user's alone, or the directory's owner's and
    /// group's; see `docs/operations.md`.
    ///
    /// # Errors
    /// When the name exists already, or the system refuses.
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// When it does not exist, is no file but a directory, a link or a pipe, or the system refuses.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>>;

    /// Renames a file within one filesystem, replacing `to`.
    ///
    /// # Errors
    /// When the system refuses.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it does not exist, or the system refuses.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Creates a directory and its parents; an existing one is fine.
    ///
    /// # Errors
    /// When the system refuses.
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// Removes a directory in which there is nothing.
    ///
    /// # Errors
    /// When it does not exist or has anything in it, or the system refuses.
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// Syncs the entries of a directory to stable storage.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    /// When it does not exist, or the system refuses.
    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// The length of a file, or `None` when there is none.
    ///
    /// # Errors
    /// When the system refuses for another reason than absence.
    fn file_len(&self, path: &Path) -> Result<Option<u64>>;

    /// `path` with no link and no `..` in it, as far as it is there: the same for all names of one directory (CKP-10). By default the path
    /// as it is, for files among which there are no links.
    ///
    /// # Errors
    /// When the system refuses for another reason than absence.
    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        Ok(path.into())
    }

    /// Takes the lock `path`, noting `holder` (which begins with `process` and its number) for the next one's error message
    /// as far as the disk lets it. A lock left by a dead process is no obstacle. A lock file that can only be read will do.
    ///
    /// # Errors
    /// [`LockError::Held`] when a living process (or this one) holds it, unless both are [`LockKind::Shared`].
    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError>;

    /// Bytes free for this user on the filesystem of `path`; `None` where the platform cannot tell.
    ///
    /// # Errors
    /// When the system refuses.
    fn free_space(&self, path: &Path) -> Result<Option<u64>>;

    /// Wall-clock time in nanoseconds since 1970-01-01 UTC.
    fn now_unix_ns(&self) -> u64;

    /// A random number, for salts and identities.
    fn random_u64(&self) -> u64;
}

/// Makes what is to be written, and gives it, part by part, to the function that it gets.
pub type Make<'a> = &'a mut dyn FnMut(&mut dyn FnMut(&[u8]));

/// Bytes that are gathered before they are written.
const GATHERED_BYTES: usize = 1 << 20;

/// Writes piece after piece of what `make` gives.
pub(crate) fn write_in_pieces(file: &(impl VfsFile + ?Sized), offset: u64, make: Make<'_>) -> Result<()> {
    let (mut at, mut piece, mut written) = (offset, Vec::new(), Ok(()));
    let mut write = |piece: &mut Vec<u8>| {
        if written.is_ok() {
            written = file.write_all_at(&mut [IoSlice::new(piece)], at);
        }
        at += piece.len() as u64;
        piece.clear();
    };
    make(&mut |mut bytes| {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(GATHERED_BYTES - piece.len()));
            piece.extend_from_slice(now);
            bytes = later;
            if piece.len() == GATHERED_BYTES {
                write(&mut piece);
            }
        }
    });
    if !piece.is_empty() {
        write(&mut piece);
    }
    written
}

/// An open file, read and written at explicit offsets, from any thread.
#[expect(clippy::len_without_is_empty, reason = "nobody asks that of a file")]
pub trait VfsFile: Debug + Send + Sync {
    /// The path under which it was opened.
    fn path(&self) -> &Path;

    /// Its length in bytes.
    ///
    /// # Errors
    /// When the system refuses.
    fn len(&self) -> Result<u64>;

    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// When the system refuses.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `bufs`, one after another, at `offset`, extending the file where needed. The slices may
    /// be advanced in place. One call is one write to the disk as far as the platform allows.
    ///
    /// # Errors
    /// When the system refuses; any part of the bytes may have been written then.
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()>;

    /// Writes what `make` gives to the function that it gets, one after another from `offset` on, and in several writes: where the platform can,
    /// the first are under way while the rest is made. By default each is done before more is made.
    ///
    /// # Errors
    /// When the system refuses; any part of the bytes may have been written then.
    fn write_while_made(&self, offset: u64, make: Make<'_>) -> Result<()> {
        write_in_pieces(self, offset, make)
    }

    /// Asks the system to begin bringing this range to stable storage, so that a later sync has less to wait for. A hint, which
    /// returns at once and promises nothing (WAL-4). By default nothing happens.
    fn start_writing(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Says that from here on this handle writes or reads once, in order and in large pieces, what nobody needs again soon: where the platform
    /// can, whole pages pass the system's cache by. A hint, which changes no result; pages that lie in a [`PageVec`](crate::PageVec) are
    /// transferred without a copy. By default nothing happens.
    fn pass_cache_by(&self) {}

    /// Truncates or extends (with zeros) to `len` bytes.
    ///
    /// # Errors
    /// When the system refuses.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Extends to `len` bytes of zeros, for which the disk keeps room where the platform can tell it to; the zeros themselves are not written.
    ///
    /// # Errors
    /// When the system refuses, or the disk is full.
    fn reserve(&self, len: u64) -> Result<()> {
        self.set_len(len)
    }

    /// Brings all data written so far, and the length, to stable storage. After an error nothing is known of
    /// the data written since the last success, and calling again proves nothing.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync_data(&self) -> Result<()>;

    /// Says that `len` bytes at `offset` will be read soon, so that the system can fetch them meanwhile. A hint: it
    /// has no result, and an implementation may do nothing, as the provided one does.
    fn will_need(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

impl dyn VfsFile + '_ {
    /// Writes one slice; see [`VfsFile::write_all_at`].
    ///
    /// # Errors
    /// As [`VfsFile::write_all_at`].
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all_at(&mut [IoSlice::new(bytes)], offset)
    }

    /// Reads exactly `buf.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) when the file is too short, or when the system refuses.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64)? {
                0 => return Err(IoError::short(self.path(), offset + done as u64, buf.len() - done)),
                n => done += n,
            }
        }
        Ok(())
    }
}
