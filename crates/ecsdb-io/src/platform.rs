//! Platform calls, with a portable fallback for each. Linux is what is tested; see `docs/operations.md`.
#![allow(clippy::disallowed_methods, reason = "this file is the home of the raw calls")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
#[cfg(unix)]
use std::path::Component;
use std::path::{Path, PathBuf};

/// Opens a file that is there: a link is not followed, and a pipe is not waited for (CKP-10).
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    let file = options.open(path).map_err(|e| match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => no_file("a symbolic link, which is not followed"),
        // A socket, or a device that is not there.
        Ok(meta) if !meta.is_file() && !meta.is_dir() => no_file("no regular file"),
        _ => e,
    })?;
    let kind = file.metadata()?.file_type();
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Ok(file),
        (_, true) => Err(is_a_directory()),
        _ => Err(no_file("no regular file")),
    }
}

/// As the system says it of one that is opened to be written.
fn is_a_directory() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::ISDIR.into();
    #[cfg(not(unix))]
    return io::ErrorKind::IsADirectory.into();
}

fn no_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is {what}"))
}

/// Creates a file where no name is, for reading and writing, or makes sure that there is one. It is as private as its directory says,
/// and belongs to whom that belongs to.
pub(crate) fn create(path: &Path, may_be_there: bool) -> io::Result<File> {
    #[cfg(unix)]
    let created = unix::Place::of(path).and_then(|place| place.create());
    #[cfg(not(unix))]
    let created = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    match created {
        Err(e) if may_be_there && e.kind() == io::ErrorKind::AlreadyExists => open(path, true),
        created => created,
    }
}

/// Creates a directory, with those above it. What is new is as private as the directory that it is in, and belongs to whom that belongs
/// to.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    if is_dir(path)? {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir_all(parent)?;
    }
    #[cfg(unix)]
    let created = unix::Place::of(path).and_then(|place| place.create_dir());
    #[cfg(not(unix))]
    let created = std::fs::create_dir(path);
    match created {
        // Somebody else was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // Or has removed it since.
            if is_dir(path)? { Ok(()) } else { create_dir_all(path) }
        }
        created => created,
    }
}

/// Whether there is a directory, or nothing in its place.
///
/// # Errors
/// When there is anything else, as where a directory is to be made, or it cannot be looked at.
pub fn is_dir(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(true),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Err(_) => match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => {
                Err(no_file("a symbolic link that leads to nothing: what it leads to may not be mounted"))
            }
            // Somebody has made it since.
            Ok(meta) if meta.is_dir() => Ok(true),
            Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
            Err(_) => Ok(false),
        },
    }
}

/// What tells one file from all others, whatever its name is by now.
#[cfg(unix)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

#[cfg(unix)]
pub(crate) fn file_id(_path: &Path, meta: &std::fs::Metadata) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    Ok(FileId { device: meta.dev(), inode: meta.ino() })
}

/// There its name does, as long as somebody has it open.
#[cfg(not(unix))]
pub(crate) type FileId = PathBuf;

#[cfg(not(unix))]
pub(crate) fn file_id(path: &Path, _meta: &std::fs::Metadata) -> io::Result<FileId> {
    std::fs::canonicalize(path)
}

/// The one name of what may have several; what is not there yet is below the real name of what is.
#[cfg(unix)]
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        real => return real,
    }
    let mut components = path.components();
    let last = components.next_back();
    let mut real = match components.as_path() {
        above if above.as_os_str().is_empty() => std::path::absolute(".")?,
        above => real_path(above)?,
    };
    match last {
        Some(Component::ParentDir) => drop(real.pop()),
        Some(last) => real.push(last),
        None => {}
    }
    Ok(real)
}

