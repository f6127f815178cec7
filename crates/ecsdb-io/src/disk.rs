//! The real disk: the one place (with `platform`) that calls `std::fs`.
#![allow(clippy::disallowed_methods, reason = "this file is the home of the raw calls")]

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::direct::{Direct, LARGE_BYTES};
use crate::error::{Context, FileOp, IoError, Result};
use crate::lock::DiskLock;
use crate::platform;
use crate::vfs::{
    DirEntry, DirLock, EntryKind, LockError, LockKind, Make, OpenMode, Vfs, VfsFile, write_in_pieces,
};

/// The operating system's files, clock and random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile {
    file: File,
    path: PathBuf,
    writable: bool,
    /// Once it was asked for; `None` where there is no such thing.
    direct: OnceLock<Option<Direct>>,
    /// The end of what the system was asked to fetch last.
    asked_to: AtomicU64,
}

impl DiskFile {
    fn new(file: File, path: &Path, writable: bool) -> Arc<Self> {
        Arc::new(DiskFile {
            file,
            path: path.into(),
            writable,
            direct: OnceLock::new(),
            asked_to: AtomicU64::new(0),
        })
    }

    fn direct(&self) -> Option<&Direct> {
        self.direct.get()?.as_ref()
    }

    fn write_to_cache(&self, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> Result<()> {
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
}

impl Vfs for Disk {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        let file = platform::create(path, false).context(FileOp::Create, path)?;
        Ok(DiskFile::new(file, path, true))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        let writable = mode == OpenMode::ReadWrite;
        let file = platform::open(path, writable).context(FileOp::Open, path)?;
        Ok(DiskFile::new(file, path, writable))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).context(FileOp::Rename, from)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).context(FileOp::Remove, path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path).context(FileOp::Remove, path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        platform::create_dir_all(path).context(FileOp::CreateDir, path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        platform::sync_dir(path).context(FileOp::SyncDir, path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let list = || -> io::Result<Vec<DirEntry>> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let name = match entry.file_name().into_string() {
                    Ok(name) => name,
                    // It is none of ours, and can be asked for by no name; but nobody may take its directory for empty.
                    Err(name) => {
                        let name = name.to_string_lossy().into_owned();
                        entries.push(DirEntry { name, kind: EntryKind::Other, len: 0 });
                        continue;
                    }
                };
                // Of a link: the link's.
                match entry.metadata() {
                    Ok(meta) if meta.is_file() => {
                        entries.push(DirEntry { name, kind: EntryKind::File, len: meta.len() });
                    }
                    Ok(meta) => {
                        let kind = if meta.is_dir() { EntryKind::Dir } else { EntryKind::Other };
                        entries.push(DirEntry { name, kind, len: 0 });
                    }
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

    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        platform::real_path(path).context(FileOp::Metadata, path)
    }

    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        Ok(Arc::new(DiskLock::take(path, kind, holder)?))
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
        if let Some(direct) = self.direct()
            && let Some(n) = direct.read(buf, offset)?
        {
            return Ok(n);
        }
        loop {
            match platform::read_at(&self.file, buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.context(FileOp::Read, &self.path),
            }
        }
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let is_large = || bufs.iter().map(|buf| buf.len()).sum::<usize>() >= LARGE_BYTES;
        match self.direct() {
            Some(direct) if is_large() => direct
                .write(bufs, offset, |bytes, offset| self.write_to_cache(&mut [IoSlice::new(bytes)], offset)),
            _ => self.write_to_cache(bufs, offset),
        }
    }

    fn write_while_made(&self, offset: u64, make: Make<'_>) -> Result<()> {
        match self.direct() {
            Some(direct) => direct.write_while_made(offset, make, |bytes, offset| {
                self.write_to_cache(&mut [IoSlice::new(bytes)], offset)
            }),
            None => write_in_pieces(self, offset, make),
        }
    }

    fn pass_cache_by(&self) {
        self.direct.get_or_init(|| Direct::of(&self.file, &self.path, self.writable));
    }

    fn start_writing(&self, offset: u64, len: u64) {
        if self.direct().is_none() {
            platform::start_writing(&self.file, offset, len);
        }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).context(FileOp::SetLen, &self.path)
    }

    fn reserve(&self, len: u64) -> Result<()> {
        if platform::allocate(&self.file, len).context(FileOp::SetLen, &self.path)? {
            return Ok(());
        }
        self.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().context(FileOp::Sync, &self.path)
    }

    fn will_need(&self, offset: u64, len: u64) {
        if self.direct().is_some() {
            return;
        }
        // Who reads on says so again and again, and the system looks at each page of a range: it is asked for each of them once, and for many at a time.
        let asked_to = self.asked_to.load(Ordering::Relaxed);
        let end = offset.saturating_add(len);
        let goes_on = (offset..=end.saturating_add(len)).contains(&asked_to);
        let from = if goes_on { asked_to } else { offset };
        if end.saturating_sub(from) >= len.div_ceil(2) {
            self.asked_to.store(end, Ordering::Relaxed);
            platform::will_need(&self.file, from, end - from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_listed_as_strangers_and_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (dir.path().join("f"), dir.path().join("link"), dir.path().join("pipe"));
        Disk.create(&file).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let kinds: Vec<_> = Disk.read_dir(dir.path()).unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::File, EntryKind::Other, EntryKind::Other, EntryKind::Other]);
        for path in [&link, &pipe, &socket] {
            for mode in [OpenMode::Read, OpenMode::ReadWrite] {
                assert!(Disk.open(path, mode).unwrap_err().is_of_the_file(), "{path:?} {mode:?}");
            }
            assert!(Disk.create(path).is_err());
        }
        let lock = dir.path().join("link");
        assert!(matches!(Disk.try_lock(&lock, LockKind::Exclusive, "process 1"), Err(LockError::Io(_))));
        assert!(Disk.open(dir.path(), OpenMode::Read).unwrap_err().is_of_the_file());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_has_no_unicode_for_a_name_is_listed_as_a_strangers() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"\xff"[..], b"0000000000000001.seg\xff", b"d\xff"] {
            let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
            if name[0] == b'd' { fs::create_dir(path).unwrap() } else { fs::write(path, "mine").unwrap() }
        }
        let entries = Disk.read_dir(dir.path()).unwrap();
        assert_eq!(entries.len(), 3);
        for entry in entries {
            assert!(entry.kind == EntryKind::Other && entry.name.contains('\u{fffd}'), "{entry:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_in_the_place_of_a_link_that_leads_to_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("away"), &link).unwrap();
        for path in [&link, &link.join("inner")] {
            let refused = Disk.create_dir_all(path).unwrap_err().to_string();
            assert!(refused.contains("leads to nothing"), "{refused}");
        }
        fs::create_dir(dir.path().join("away")).unwrap();
        Disk.create_dir_all(&link.join("inner")).unwrap();
        assert!(dir.path().join("away/inner").is_dir());
    }

    #[cfg(unix)]
    #[test]
    fn files_are_private_unless_their_directory_is_for_its_group() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for (given, file, inner) in
            [(0o700, 0o600, 0o700), (0o755, 0o600, 0o700), (0o750, 0o640, 0o750), (0o770, 0o660, 0o770)]
        {
            let dir = tempfile::tempdir().unwrap();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(given)).unwrap();
            let (f, d) = (dir.path().join("f"), dir.path().join("a/b"));
            Disk.create(&f).unwrap();
            Disk.create_dir_all(&d).unwrap();
            assert_eq!((mode(&f), mode(&d), mode(d.parent().unwrap())), (file, inner, inner), "{given:o}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_the_superuser_makes_belongs_to_whom_the_directory_does() {
        use std::os::unix::fs::{MetadataExt, chown};
        let dir = tempfile::tempdir().unwrap();
        if chown(dir.path(), Some(4711), Some(4712)).is_err() {
            println!("SKIPPED: only the superuser can give files away");
            return;
        }
        let (f, d) = (dir.path().join("f"), dir.path().join("a/b"));
        Disk.create(&f).unwrap();
        Disk.create_dir_all(&d).unwrap();
        for path in [&f, &d] {
            let meta = fs::metadata(path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (4711, 4712));
        }
    }

    #[cfg(unix)]
    #[test]
    fn it_is_the_group_of_the_directory_that_is_let_in() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        if chown(dir.path(), None, Some(4712)).is_err() {
            println!("SKIPPED: only the superuser can give files to any group");
            return;
        }
        let (f, d) = (dir.path().join("f"), dir.path().join("a/b"));
        Disk.create(&f).unwrap();
        Disk.create_dir_all(&d).unwrap();
        for (path, mode) in [(&f, 0o660), (&d, 0o770)] {
            let meta = fs::metadata(path).unwrap();
            assert_eq!((meta.gid(), meta.permissions().mode() & 0o777), (4712, mode));
        }
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
