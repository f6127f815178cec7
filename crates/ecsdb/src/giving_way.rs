//! Files for whoever puts an earlier world together: once that is cancelled, or somebody waits for it while it is done at low priority, they give nothing
//! more, so that it ends wherever in it it is.

use std::fmt::{Debug, Formatter};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_compactor::Control;
use ecsdb_io::sync::atomic::{AtomicBool, Ordering};
use ecsdb_io::{DirEntry, DirLock, FileOp, IoError, LockError, LockKind, OpenMode, Vfs, VfsFile};

type Result<T, E = IoError> = std::result::Result<T, E>;

/// Files that are only read.
pub(crate) struct GivingWay {
    vfs: Arc<dyn Vfs>,
    asked: Arc<Asked>,
}

struct Asked {
    control: Control,
    /// It is done anew for whoever begins to wait.
    asks: bool,
    gave_way: AtomicBool,
}

impl Asked {
    fn go_on(&self, op: FileOp, path: &Path) -> Result<()> {
        let gives_way = self.asks && self.control.urgency().is_urgent();
        if gives_way {
            self.gave_way.store(true, Ordering::Relaxed);
        }
        if gives_way || self.control.is_cancelled() {
            // Of a kind that nobody asks for again, nor takes for the file's own fault.
            return Err(IoError::new(op, path, ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}

impl GivingWay {
    /// Those of `vfs`, which ask whether somebody waits if it `asks` for that.
    pub(crate) fn of(vfs: Arc<dyn Vfs>, control: &Control, asks: bool) -> GivingWay {
        let control = control.clone();
        GivingWay { vfs, asked: Arc::new(Asked { control, asks, gave_way: AtomicBool::new(false) }) }
    }

    /// Whether they gave nothing more since somebody waits.
    pub(crate) fn gave_way(&self) -> bool {
        self.asked.gave_way.load(Ordering::Relaxed)
    }

    /// Asks as a file does.
    pub(crate) fn goes_on(&self) -> bool {
        self.asked.go_on(FileOp::Read, Path::new("")).is_ok()
    }
}

impl Debug for GivingWay {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "GivingWay({:?})", self.vfs)
    }
}

impl Vfs for GivingWay {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        self.vfs.create(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        self.asked.go_on(FileOp::Open, path)?;
        Ok(Arc::new(File { file: self.vfs.open(path, mode)?, asked: self.asked.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.vfs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.vfs.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.vfs.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.vfs.sync_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.vfs.read_dir(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        self.vfs.file_len(path)
    }

    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        self.vfs.real_path(path)
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        self.vfs.try_lock(path, kind, holder)
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        self.vfs.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        self.vfs.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        self.vfs.random_u64()
    }
}

struct File {
    file: Arc<dyn VfsFile>,
    asked: Arc<Asked>,
}

impl Debug for File {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl VfsFile for File {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.asked.go_on(FileOp::Read, self.path())?;
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        self.file.write_all_at(bufs, offset)
    }

    fn pass_cache_by(&self) {
        self.file.pass_cache_by();
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }
}
