//! The lock on a directory of the real disk, and the note beside it that says who has it (REC-12).

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Context, FileOp, IoError};
use crate::platform::{self, FileId};
use crate::process::Process;
use crate::vfs::{DirLock, LockError, LockKind};

/// The locks that this process has. A number would not tell: in two containers it may mean two processes.
static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

/// Lock files of one name that are removed one after another by whoever has them, before that is taken for a fault.
const NAMES_MAX: u32 = 1000;

#[derive(Debug)]
struct Held {
    id: FileId,
    process: Process,
    /// As in the note.
    holder: String,
}

impl Held {
    fn is_on(&self, id: &FileId) -> bool {
        self.id == *id && self.process.is_current()
    }
}

/// The lock is the operating system's, on the open file: it ends with the process, whatever ends that.
#[derive(Debug)]
pub(crate) struct DiskLock {
    process: Process,
    path: PathBuf,
    id: FileId,
    file: File,
    note: Option<File>,
}

impl DirLock for DiskLock {
    fn check(&self) -> Result<(), IoError> {
        if has_name(&self.path, &self.id)? { Ok(()) } else { Err(IoError::lock_lost(&self.path)) }
    }
}

impl DiskLock {
    pub(crate) fn take(path: &Path, kind: LockKind, holder: &str) -> Result<DiskLock, LockError> {
        DiskLock::by_name(path, kind, holder, true, || open(path).map(Some))?
            .ok_or_else(|| IoError::lock_lost(path).into())
    }

    /// Takes the lock on what `open` finds under its name; `None` where that finds nothing.
    fn by_name(
        path: &Path,
        kind: LockKind,
        holder: &str,
        leaves_note: bool,
        open: impl Fn() -> io::Result<Option<File>>,
    ) -> Result<Option<DiskLock>, LockError> {
        let beside = path.with_extension("holder");
        for _ in 0..NAMES_MAX {
            let Some(file) = open().context(FileOp::Lock, path)? else { return Ok(None) };
            let id = file
                .metadata()
                .and_then(|meta| platform::file_id(path, &meta))
                .context(FileOp::Lock, path)?;
            // To the end: whoever finds the file locked by this process finds it in the list.
            let mut held = HELD.lock();
            let locked = match kind {
                LockKind::Exclusive => file.try_lock(),
                LockKind::Shared => file.try_lock_shared(),
            };
            match locked {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = match held.iter().find(|held| held.is_on(&id)) {
                        Some(own) => {
                            format!("this process itself ({}), which has it open already", own.holder)
                        }
                        None => holder_of(&beside).unwrap_or_else(|| "another process".into()),
                    };
                    return Err(LockError::Held { path: path.into(), holder });
                }
                Err(TryLockError::Error(e)) => return Err(IoError::new(FileOp::Lock, path, e).into()),
            }
            // Whoever had it may have removed it between: then it keeps nobody out.
            if !has_name(path, &id)? {
                continue;
            }
            // Whoever cannot leave a note has the lock all the same. Of several readers the first one leaves it.
            let note = leaves_note.then(|| leave_note(&beside, holder)).and_then(|note| {
                note.inspect_err(|e| tracing::debug!(error = %e, "who holds the lock could not be noted"))
                    .ok()
            });
            let process = Process::current();
            held.push(Held { id: id.clone(), process, holder: holder.into() });
            return Ok(Some(DiskLock { process, path: path.into(), id, file, note }));
        }
        Err(IoError::lock_lost(path).into())
    }
}

/// Takes a lock whose file is there, as [`Disk`](crate::Disk) does, and makes and writes nothing: for whoever only asks who has it, or only tries what
/// would be done. `None` where there is no file: nobody has it.
///
/// # Errors
/// [`LockError::Held`], with its holder; or when what is there cannot be locked.
pub fn lock_there(path: &Path, kind: LockKind, holder: &str) -> Result<Option<Arc<dyn DirLock>>, LockError> {
    let lock = DiskLock::by_name(path, kind, holder, false, || match platform::open(path, false) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    })?;
    Ok(lock.map(|lock| Arc::new(lock) as Arc<dyn DirLock>))
}

