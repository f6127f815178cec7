//! Files for asynchronous code: positional operations that are awaited instead of blocking the thread, over
//! `tokio::fs::File` or over any [`VfsFile`].

use std::io::{self, IoSlice, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, RwLock};

use crate::error::{Context, FileOp, IoError, Result};
use crate::vfs::{OpenMode, VfsFile};

/// The most that one operation of the blocking pool reads, as in `tokio::fs`.
const READ_BYTES_MAX: usize = 2 << 20;

/// A file whose operations are awaited. It is shared by reference (or [`Arc`]) between tasks; its writes, syncs and
/// changes of length run one after another, in the order in which they began.
///
/// **Dropping a future does not stop what began** (WAL-13): a write, sync or change of length goes on in the
/// background, the next operation waits for it, and when it fails, the next one that is no reading returns its error
/// instead of doing anything. A write whose future is dropped between two of its parts (`tokio::fs` writes 2 MiB at a
/// time) is partly done.
///
/// Every operation must be awaited within a Tokio runtime, and is an error elsewhere.
///
/// ```
/// use ecsdb_io::AsyncFile;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("notes");
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let file = AsyncFile::create(&path).await?;
/// file.write_all_at(b"hello, disk", 0).await?;
/// file.sync_data().await?;
///
/// let mut word = [0; 4];
/// file.read_exact_at(&mut word, 7).await?;
/// assert_eq!(&word, b"disk");
/// # Ok::<(), ecsdb_io::IoError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncFile {
    path: PathBuf,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// It has one cursor, so a seek and what follows it hold the lock.
    Tokio(Arc<Mutex<OverTokio>>),
    Vfs(OverVfs),
}

