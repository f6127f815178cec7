//! Platform calls, with a portable fallback for each. Linux is what is tested; see `docs/operations.md`.
#![allow(clippy::disallowed_methods, reason = "this file is the home of the raw calls")]

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

/// Reads at an offset without moving a shared cursor.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
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

/// Lowers the processor priority of the calling thread (on Linux to the lowest, 19 nice levels down; elsewhere nothing happens), so that
/// background work runs in what the application's threads leave. For threads that do nothing else: it cannot be taken
/// back. Calling it again on the same thread does nothing. Best effort: where the system refuses, the thread stays as it
/// is.
pub fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    {
        thread_local!(static LOWERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
        if !LOWERED.replace(true) {
            // POSIX has one nice value for the process; on Linux it is the calling thread's. A failure leaves a thread
            // that is merely too eager.
            let _ = rustix::process::nice(19);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_gets_a_lower_priority_and_only_once() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        std::thread::spawn(move || {
            lower_thread_priority();
            assert_eq!(nice(), 19);
            lower_thread_priority();
            assert_eq!(nice(), 19);
        })
        .join()
        .unwrap();
        assert_eq!(nice(), before);
    }
}