/// Whether a lock file is the one that has its name.
fn has_name(path: &Path, id: &FileId) -> Result<bool, IoError> {
    match std::fs::symlink_metadata(path).and_then(|meta| platform::file_id(path, &meta)) {
        Ok(of_name) => Ok(of_name == *id),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(IoError::new(FileOp::Lock, path, e)),
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // In a fork the lock is not this process's to give back: the open file is the same.
        if !self.process.is_current() {
            return;
        }
        let mut held = HELD.lock();
        if let Some(own) = held.iter().position(|held| held.is_on(&self.id)) {
            held.swap_remove(own);
        }
        // A process that was forked meanwhile has the files open, too: closing alone would leave it the locks. The note first: it is the next
        // holder's as soon as the lock is.
        let emptied = self.note.as_ref().map_or(Ok(()), |note| note.set_len(0).and_then(|()| note.unlock()));
        if let Err(e) = emptied.and(self.file.unlock()) {
            tracing::debug!(error = %e, "a lock ends with its file only");
        }
    }
}

/// The lock file. Where nothing can be written, what is there can be locked.
fn open(path: &Path) -> io::Result<File> {
    platform::create(path, true).or_else(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Err(e),
        _ => platform::open(path, false).map_err(|_| e),
    })
}

/// Writes who has the lock, beside it, since where locks are mandatory a locked file cannot be read. The note is locked, too, for as long as it
/// is true: one of a holder that was killed stays behind, and the next one may not be allowed to write.
fn leave_note(path: &Path, holder: &str) -> io::Result<File> {
    let mut note = platform::create(path, true)?;
    note.try_lock()?;
    note.write_all(holder.as_bytes())?;
    note.set_len(holder.len() as u64)?;
    Ok(note)
}

