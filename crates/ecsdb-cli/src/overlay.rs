//! A disk on which nothing is changed: what is written, renamed and removed is so for whoever goes on with it, and for nobody else. A dry run is the
//! real one on such a disk: what it says of files is what the other would say, since both look at the same names in the same way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use ecsdb_io::{
    DirEntry, DirLock, Disk, EntryKind, FileOp, IoError, LockError, LockKind, OpenMode, Vfs, VfsFile, is_dir,
    lock_there,
};

use crate::target::access;

type Result<T, E = IoError> = std::result::Result<T, E>;

/// The real disk, and over it what was changed.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// What is written.
    dir: tempfile::TempDir,
    changed: Mutex<Changed>,
}

#[derive(Debug, Default)]
struct Changed {
    /// By their real names, below the directories that they lie in.
    names: BTreeMap<PathBuf, BTreeMap<OsString, Entry>>,
    /// Files that were made or opened so far.
    files: u64,
}

#[derive(Debug, Clone)]
enum Entry {
    Gone,
    Dir,
    /// What lies under another name on the disk, or a file.
    There(Arc<Content>),
}

/// What is in a file, whatever its name is by now.
#[derive(Debug)]
struct Content {
    /// Where that lies on the disk; whatever it is.
    original: Option<PathBuf>,
    /// Where it lies once it was written to.
    own: PathBuf,
    is_own: Mutex<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the file on the disk, as one of the name by which it was asked for. What is wrong with a dry run's own file is no fault of that.
fn of<'a>(path: &'a Path, content: &'a Content) -> impl Fn(IoError) -> IoError + 'a {
    move |e| if e.path == content.own { e } else { IoError { path: path.into(), ..e } }
}

fn error(op: FileOp, path: &Path) -> impl Fn(io::Error) -> IoError {
    move |e| IoError::new(op, path, e)
}

fn kind(op: FileOp, path: &Path, kind: ErrorKind) -> IoError {
    IoError::new(op, path, system(kind))
}

/// In the words of the system.
#[cfg(unix)]
fn system(kind: ErrorKind) -> io::Error {
    use rustix::io::Errno;
    match kind {
        ErrorKind::NotFound => Errno::NOENT.into(),
        ErrorKind::AlreadyExists => Errno::EXIST.into(),
        ErrorKind::IsADirectory => Errno::ISDIR.into(),
        other => other.into(),
    }
}

#[cfg(not(unix))]
fn system(kind: ErrorKind) -> io::Error {
    kind.into()
}

impl Content {
    fn is_own(&self) -> bool {
        *locked(&self.is_own)
    }

    /// Where it lies now.
    fn place(&self) -> &Path {
        match &self.original {
            Some(original) if !self.is_own() => original,
            _ => &self.own,
        }
    }

    /// Makes it one that can be written to.
    fn own(&self) -> Result<()> {
        let mut is_own = locked(&self.is_own);
        if let Some(original) = self.original.as_ref().filter(|_| !*is_own) {
            let mut from = File::open(original).map_err(error(FileOp::Open, original))?;
            let mut to = File::create_new(&self.own).map_err(error(FileOp::Create, &self.own))?;
            io::copy(&mut from, &mut to).map_err(|e| {
                let e = IoError::new(FileOp::Write, &self.own, e);
                if e.is_full_disk() { e } else { IoError { op: FileOp::Read, path: original.into(), ..e } }
            })?;
            *is_own = true;
        }
        Ok(())
    }

    fn entry(&self, name: String) -> io::Result<DirEntry> {
        // Of a link: the link's.
        let meta = fs::symlink_metadata(self.place())?;
        let (kind, len) = match meta.is_file() {
            true => (EntryKind::File, meta.len()),
            false if meta.is_dir() => (EntryKind::Dir, 0),
            false => (EntryKind::Other, 0),
        };
        Ok(DirEntry { name, kind, len })
    }
}

impl Overlay {
    pub(crate) fn new() -> anyhow::Result<Overlay> {
        let dir =
            tempfile::Builder::new().prefix("ecsdb-dry-run-").tempdir().map_err(crate::target::nameless);
        let dir = dir.with_context(|| {
            format!(
                "making a directory for what the dry run writes in {} (TMPDIR)",
                std::env::temp_dir().display()
            )
        })?;
        Ok(Overlay { dir, changed: Mutex::default() })
    }

    /// The directory that a name is in, by its real name, and what it is called there.
    fn split(&self, path: &Path) -> Result<(PathBuf, OsString)> {
        let name = path.file_name().ok_or_else(|| kind(FileOp::Metadata, path, ErrorKind::InvalidInput))?;
        Ok((self.real(path.parent().unwrap_or(path))?, name.into()))
    }

