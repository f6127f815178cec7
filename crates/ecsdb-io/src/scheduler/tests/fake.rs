//! A disk in memory that writes down what is done to it, and holds, fails or panics on request.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{FileOp, IoError, Result};
use crate::vfs::{DirEntry, DirLock, EntryKind, LockError, LockKind, OpenMode, Vfs, VfsFile};

/// After which a test has failed: nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    log: Vec<String>,
    held: HashSet<PathBuf>,
    /// Operations that wait for being released, by path.
    waiting: HashMap<PathBuf, usize>,
    /// How many more operations fail.
    failing: HashMap<(PathBuf, FileOp), usize>,
    panicking: bool,
}

impl Fake {
    /// Makes operations on the file wait.
    pub(crate) fn hold(&self, path: &str) {
        self.inner.state.lock().held.insert(path.into());
    }

    /// Lets them go on.
    pub(crate) fn release(&self, path: &str) {
        self.inner.state.lock().held.remove(Path::new(path));
        self.inner.changed.notify_all();
    }

    /// Waits until so many operations on the file wait.
    pub(crate) fn await_held(&self, path: &str, count: usize) {
        let mut state = self.inner.state.lock();
        while state.waiting.get(Path::new(path)).copied().unwrap_or(0) < count {
            let late = self.inner.changed.wait_for(&mut state, PATIENCE).timed_out();
            assert!(!late, "no operation came to {path}");
        }
    }

    /// Makes the next `count` such operations fail.
    pub(crate) fn fail(&self, path: &str, op: FileOp, count: usize) {
        self.inner.state.lock().failing.insert((path.into(), op), count);
    }

    /// Makes the next operation panic.
    pub(crate) fn panic(&self) {
        self.inner.state.lock().panicking = true;
    }

    /// What was done so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.inner.state.lock().log.clone()
    }

    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        self.inner.state.lock().files[Path::new(path)].lock().clone()
    }

    fn file(&self, path: &Path, content: Arc<Mutex<Vec<u8>>>) -> Arc<dyn VfsFile> {
        Arc::new(FakeFile { disk: self.clone(), path: path.into(), content })
    }

    fn enter(&self, path: &Path, op: FileOp, what: String) -> Result<()> {
        let mut state = self.inner.state.lock();
        *state.waiting.entry(path.into()).or_default() += 1;
        self.inner.changed.notify_all();
        while state.held.contains(path) {
            if self.inner.changed.wait_for(&mut state, PATIENCE).timed_out() {
                state.held.remove(path);
            }
        }
        *state.waiting.entry(path.into()).or_default() -= 1;
        state.log.push(what);
        if std::mem::take(&mut state.panicking) {
            drop(state);
            panic!("as the test wants it");
        }
        match state.failing.get_mut(&(path.into(), op)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                Err(IoError::new(op, path, ErrorKind::StorageFull.into()))
            }
            _ => Ok(()),
        }
    }
}

impl Vfs for Fake {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        let content = Arc::default();
        self.inner.state.lock().files.insert(path.into(), Arc::clone(&content));
        Ok(self.file(path, content))
    }

    fn open(&self, path: &Path, _: OpenMode) -> Result<Arc<dyn VfsFile>> {
        match self.inner.state.lock().files.get(path) {
            Some(content) => Ok(self.file(path, content.clone())),
            None => Err(IoError::new(FileOp::Open, path, ErrorKind::NotFound.into())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.inner.state.lock();
        state.log.push(format!("rename {} {}", from.display(), to.display()));
        let content = state.files.remove(from).unwrap();
        state.files.insert(to.into(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match self.inner.state.lock().files.remove(path) {
            Some(_) => Ok(()),
            None => Err(IoError::new(FileOp::Remove, path, ErrorKind::NotFound.into())),
        }
    }

    fn remove_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn create_dir_all(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<()> {
        self.inner.state.lock().log.push("sync_dir".into());
        Ok(())
    }

    fn read_dir(&self, _: &Path) -> Result<Vec<DirEntry>> {
        let state = self.inner.state.lock();
        let entry = |(path, content): (&PathBuf, &Arc<Mutex<Vec<u8>>>)| DirEntry {
            name: path.display().to_string(),
            kind: EntryKind::File,
            len: content.lock().len() as u64,
        };
        Ok(state.files.iter().map(entry).collect())
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        Ok(self.inner.state.lock().files.get(path).map(|content| content.lock().len() as u64))
    }

    fn try_lock(&self, path: &Path, _: LockKind, _: &str) -> Result<Arc<dyn DirLock>, LockError> {
        Err(IoError::new(FileOp::Lock, path, ErrorKind::Unsupported.into()).into())
    }

    fn free_space(&self, _: &Path) -> Result<Option<u64>> {
        Ok(None)
    }

    fn now_unix_ns(&self) -> u64 {
        0
    }

    fn random_u64(&self) -> u64 {
        0
    }
}

#[derive(Debug)]
struct FakeFile {
    disk: Fake,
    path: PathBuf,
    content: Arc<Mutex<Vec<u8>>>,
}

impl FakeFile {
    fn enter(&self, op: FileOp, word: &str, rest: String) -> Result<()> {
        self.disk.enter(&self.path, op, format!("{word} {}{rest}", self.path.display()))
    }
}

impl VfsFile for FakeFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        self.enter(FileOp::Metadata, "len", String::new())?;
        Ok(self.content.lock().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.enter(FileOp::Read, "read", format!(" {offset}+{}", buf.len()))?;
        let content = self.content.lock();
        let rest = content.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let bytes = bufs.iter().map(|buf| &**buf).collect::<Vec<&[u8]>>().concat();
        self.enter(FileOp::Write, "write", format!(" {offset}+{}", bytes.len()))?;
        let mut content = self.content.lock();
        let end = offset as usize + bytes.len();
        let len = content.len().max(end);
        content.resize(len, 0);
        content[offset as usize..end].copy_from_slice(&bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.enter(FileOp::SetLen, "set_len", format!(" {len}"))?;
        self.content.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        self.enter(FileOp::Sync, "sync", String::new())
    }
}