impl AsyncFile {
    /// Opens an existing file of the real disk.
    ///
    /// # Errors
    /// When it does not exist, the system refuses, or there is no Tokio runtime.
    pub async fn open(path: impl AsRef<Path>, mode: OpenMode) -> Result<AsyncFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode == OpenMode::ReadWrite);
        AsyncFile::with(&options, FileOp::Open, path.as_ref()).await
    }

    /// Creates a new file of the real disk, open for reading and writing.
    ///
    /// # Errors
    /// When it exists already, the system refuses, or there is no Tokio runtime.
    pub async fn create(path: impl AsRef<Path>) -> Result<AsyncFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        AsyncFile::with(&options, FileOp::Create, path.as_ref()).await
    }

    async fn with(options: &OpenOptions, op: FileOp, path: &Path) -> Result<AsyncFile> {
        runtime(op, path)?;
        let file = options.open(path).await.context(op, path)?;
        let over = OverTokio { file, unreported: None };
        Ok(AsyncFile { path: path.into(), form: Form::Tokio(Arc::new(Mutex::new(over))) })
    }

    /// The same over any file, a simulated one for example: each operation is run by Tokio's blocking pool, which is
    /// what `tokio::fs` does too. Bytes are copied on their way.
    pub fn of(file: Arc<dyn VfsFile>) -> AsyncFile {
        let path = file.path().to_path_buf();
        AsyncFile { path, form: Form::Vfs(OverVfs { file, unreported: Arc::default() }) }
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// When the system refuses, or there is no Tokio runtime.
    pub async fn len(&self) -> Result<u64> {
        let op = FileOp::Metadata;
        match &self.form {
            Form::Tokio(over) => {
                runtime(op, &self.path)?;
                // Unlike asking for metadata, a seek waits for a write whose future was dropped.
                over.lock().await.file.seek(SeekFrom::End(0)).await.context(op, &self.path)
            }
            Form::Vfs(over) => over.look(op, |file| file.len()).await,
        }
    }

    /// True when it has no bytes.
    ///
    /// # Errors
    /// As [`AsyncFile::len`].
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Reads up to `buf.len()` bytes at `offset`, 2 MiB at most; 0 at the end of the file.
    ///
    /// # Errors
    /// When the system refuses, or there is no Tokio runtime.
    pub async fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let op = FileOp::Read;
        match &self.form {
            Form::Tokio(over) => {
                runtime(op, &self.path)?;
                let file = &mut over.lock().await.file;
                file.seek(SeekFrom::Start(offset)).await.context(op, &self.path)?;
                file.read(buf).await.context(op, &self.path)
            }
            Form::Vfs(over) => {
                let len = buf.len().min(READ_BYTES_MAX);
                let bytes = over
                    .look(op, move |file| {
                        let mut bytes = vec![0; len];
                        let n = file.read_at(&mut bytes, offset)?;
                        bytes.truncate(n);
                        Ok(bytes)
                    })
                    .await?;
                buf[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
        }
    }

    /// Reads exactly `buf.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file is too short; as [`AsyncFile::read_at`].
    pub async fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64).await? {
                0 => return Err(IoError::short(&self.path, offset + done as u64, buf.len() - done)),
                n => done += n,
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`, extending the file where needed. They have been handed to the system when it
    /// returns, and are not durable before [`AsyncFile::sync_data`].
    ///
    /// # Errors
    /// When the system refuses (any part of the bytes may have been written then), or there is no Tokio runtime.
    pub async fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let op = FileOp::Write;
        match &self.form {
            Form::Tokio(over) => {
                runtime(op, &self.path)?;
                let mut over = over.lock().await;
                over.report(&self.path).await?;
                let write = async {
                    let file = &mut over.file;
                    file.seek(SeekFrom::Start(offset)).await?;
                    file.write_all(bytes).await?;
                    // Until then, nothing is known of the last part.
                    file.flush().await
                };
                write.await.context(op, &self.path)
            }
            Form::Vfs(over) => {
                let bytes = bytes.to_vec();
                over.change(op, move |file| file.write_all_at(&mut [IoSlice::new(&bytes)], offset)).await
            }
        }
    }

    /// Truncates or extends (with zeros) to `len` bytes.
    ///
    /// # Errors
    /// When the system refuses, or there is no Tokio runtime.
    pub async fn set_len(&self, len: u64) -> Result<()> {
        let op = FileOp::SetLen;
        match &self.form {
            Form::Tokio(over) => change(over, &self.path, Change::SetLen(len)).await,
            Form::Vfs(over) => over.change(op, move |file| file.set_len(len)).await,
        }
    }

    /// Brings all data written so far, and the length, to stable storage; see [`VfsFile::sync_data`].
    ///
    /// # Errors
    /// When the system refuses, or there is no Tokio runtime. After an error, calling again proves nothing (WAL-5).
    pub async fn sync_data(&self) -> Result<()> {
        let op = FileOp::Sync;
        match &self.form {
            Form::Tokio(over) => change(over, &self.path, Change::Sync).await,
            Form::Vfs(over) => over.change(op, |file| file.sync_data()).await,
        }
    }
}

/// Tokio's file.
#[derive(Debug)]
struct OverTokio {
    file: File,
    /// What went wrong in a sync or change of length whose future was dropped. Tokio keeps that of writes alone.
    unreported: Option<IoError>,
}

impl OverTokio {
    /// Returns what a dropped future did not.
    async fn report(&mut self, path: &Path) -> Result<()> {
        self.file.flush().await.context(FileOp::Write, path)?;
        self.unreported.take().map_or(Ok(()), Err)
    }
}

/// What [`change`] does.
enum Change {
    Sync,
    SetLen(u64),
}

/// Runs a change as a task of its own, which holds the lock and remembers the error of a dropped future.
async fn change(over: &Arc<Mutex<OverTokio>>, path: &Path, what: Change) -> Result<()> {
    let op = match what {
        Change::Sync => FileOp::Sync,
        Change::SetLen(_) => FileOp::SetLen,
    };
    let runtime = runtime(op, path)?;
    let mut guard = over.clone().lock_owned().await;
    guard.report(path).await?;
    let owned_path = path.to_path_buf();
    let task = runtime.spawn(async move {
        let result = match what {
            Change::Sync => guard.file.sync_data().await,
            Change::SetLen(len) => guard.file.set_len(len).await,
        };
        let result = result.context(op, &owned_path);
        guard.unreported = result.as_ref().err().map(IoError::duplicate);
        (guard, result)
    });
    let (mut guard, result) = task.await.map_err(|e| IoError::new(op, path, io::Error::other(e)))?;
    // The caller is still here to be told.
    guard.unreported = None;
    result
}

/// A [`VfsFile`] driven by the blocking pool.
#[derive(Debug)]
struct OverVfs {
    file: Arc<dyn VfsFile>,
    /// What went wrong in a change whose future was dropped. The operation, and not the future that waits for it, holds
    /// the lock.
    unreported: Arc<RwLock<Option<IoError>>>,
}

impl OverVfs {
    /// Runs what only reads, beside other such.
    async fn look<T: Send + 'static>(
        &self,
        op: FileOp,
        run: impl FnOnce(&dyn VfsFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let runtime = runtime(op, self.file.path())?;
        let guard = self.unreported.clone().read_owned().await;
        let file = self.file.clone();
        let task = runtime.spawn_blocking(move || {
            let result = run(&*file);
            drop(guard);
            result
        });
        task.await.map_err(|e| IoError::new(op, self.file.path(), io::Error::other(e)))?
    }

    /// Runs what changes the file, alone.
    async fn change(
        &self,
        op: FileOp,
        run: impl FnOnce(&dyn VfsFile) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let runtime = runtime(op, self.file.path())?;
        let mut guard = self.unreported.clone().write_owned().await;
        if let Some(error) = guard.take() {
            return Err(error);
        }
        let file = self.file.clone();
        let task = runtime.spawn_blocking(move || {
            let result = run(&*file);
            *guard = result.as_ref().err().map(IoError::duplicate);
            (guard, result)
        });
        let (mut guard, result) =
            task.await.map_err(|e| IoError::new(op, self.file.path(), io::Error::other(e)))?;
        // The caller is still here to be told.
        *guard = None;
        result
    }
}

/// The runtime this is called in: Tokio would panic without one.
fn runtime(op: FileOp, path: &Path) -> Result<Handle> {
    Handle::try_current().map_err(|e| IoError::new(op, path, io::Error::other(e)))
}

#[cfg(test)]
mod tests;