    /// As on the disk, but for directories that were made here, in the place of whatever lies there.
    fn real(&self, dir: &Path) -> Result<PathBuf> {
        if dir.file_name().is_some() {
            let (parent, name) = self.split(dir)?;
            if let Some(Entry::Dir) =
                locked(&self.changed).names.get(&parent).and_then(|names| names.get(&name))
            {
                return Ok(parent.join(name));
            }
        }
        Disk.real_path(dir)
    }

    /// What has become of a name; `None` where it is as on the disk.
    fn entry(&self, path: &Path) -> Result<Option<Entry>> {
        if path.file_name().is_none() {
            return Ok(None);
        }
        let (dir, name) = self.split(path)?;
        Ok(locked(&self.changed).names.get(&dir).and_then(|names| names.get(&name)).cloned())
    }

    fn set(&self, path: &Path, entry: Entry) -> Result<()> {
        let (dir, name) = self.split(path)?;
        locked(&self.changed).names.entry(dir).or_default().insert(name, entry);
        Ok(())
    }

    fn content(&self, original: Option<&Path>) -> Arc<Content> {
        let mut changed = locked(&self.changed);
        changed.files += 1;
        let own = self.dir.path().join(changed.files.to_string());
        Arc::new(Content { original: original.map(Into::into), own, is_own: Mutex::new(original.is_none()) })
    }

    /// Whether the disk has a name, in a directory of its own.
    fn is_on_disk(&self, path: &Path) -> Result<bool> {
        let within = self.entry(path.parent().unwrap_or(path))?;
        Ok(!matches!(within, Some(Entry::Dir)) && fs::symlink_metadata(path).is_ok())
    }

    /// What a name stands for.
    fn there(&self, op: FileOp, path: &Path) -> Result<Arc<Content>> {
        match self.entry(path)? {
            Some(Entry::There(content)) => Ok(content),
            Some(Entry::Gone) => Err(kind(op, path, ErrorKind::NotFound)),
            Some(Entry::Dir) => Err(kind(op, path, ErrorKind::IsADirectory)),
            None => {
                if !self.is_on_disk(path)? {
                    return Err(kind(op, path, ErrorKind::NotFound));
                }
                let content = self.content(Some(path));
                self.set(path, Entry::There(content.clone()))?;
                Ok(content)
            }
        }
    }