/// Windows' own real names are of a form that other programs do not take.
#[cfg(not(unix))]
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::fs::{File, Permissions};
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    use std::path::Path;

    use rustix::fs::{Dir, Mode, OFlags};

    /// Where something new is to be: a name in a directory that is held open. Whoever owns a directory above can give its name, and that of
    /// what is new in it, to something else at any moment.
    pub(super) struct Place<'a> {
        dir: OwnedFd,
        name: &'a OsStr,
    }

    impl Place<'_> {
        pub(super) fn of(path: &Path) -> io::Result<Place<'_>> {
            // What ends with `..` is there.
            let name = path.file_name().ok_or(io::ErrorKind::AlreadyExists)?;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // To make something in it, nobody has to be allowed to list it.
            #[cfg(target_os = "linux")]
            let how = OFlags::PATH;
            #[cfg(not(target_os = "linux"))]
            let how = OFlags::RDONLY;
            let dir = rustix::fs::open(dir, how | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Place { dir, name })
        }

        pub(super) fn create(&self) -> io::Result<File> {
            let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let new = rustix::fs::openat(&self.dir, self.name, how, Mode::from_raw_mode(0o600))?.into();
            self.settle(&new, 0o660)?;
            Ok(new)
        }

        pub(super) fn create_dir(&self) -> io::Result<()> {
            rustix::fs::mkdirat(&self.dir, self.name, Mode::from_raw_mode(0o700))?;
            self.new_dir()?.map_or(Ok(()), |new| self.settle(&new, 0o770))
        }

        /// The directory that was just made; no link that took its name meanwhile, and `None` for another directory, which somebody has or uses.
        pub(super) fn new_dir(&self) -> io::Result<Option<File>> {
            let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let new: File = rustix::fs::openat(&self.dir, self.name, how, Mode::empty())?.into();
            let is_own = new.metadata()?.uid() == rustix::process::geteuid().as_raw();
            let mut names = Dir::read_from(&new)?;
            let is_empty =
                names.all(|name| name.is_ok_and(|name| matches!(name.file_name().to_bytes(), b"." | b"..")));
            Ok((is_own && is_empty).then_some(new))
        }

        /// Gives something new in a directory to that directory's owner, if this is the superuser: who keeps a database can still
        /// use it after an administrator has. And to the group, if the directory is for its group and nobody else.
        fn settle(&self, new: &File, at_most: u32) -> io::Result<()> {
            let dir = File::from(self.dir.try_clone()?).metadata()?;
            let (mode, own) = (dir.mode(), new.metadata()?);
            if rustix::process::geteuid().is_root() && own.uid() != dir.uid() {
                fchown(new, Some(dir.uid()), Some(dir.gid()))?;
            }
            // A directory that everybody may look into was made without a thought about this.
            let group = if mode & 0o007 == 0 { mode & 0o070 } else { 0 };
            // This user's own group is not the one that the directory is for, and is not let in instead of it.
            if group != 0 && (own.gid() == dir.gid() || fchown(new, None, Some(dir.gid())).is_ok()) {
                let owner = own.mode() & 0o700;
                new.set_permissions(Permissions::from_mode((owner | group) & (at_most | 0o700)))?;
            }
            Ok(())
        }
    }
}

/// False if there is certainly no such process any more.
#[cfg(unix)]
pub(crate) fn may_be_alive(process: i32) -> bool {
    rustix::process::Pid::from_raw(process)
        .is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
pub(crate) fn may_be_alive(_process: i32) -> bool {
    true
}

/// Reads at an offset without moving a shared cursor.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

/// Another handle of an open file that passes the system's cache by; `None` where there is no such thing.
#[cfg(target_os = "linux")]
pub(crate) fn open_direct(file: &File, write: bool) -> Option<File> {
    use std::os::fd::AsRawFd;
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    let flags = rustix::fs::OFlags::DIRECT;
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    // Whatever name the file has by now.
    options.open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open_direct(_file: &File, _write: bool) -> Option<File> {
    None
}

/// Writes some of `bytes` at an offset.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    write_vectored_at(file, &[IoSlice::new(bytes)], offset)
}

/// Writes some of `bufs` at an offset, in one system call where there is one.
#[cfg(target_os = "linux")]
pub(crate) fn write_vectored_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    // The kernel takes at most 1,024 slices a call (UIO_MAXIOV).
    Ok(rustix::io::pwritev(file, &bufs[..bufs.len().min(1024)], offset)?)
}

#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn write_vectored_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, &bufs[0], offset)
}

#[cfg(windows)]
pub(crate) fn write_vectored_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, &bufs[0], offset)
}

/// True for an error of the system that says that a file, or the medium under it, is bad.
#[cfg(unix)]
pub(crate) fn is_of_the_medium(code: i32) -> bool {
    use rustix::io::Errno;
    // Of a remote file system, of one that checks what it reads, of links that go in circles.
    #[cfg(target_os = "linux")]
    const MORE: [Errno; 3] = [Errno::UCLEAN, Errno::REMOTEIO, Errno::NODATA];
    #[cfg(not(target_os = "linux"))]
    const MORE: [Errno; 0] = [];
    let bad = [Errno::IO, Errno::BADMSG, Errno::ILSEQ, Errno::LOOP, Errno::STALE];
    bad.iter().chain(&MORE).any(|errno| errno.raw_os_error() == code)
}

