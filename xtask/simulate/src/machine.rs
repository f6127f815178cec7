//! The machine that a simulated life runs on: a simulated disk of which every operation is a point where another thread may go on, a
//! wall clock that jumps, an archive that can be away, and a hash of everything that happened.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ecsdb_io::sync::{clock, thread};
use ecsdb_io::{DirEntry, DirLock, FileOp, IoError, LockError, LockKind, OpenMode, Result, Vfs, VfsFile};
use ecsdb_sim::SimDisk;
use xxhash_rust::xxh3::Xxh3Default;

/// The wall clock at the beginning: 2024-01-01 UTC.
const EPOCH_NS: i64 = 1_704_067_200_000_000_000;

/// Where the database lies, and its archive where that has a directory of its own.
pub(crate) const WORLD: &str = "/data/world";
pub(crate) const ARCHIVE: &str = "/archive/world";

#[derive(Clone)]
pub(crate) struct Machine(Arc<Shared>);

struct Shared {
    disk: Mutex<SimDisk>,
    trace: Mutex<Xxh3Default>,
    operations: AtomicI64,
    /// How far the wall clock was set, in nanoseconds.
    clock_set: AtomicI64,
    archive_away: AtomicBool,
    sync_failed: AtomicBool,
    /// Extra chances for others at each operation.
    slowness: AtomicU32,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

/// Everything that happens is printed.
pub(crate) static SHOWN: AtomicBool = AtomicBool::new(false);

impl Machine {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Machine(Arc::new(Shared {
            disk: Mutex::new(disk),
            trace: Mutex::default(),
            operations: AtomicI64::new(0),
            clock_set: AtomicI64::new(EPOCH_NS),
            archive_away: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            slowness: AtomicU32::new(0),
        }))
    }

    pub(crate) fn disk(&self) -> SimDisk {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is there after the power was gone.
    pub(crate) fn replace_disk(&self, disk: SimDisk) {
        self.0.sync_failed.store(false, Ordering::Relaxed);
        *self.0.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    pub(crate) fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.clone())
    }

    pub(crate) fn set_clock_by(&self, seconds: i64) {
        self.0.clock_set.fetch_add(seconds.saturating_mul(1_000_000_000), Ordering::Relaxed);
    }

    pub(crate) fn set_archive_away(&self, away: bool) {
        self.0.archive_away.store(away, Ordering::Relaxed);
    }

    /// Whether a sync failed since this was asked last, or the machine went down.
    pub(crate) fn take_failed_sync(&self) -> bool {
        self.0.sync_failed.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn set_slowness(&self, slowness: u32) {
        self.0.slowness.store(slowness, Ordering::Relaxed);
    }

    /// Adds to the hash of what happened.
    pub(crate) fn note(&self, what: &str, bytes: &[u8]) {
        if SHOWN.load(Ordering::Relaxed) {
            println!("  {what} ({} bytes)", bytes.len());
        }
        let mut trace = self.0.trace.lock().unwrap_or_else(PoisonError::into_inner);
        trace.update(what.as_bytes());
        trace.update(&(bytes.len() as u64).to_le_bytes());
        trace.update(bytes);
        drop(trace);
        self.0.operations.fetch_add(1, Ordering::Relaxed);
    }

    /// How much happened, and its hash.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let trace = self.0.trace.lock().unwrap_or_else(PoisonError::into_inner);
        (self.0.operations.load(Ordering::Relaxed) as u64, trace.digest())
    }

    /// An operation begins: others may go on before it.
    fn step(&self, op: FileOp, path: &Path, bytes: &[u8]) -> Result<SimDisk> {
        thread::yield_now();
        for _ in 0..self.0.slowness.load(Ordering::Relaxed) {
            clock::advance(Duration::from_micros(200));
            thread::yield_now();
        }
        self.note(&format!("{op} {}", path.display()), bytes);
        if self.0.archive_away.load(Ordering::Relaxed) && path.starts_with("/archive") {
            return Err(IoError::new(op, path, std::io::ErrorKind::NotFound.into()));
        }
        Ok(self.disk())
    }

    fn done<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(e) = &result {
            if matches!(e.op, FileOp::Sync | FileOp::SyncDir) {
                self.0.sync_failed.store(true, Ordering::Relaxed);
            }
            self.note(&e.to_string(), &[]);
        }
        result
    }
}

impl Vfs for Machine {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        let file = self.step(FileOp::Create, path, &[]).and_then(|disk| disk.create(path));
        Ok(Arc::new(File { machine: self.clone(), path: path.into(), file: self.done(file)? }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        let file = self.step(FileOp::Open, path, &[]).and_then(|disk| disk.open(path, mode));
        Ok(Arc::new(File { machine: self.clone(), path: path.into(), file: self.done(file)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.done(self.step(FileOp::Rename, from, &[]).and_then(|disk| disk.rename(from, to)))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.done(self.step(FileOp::Remove, path, &[]).and_then(|disk| disk.remove(path)))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.done(self.step(FileOp::Remove, path, &[]).and_then(|disk| disk.remove_dir(path)))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.done(self.step(FileOp::CreateDir, path, &[]).and_then(|disk| disk.create_dir_all(path)))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.done(self.step(FileOp::SyncDir, path, &[]).and_then(|disk| disk.sync_dir(path)))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.done(self.step(FileOp::ReadDir, path, &[]).and_then(|disk| disk.read_dir(path)))
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        self.done(self.step(FileOp::Metadata, path, &[]).and_then(|disk| disk.file_len(path)))
    }

    fn try_lock(
        &self,
        path: &Path,
        kind: LockKind,
        _holder: &str,
    ) -> std::result::Result<Arc<dyn DirLock>, LockError> {
        // The holder's name has the number of this process in it, which is another one each time.
        self.step(FileOp::Lock, path, &[])?.try_lock(path, kind, "a simulated process")
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        self.step(FileOp::FreeSpace, path, &[])?.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        clock::advance(Duration::from_micros(1));
        let set = self.0.clock_set.load(Ordering::Relaxed);
        set.saturating_add(i64::try_from(clock::since_start().as_nanos()).unwrap_or(i64::MAX)).max(0) as u64
    }

    fn random_u64(&self) -> u64 {
        self.disk().random_u64()
    }
}

#[derive(Debug)]
struct File {
    machine: Machine,
    path: PathBuf,
    file: Arc<dyn VfsFile>,
}

impl File {
    fn step(&self, op: FileOp, bytes: &[u8]) -> Result<()> {
        self.machine.step(op, &self.path, bytes).map(drop)
    }
}

impl VfsFile for File {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        self.machine.done(self.file.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.step(FileOp::Read, &offset.to_le_bytes())?;
        self.machine.done(self.file.read_at(buf, offset))
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let bytes = bufs.iter().map(|buf| &**buf).collect::<Vec<&[u8]>>().concat();
        self.step(FileOp::Write, &bytes)?;
        self.machine.note("at", &offset.to_le_bytes());
        self.machine.done(self.file.write_all_at(&mut [IoSlice::new(&bytes)], offset))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.step(FileOp::SetLen, &len.to_le_bytes())?;
        self.machine.done(self.file.set_len(len))
    }

    fn sync_data(&self) -> Result<()> {
        self.step(FileOp::Sync, &[])?;
        self.machine.done(self.file.sync_data())
    }
}