    /// Refuses what the system would refuse: a name in a directory that is not there, or not to be changed.
    fn can_change(&self, op: FileOp, path: &Path) -> Result<()> {
        let dir = path.parent().unwrap_or(path);
        match self.entry(dir)? {
            Some(Entry::Dir) => Ok(()),
            Some(Entry::Gone) => Err(kind(op, path, ErrorKind::NotFound)),
            _ => access(dir, true).map_err(error(op, path)),
        }
    }
}

impl Vfs for Overlay {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>> {
        let is_free = match self.entry(path)? {
            Some(entry) => matches!(entry, Entry::Gone),
            None => !self.is_on_disk(path)?,
        };
        if !is_free {
            return Err(kind(FileOp::Create, path, ErrorKind::AlreadyExists));
        }
        self.can_change(FileOp::Create, path)?;
        let content = self.content(None);
        let file = Disk.create(&content.own)?;
        self.set(path, Entry::There(content.clone()))?;
        Ok(Arc::new(Handle { path: path.into(), content, open: Mutex::new(Open { is_own: true, file }) }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>> {
        let content = self.there(FileOp::Open, path)?;
        let is_own = content.is_own();
        // Nothing is written to what lies on the disk.
        let for_reading = if is_own { mode } else { OpenMode::Read };
        let file = Disk.open(content.place(), for_reading).map_err(of(path, &content))?;
        if mode == OpenMode::ReadWrite && !is_own {
            access(content.place(), false).map_err(error(FileOp::Open, path))?;
        }
        Ok(Arc::new(Handle { path: path.into(), content, open: Mutex::new(Open { is_own, file }) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let content = self.there(FileOp::Rename, from)?;
        self.can_change(FileOp::Rename, from)?;
        self.can_change(FileOp::Rename, to)?;
        let is_dir = match self.entry(to)? {
            Some(Entry::There(there)) => there.place().is_dir(),
            Some(entry) => matches!(entry, Entry::Dir),
            None => self.is_on_disk(to)? && fs::symlink_metadata(to).is_ok_and(|meta| meta.is_dir()),
        };
        if is_dir {
            return Err(kind(FileOp::Rename, from, ErrorKind::IsADirectory));
        }
        self.set(from, Entry::Gone)?;
        self.set(to, Entry::There(content))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let content = self.there(FileOp::Remove, path)?;
        self.can_change(FileOp::Remove, path)?;
        if fs::symlink_metadata(content.place()).is_ok_and(|meta| meta.is_dir()) {
            return Err(kind(FileOp::Remove, path, ErrorKind::IsADirectory));
        }
        self.set(path, Entry::Gone)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        match self.entry(path)? {
            Some(Entry::Dir) if self.read_dir(path)?.is_empty() => self.set(path, Entry::Gone),
            _ => Err(kind(FileOp::Remove, path, ErrorKind::DirectoryNotEmpty)),
        }
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut dirs: Vec<&Path> = path.ancestors().filter(|dir| dir.file_name().is_some()).collect();
        dirs.reverse();
        for dir in dirs {
            match self.entry(dir)? {
                Some(Entry::Dir) => continue,
                Some(Entry::There(there)) if !there.place().is_dir() => {
                    return Err(kind(FileOp::CreateDir, path, ErrorKind::AlreadyExists));
                }
                Some(Entry::There(_)) => continue,
                Some(Entry::Gone) => {}
                None if !self.is_on_disk(dir)? => {}
                None if is_dir(dir).map_err(error(FileOp::CreateDir, path))? => continue,
                // It was removed meanwhile.
                None => {}
            }
            self.can_change(FileOp::CreateDir, dir)?;
            self.set(dir, Entry::Dir)?;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        match self.entry(path)? {
            Some(Entry::Dir) => Ok(()),
            _ => fs::read_dir(path).map(drop).map_err(error(FileOp::SyncDir, path)),
        }
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let mut entries = match self.entry(path) {
            Ok(Some(Entry::Dir)) => Vec::new(),
            _ => Disk.read_dir(path)?,
        };
        let real = self.real(path)?;
        let changed = locked(&self.changed).names.get(&real).cloned().unwrap_or_default();
        entries.retain(|entry| !changed.contains_key(OsString::from(&entry.name).as_os_str()));
        for (name, entry) in changed {
            let Ok(name) = name.into_string() else { continue };
            match entry {
                Entry::Gone => {}
                Entry::Dir => entries.push(DirEntry { name, kind: EntryKind::Dir, len: 0 }),
                Entry::There(content) => match content.entry(name) {
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    entry => entries.push(entry.map_err(error(FileOp::ReadDir, path))?),
                },
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        match self.entry(path)? {
            None if self.is_on_disk(path)? => Disk.file_len(path),
            None | Some(Entry::Gone) => Ok(None),
            Some(Entry::Dir) => Ok(Some(0)),
            Some(Entry::There(content)) => Disk.file_len(content.place()).map_err(of(path, &content)),
        }
    }

    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        self.real(path)
    }

    /// The lock that is there: nobody changes anything meanwhile. Where none is, nobody has it, and none is made.
    fn try_lock(&self, path: &Path, kind: LockKind, holder: &str) -> Result<Arc<dyn DirLock>, LockError> {
        match lock_there(path, kind, holder)? {
            Some(lock) => Ok(lock),
            None => {
                self.can_change(FileOp::Lock, path)?;
                Ok(Arc::new(Free))
            }
        }
    }

    fn free_space(&self, path: &Path) -> Result<Option<u64>> {
        Disk.free_space(path)
    }

    fn now_unix_ns(&self) -> u64 {
        Disk.now_unix_ns()
    }

    fn random_u64(&self) -> u64 {
        Disk.random_u64()
    }
}

/// A lock that nobody has.
#[derive(Debug)]
struct Free;

impl DirLock for Free {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    path: PathBuf,
    content: Arc<Content>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    is_own: bool,
    file: Arc<dyn VfsFile>,
}

impl Handle {
    /// The file that it is by now.
    fn file(&self) -> Result<Arc<dyn VfsFile>> {
        let mut open = locked(&self.open);
        if !open.is_own && self.content.is_own() {
            let file = Disk.open(&self.content.own, OpenMode::ReadWrite)?;
            *open = Open { is_own: true, file };
        }
        Ok(open.file.clone())
    }

    fn change(&self, with: impl FnOnce(&dyn VfsFile) -> Result<()>) -> Result<()> {
        self.content.own().map_err(of(&self.path, &self.content))?;
        with(&*self.file()?).map_err(of(&self.path, &self.content))
    }
}

impl VfsFile for Handle {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        self.file()?.len().map_err(of(&self.path, &self.content))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file()?.read_at(buf, offset).map_err(of(&self.path, &self.content))
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        self.change(|file| file.write_all_at(bufs, offset))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.change(|file| file.set_len(len))
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