/// Who has a lock that this process has not, by the note beside it; `None` if that is not known.
fn holder_of(path: &Path) -> Option<String> {
    let note = platform::open(path, false).ok()?;
    if !matches!(note.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        // Nobody's. A process that is forked just now must not keep it.
        drop(note.unlock());
        return None;
    }
    let mut text = Vec::new();
    note.take(1024).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).trim().to_string();
    let number = text.strip_prefix("process ").and_then(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.parse::<i32>().ok()
    });
    match number {
        _ if text.is_empty() => None,
        // The number of this process is there that of another one.
        Some(number) if number.unsigned_abs() == std::process::id() || !platform::may_be_alive(number) => {
            Some(format!(
                "{text}, which is not to be seen from here (it may run in another container or on another host), or has ended and a process \
                 that it started has the lock"
            ))
        }
        _ => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, Vfs};
    use LockKind::{Exclusive, Shared};

    fn held(path: &Path, kind: LockKind) -> String {
        match Disk.try_lock(path, kind, "process 43") {
            Err(LockError::Held { holder, .. }) => holder,
            other => panic!("expected Held, got {other:?}"),
        }
    }

    /// The lock as another process has it, which is not in this one's list.
    fn elsewhere(path: &Path, holder: &str) -> [File; 2] {
        let file = open(path).unwrap();
        file.try_lock().unwrap();
        [file, leave_note(&path.with_extension("holder"), holder).unwrap()]
    }

    #[test]
    fn a_second_lock_names_the_holder_and_a_released_one_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = Disk.try_lock(&path, Exclusive, "process 1 since ever").unwrap();
        assert_eq!(
            held(&path, Exclusive),
            "this process itself (process 1 since ever), which has it open already"
        );
        drop(lock);
        let other = elsewhere(&path, "process 1 since ever");
        assert_eq!(held(&path, Exclusive), "process 1 since ever");
        drop(other);
        Disk.try_lock(&path, Exclusive, "process 43").unwrap();
    }

    #[test]
    fn readers_share_and_a_writer_keeps_everybody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let readers = ["process 1", "process 2"].map(|holder| Disk.try_lock(&path, Shared, holder).unwrap());
        assert!(held(&path, Exclusive).contains("this process itself"));
        for reader in readers {
            held(&path, Exclusive);
            drop(reader);
        }
        let writer = Disk.try_lock(&path, Exclusive, "process 3").unwrap();
        for kind in [Exclusive, Shared] {
            assert!(held(&path, kind).contains("this process itself (process 3)"));
        }
        drop(writer);
        Disk.try_lock(&path, Shared, "process 4").unwrap();
    }

    /// What a process that was forked meanwhile has is the same as a handle that was duplicated.
    #[test]
    fn a_released_lock_is_free_although_another_process_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = DiskLock::take(&path, Exclusive, "process 1").unwrap();
        let _inherited = [&lock.file, lock.note.as_ref().unwrap()].map(|file| file.try_clone().unwrap());
        drop(lock);
        let _other = elsewhere(&path, "process 1");
        assert_eq!(held(&path, Exclusive), "process 1");
    }

    /// A number says nothing of this process, and less of another one: both may be the first of a container.
    #[cfg(unix)]
    #[test]
    fn of_a_holder_that_is_not_seen_here_no_more_is_said_than_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        for number in [ended.id(), std::process::id()] {
            let _lock = elsewhere(&path, &format!("process {number} since then"));
            let holder = held(&path, Exclusive);
            assert!(
                holder.starts_with(&format!("process {number} since then, which is not to be seen")),
                "{holder}"
            );
        }
    }

    #[test]
    fn a_note_outlives_no_lock_and_is_believed_of_the_present_holder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let note = || std::fs::read_to_string(path.with_extension("holder")).unwrap();
        let lock = Disk.try_lock(&path, Exclusive, "process 1 of long ago").unwrap();
        assert_eq!(note(), "process 1 of long ago");
        drop(lock);
        assert_eq!(note(), "");
        // Killed: the system gave the locks back, and nobody emptied the note.
        drop(elsewhere(&path, "process 1 of long ago"));
        assert_eq!(note(), "process 1 of long ago");
        // Who has it now cannot write there.
        let file = open(&path).unwrap();
        file.try_lock().unwrap();
        assert_eq!(held(&path, Exclusive), "another process");
        drop(file);
        let _lock = Disk.try_lock(&path, Exclusive, "process 1").unwrap();
        assert_eq!(note(), "process 1");
    }

    /// Whoever has a lock may remove its file. Of those who had opened it by then, none gets a lock that keeps nobody out.
    #[test]
    fn of_several_that_remove_the_file_of_their_lock_one_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let (inside, rounds) = (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while rounds.load(order) < 2000 {
                        let Ok(lock) = DiskLock::take(&path, Exclusive, "process 1") else { continue };
                        assert_eq!(inside.fetch_add(1, order), 0);
                        rounds.fetch_add(1, order);
                        // Once its file is removed, the next one may have a new one.
                        inside.fetch_sub(1, order);
                        Disk.remove(&path).unwrap();
                        drop(lock);
                    }
                });
            }
        });
    }

    /// Whoever has it lets it go, and removes it, at any moment of that.
    #[test]
    fn a_lock_that_is_asked_for_where_it_is_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let asked = || lock_there(&path, Exclusive, "process 2");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        assert!(asked().unwrap().is_none() && names() == 0);
        let lock = Disk.try_lock(&path, Exclusive, "process 1").unwrap();
        assert!(matches!(asked(), Err(LockError::Held { holder, .. }) if holder.contains("process 1")));
        drop(lock);
        let there = asked().unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(path.with_extension("holder")).unwrap(), "");
        assert!(held(&path, Shared).contains("this process itself (process 2)"));
        Disk.remove(&path).unwrap();
        assert!(there.check().is_err());
        drop(there);
        Disk.remove(&path.with_extension("holder")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rounds = 0;
                while rounds < 2000 {
                    let Ok(lock) = DiskLock::take(&path, Exclusive, "process 1") else { continue };
                    rounds += 1;
                    for name in [&path, &path.with_extension("holder")] {
                        Disk.remove(name).unwrap();
                    }
                    drop(lock);
                }
                done.store(true, order);
            });
            while !done.load(order) {
                drop(asked());
            }
        });
        assert_eq!(names(), 0);
    }

    /// A pipe would be waited for without end.
    #[cfg(unix)]
    #[test]
    fn a_lock_that_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let e = lock_there(&path, Exclusive, "process 1").unwrap_err().to_string();
        assert!(e.contains("it is no regular file"), "{e}");
        let e = Disk.try_lock(&path, Exclusive, "process 1").unwrap_err().to_string();
        assert!(e.contains("it is no regular file"), "{e}");
    }

    #[test]
    fn a_lock_whose_file_was_removed_or_replaced_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = Disk.try_lock(&path, Exclusive, "process 1").unwrap();
        lock.check().unwrap();
        Disk.remove(&path).unwrap();
        assert!(lock.check().is_err());
        let next = Disk.try_lock(&path, Exclusive, "process 1").unwrap();
        next.check().unwrap();
        let e = lock.check().unwrap_err().to_string();
        assert!(e.contains("was removed or replaced"), "{e}");
    }
}
