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