/// `ERROR_CRC`, `ERROR_FILE_CORRUPT`, `ERROR_DISK_CORRUPT`.
#[cfg(not(unix))]
pub(crate) fn is_of_the_medium(code: i32) -> bool {
    [23, 1392, 1393].contains(&code)
}

/// Makes the names in a directory durable.
#[cfg(unix)]
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// NTFS journals its names, and Windows offers no call for it.
#[cfg(windows)]
pub(crate) fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Bytes free for this user.
#[cfg(target_os = "linux")]
pub(crate) fn free_space(path: &Path) -> io::Result<Option<u64>> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn free_space(_path: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Extends a file with zeros that have their room on the disk; false where the file system has no such thing.
#[cfg(target_os = "linux")]
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn allocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Asks the system to fetch a range into its cache.
#[cfg(target_os = "linux")]
pub(crate) fn will_need(file: &File, offset: u64, len: u64) {
    // To the kernel a length of 0 means "to the end of the file".
    if let Some(len) = std::num::NonZeroU64::new(len) {
        // A hint: who reads later gets the bytes, or the error, all the same.
        let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::WillNeed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn will_need(_file: &File, _offset: u64, _len: u64) {}

/// Asks the system to begin writing a range to the disk.
#[cfg(target_os = "linux")]
pub(crate) fn start_writing(file: &File, offset: u64, len: u64) {
    if let Some(len) = std::num::NonZeroU64::new(len) {
        // What this advice does first is to begin writing what is dirty; what is being written stays in the cache. A hint: a sync
        // brings it to the disk, or gives the error, all the same.
        let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn start_writing(_file: &File, _offset: u64, _len: u64) {}

thread_local!(static LOWERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

/// True on a thread that has called [`lower_thread_priority`]: it may wait long for a core, and so would whoever waits for it.
pub fn is_low_thread() -> bool {
    LOWERED.get()
}

/// Lets the calling thread run in what the others leave (on Linux as `SCHED_IDLE`; elsewhere with the lowest priority that it may
/// give itself), for background work. For threads that do nothing else: it cannot be taken back. Calling it again on the same thread does
/// nothing. Best effort: where the system refuses, the thread stays as it is.
pub fn lower_thread_priority() {
    use thread_priority::ThreadPriority::Min;
    if !LOWERED.replace(true) {
        // A low nice level alone lets it have a core for a whole tick of the system's (up to 4 ms) whenever its turn comes, with whoever wakes up
        // waiting for its end; of `SCHED_IDLE` everybody else takes the core at once, and wakes up there rather than where another runs.
        #[cfg(target_os = "linux")]
        let lowered = {
            use thread_priority::unix::{
                self, NormalThreadSchedulePolicy::Idle, ThreadSchedulePolicy::Normal,
            };
            unix::set_thread_priority_and_policy(unix::thread_native_id(), Min, Normal(Idle))
                .or_else(|_| Min.set_for_current())
        };
        #[cfg(not(target_os = "linux"))]
        let lowered = Min.set_for_current();
        // A failure leaves a thread that is merely too eager.
        let _ = lowered;
        // It began as eager as any, on a core that another may have been taken from, and would keep that to the end of the tick.
        std::thread::yield_now();
    }
}

#[cfg(all(test, target_os = "linux"))]
pub(crate) fn is_low_priority() -> bool {
    use thread_priority::unix::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};
    thread_schedule_policy() == Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Whoever owns the directory above put something else in the place of a new directory, and had the superuser give it away.
    #[test]
    fn what_takes_the_name_of_a_new_directory_is_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let (full, empty, link) =
            (dir.path().join("full"), dir.path().join("empty"), dir.path().join("link"));
        create_dir_all(&full.join("inner")).unwrap();
        create_dir_all(&empty).unwrap();
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        let taken_for_new =
            |path: &Path| unix::Place::of(path).unwrap().new_dir().is_ok_and(|new| new.is_some());
        assert!(taken_for_new(&empty));
        assert!(!taken_for_new(&link));
        assert!(!taken_for_new(&full));
        create(&dir.path().join("file"), false).unwrap();
        assert!(!taken_for_new(&dir.path().join("file")));
        if std::os::unix::fs::chown(&empty, Some(4711), None).is_ok() {
            assert!(!taken_for_new(&empty));
        }
    }

    #[test]
    fn only_the_calling_thread_gets_a_lower_priority_and_only_once() {
        std::thread::spawn(|| {
            for _ in 0..2 {
                lower_thread_priority();
                assert!(is_low_priority());
            }
        })
        .join()
        .unwrap();
        assert!(!is_low_priority());
    }
}
