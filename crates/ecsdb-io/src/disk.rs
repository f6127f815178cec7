//! The real disk: the one place (with `platform`) that calls `std::fs`.
#![allow(clippy::disallowed_methods, reason = "this file is the home of the raw calls")]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Context, FileOp, IoError, Result};
use crate::platform;
use crate::vfs::{DirEntry, DirLock, LockError, OpenMode, Vfs, VfsFile};

/// The operating system's files, clock and random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile {
    file: File,
    path: PathBuf,
}

impl Vfs for Disk {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .context(FileOp::Create, path)?;
        Ok(Arc::new(DiskFile { file, path: path.into() }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode == OpenMode::ReadWrite)
            .open(path)
            .context(FileOp::Open, path)?;
        Ok(Arc::new(DiskFile { file, path: path.into() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).context(FileOp::Rename, from)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).context(FileOp::Remove, path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).context(FileOp::CreateDir, path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        platform::sync_dir(path).context(FileOp::SyncDir, path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let list = || -> io::Result<Vec<DirEntry>> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                // A name that is not Unicode is none of ours, and is left alone.
                let Ok(name) = entry.file_name().into_string() else { continue };
                match entry.metadata() {
                    Ok(meta) => entries.push(DirEntry { name, is_dir: meta.is_dir(), len: meta.len() }),
                    // Removed between listing and looking.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        };
        list().context(FileOp::ReadDir, path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(IoError::new(FileOp::Metadata, path, e)),
        }
    }

    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .context(FileOp::Lock, path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                (&file).take(1024).read_to_end(&mut text).context(FileOp::Read, path)?;
                let text = String::from_utf8_lossy(&text).trim().to_string();
                let holder = if text.is_empty() { "another process".to_string() } else { text };
                return Err(LockError::Held { path: path.into(), holder });
            }
            Err(TryLockError::Error(e)) => return Err(IoError::new(FileOp::Lock, path, e).into()),
        }
        let mut note = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder.as_bytes())
        };
        note().context(FileOp::Write, path)?;
        Ok(Box::new(DiskLock { _file: file }))
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        platform::free_space(path).context(FileOp::FreeSpace, path)
    }

    fn now_unix_ns(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
    }

    fn random_u64(&self) -> u64 {
        // The system's generator fails only where there is none at all; a salt need not be secret, so a
        // hasher's random keys do as well there.
        getrandom::u64().unwrap_or_else(|_| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(self.now_unix_ns())
        })
    }
}

impl VfsFile for DiskFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().context(FileOp::Metadata, &self.path)?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        loop {
            match platform::read_at(&self.file, buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.context(FileOp::Read, &self.path),
            }
        }
    }

    fn write_all_at(&self, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> Result<()> {
        IoSlice::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            match platform::write_vectored_at(&self.file, bufs, offset) {
                Ok(0) => {
                    return Err(IoError::new(FileOp::Write, &self.path, io::ErrorKind::WriteZero.into()));
                }
                Ok(n) => {
                    IoSlice::advance_slices(&mut bufs, n);
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(IoError::new(FileOp::Write, &self.path, e)),
            }
        }
        Ok(())
    }

    fn start_writing(&self, offset: u64, len: u64) {
        platform::start_writing(&self.file, offset, len);
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).context(FileOp::SetLen, &self.path)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().context(FileOp::Sync, &self.path)
    }

    fn will_need(&self, offset: u64, len: u64) {
        platform::will_need(&self.file, offset, len);
    }
}

/// The lock is the operating system's, on the open file: it ends with the process, whatever ends that.
#[derive(Debug)]
struct DiskLock {
    _file: File,
}

impl DirLock for DiskLock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_holder_and_a_released_one_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = Disk.try_lock(&path, "process 42").unwrap();
        match Disk.try_lock(&path, "process 43") {
            Err(LockError::Held { holder, .. }) => assert_eq!(holder, "process 42"),
            other => panic!("expected Held, got {other:?}"),
        }
        drop(lock);
        Disk.try_lock(&path, "process 43").unwrap();
    }

    #[test]
    fn writes_of_many_slices_land_in_order_at_their_offset() {
        let dir = tempfile::tempdir().unwrap();
        let file = Disk.create(&dir.path().join("f")).unwrap();
        // More slices than one system call takes (1,024).
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|i| i.to_le_bytes().to_vec()).collect();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        file.write_all_at(&mut slices, 10).unwrap();
        let mut back = vec![0; 12_000];
        file.read_exact_at(&mut back, 10).unwrap();
        assert_eq!(back, parts.concat());
        assert_eq!(file.len().unwrap(), 12_010);
        assert!(file.read_exact_at(&mut back, 11).unwrap_err().to_string().contains("1 bytes short"));
    }

    #[test]
    fn a_hint_of_reading_ahead_takes_any_range_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = Disk.create(&dir.path().join("f")).unwrap();
        file.write_at(b"content", 0).unwrap();
        for (offset, len) in [(0, 7), (0, 0), (3, 1 << 40), (u64::MAX, u64::MAX)] {
            file.will_need(offset, len);
        }
        assert_eq!(file.len().unwrap(), 7);
    }

    #[test]
    fn errors_name_operation_and_path() {
        let dir = tempfile::tempdir().unwrap();
        let e = Disk.open(&dir.path().join("missing"), OpenMode::Read).unwrap_err();
        assert!(e.is_not_found());
        assert!(e.to_string().starts_with("cannot open "), "{e}");
        assert!(e.to_string().contains("missing"), "{e}");
    }
}
