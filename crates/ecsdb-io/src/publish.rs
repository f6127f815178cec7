//! The one atomic publish: a file appears under its name whole and durable, or not at all (CKP-2).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{FileOp, IoError, Result};
use crate::layout::FileKind;
use crate::listing::entries;
use crate::vfs::{EntryKind, OpenMode, Vfs, VfsFile};

/// The ending of files that are not published yet.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes a file under a temporary name with `write`, syncs it, renames it to `path` and syncs the directory.
/// Returns what `write` returned, and the open file. A leftover of an earlier attempt is replaced, and nothing else: what has this name
/// already is somebody's (CKP-10).
///
/// # Errors
/// When there is something under `path`, or a file operation or `write` fails; then nothing exists under `path` that was not there before, and
/// the temporary file is removed as far as the disk allows (what remains is collected by [`remove_temporaries`]).
pub fn publish<T, E: From<IoError>>(
    vfs: &dyn Vfs,
    path: &Path,
    write: impl FnOnce(&Arc<dyn VfsFile>) -> Result<T, E>,
) -> Result<(T, Arc<dyn VfsFile>), E> {
    check_free(vfs, path)?;
    let named = write_and_name(vfs, path, |file| {
        let value = write(file)?;
        // Writing may have taken long.
        check_free(vfs, path)?;
        Ok::<T, E>(value)
    })?;
    vfs.sync_dir(directory_of(path)).inspect_err(|_| drop(vfs.remove(path)))?;
    Ok(named)
}

fn check_free(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.file_len(path)? {
        None => Ok(()),
        Some(_) => {
            let what = "there is a file already, which nobody of this database has made: move it away";
            Err(IoError::new(FileOp::Create, path, std::io::Error::new(ErrorKind::AlreadyExists, what)))
        }
    }
}

/// As [`publish`], in the place of a file that this database has made, if there is one.
///
/// # Errors
/// When a file operation or `write` fails; then there is what there was under `path`, or, should the directory's sync fail, what was written.
pub fn replace<T, E: From<IoError>>(
    vfs: &dyn Vfs,
    path: &Path,
    write: impl FnOnce(&Arc<dyn VfsFile>) -> Result<T, E>,
) -> Result<(T, Arc<dyn VfsFile>), E> {
    let named = write_and_name(vfs, path, write)?;
    vfs.sync_dir(directory_of(path))?;
    Ok(named)
}

fn write_and_name<T, E: From<IoError>>(
    vfs: &dyn Vfs,
    path: &Path,
    write: impl FnOnce(&Arc<dyn VfsFile>) -> Result<T, E>,
) -> Result<(T, Arc<dyn VfsFile>), E> {
    let temporary = temporary_name(path);
    match vfs.remove(&temporary) {
        Ok(()) => {}
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e.into()),
    }
    let file = vfs.create(&temporary)?;
    let leftover = Leftover { vfs, temporary: &temporary };
    let value = write(&file)?;
    file.sync_data()?;
    vfs.rename(&temporary, path)?;
    std::mem::forget(leftover);
    Ok((value, file))
}

/// A temporary file that goes, whether writing it failed or panicked.
struct Leftover<'a> {
    vfs: &'a dyn Vfs,
    temporary: &'a Path,
}

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        // The error that matters is the first one; what is left then is collected at the next open.
        drop(self.vfs.remove(self.temporary));
    }
}

/// Makes a directory and its parents, and every new name of them durable (WAL-12). Should that fail, what was made is removed: a name whose sync has
/// failed is not made durable by a later one (WAL-5), and who asked again would find it there.
///
/// # Errors
/// When the system refuses.
pub fn create_dir_durably(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let mut there = dir;
    let mut new = Vec::new();
    while vfs.file_len(there)?.is_none() {
        new.push(there);
        there = directory_of(there);
    }
    // The name that is there, too: whoever made it may have crashed before.
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    match vfs.sync_dir(directory_of(there)) {
        // It is not this user who made it, where there is not even the right to look; nor anybody by now, where no name is ever changed.
        Err(e)
            if matches!(
                e.cause.kind(),
                PermissionDenied | InvalidInput | ReadOnlyFilesystem | Unsupported
            ) => {}
        synced => synced?,
    }
    for (i, dir) in new.iter().enumerate().rev() {
        let made = vfs.create_dir_all(dir).and_then(|()| vfs.sync_dir(directory_of(dir)));
        if made.is_err() {
            // The error that matters is the first one. What somebody has put there meanwhile stays.
            new[i..].iter().for_each(|dir| drop(vfs.remove_dir(dir)));
            return made;
        }
    }
    Ok(())
}

/// Removes what interrupted publishes of files of these kinds left in a directory, and returns what was removed; nothing where there is
/// no directory. Other names are left alone, whatever they end with (CKP-10). Only the holder of the directory's lock may call it.
///
/// # Errors
/// When a file operation fails.
pub fn remove_temporaries(vfs: &dyn Vfs, dir: &Path, kinds: &[FileKind]) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in entries(vfs, dir)? {
        let of_kind = |name| kinds.iter().any(|kind| kind.parse(name).is_some());
        if entry.kind == EntryKind::File && entry.name.strip_suffix(TEMPORARY_SUFFIX).is_some_and(of_kind) {
            let path = dir.join(&entry.name);
            vfs.remove(&path)?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Whether a file may be what an interrupted write of ours has left, and no stranger's: as far as it goes it begins with `begins`, as those do, or with
/// zeros, where the machine failed before its bytes were on the disk. One that is gone by now is in nobody's way.
///
/// # Errors
/// When a file operation fails.
pub fn may_be_left_over(vfs: &dyn Vfs, path: &Path, begins: &[u8]) -> Result<bool> {
    let file = match vfs.open(path, OpenMode::Read) {
        Err(e) if e.is_not_found() => return Ok(true),
        file => file?,
    };
    let mut bytes = vec![0; file.len()?.min(begins.len() as u64) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(begins.starts_with(&bytes) || bytes.iter().all(|&byte| byte == 0))
}

/// Reads a whole file, refusing one larger than `limit` bytes before anything is allocated (REC-1).
///
/// # Errors
/// When the file is larger, or a file operation fails.
pub fn read_file(vfs: &dyn Vfs, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = vfs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > limit {
        let source = std::io::Error::new(
            ErrorKind::InvalidData,
            format!("the file has {len} bytes where at most {limit} are valid"),
        );
        return Err(IoError::new(FileOp::Read, path, source));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(TEMPORARY_SUFFIX);
    name.into()
}

/// The directory a file lies in; the current one for a bare name.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;

    #[test]
    fn a_failed_publish_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        publish::<_, IoError>(&Disk, &path, |f| f.write_at(b"old", 0)).unwrap();
        let failed = replace::<(), IoError>(&Disk, &path, |f| {
            f.write_at(b"new, half", 0)?;
            Err(IoError::new(FileOp::Write, f.path(), ErrorKind::StorageFull.into()))
        });
        assert!(failed.unwrap_err().is_full_disk());
        assert_eq!(read_file(&Disk, &path, 10).unwrap(), b"old");
        assert_eq!(Disk.file_len(&temporary_name(&path)).unwrap(), None);
        assert!(read_file(&Disk, &path, 2).is_err());
    }

    #[test]
    fn what_has_the_name_already_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (before, meanwhile) = (dir.path().join("before"), dir.path().join("meanwhile"));
        Disk.create(&before).unwrap();
        for path in [&before, &meanwhile] {
            let refused = publish::<_, IoError>(&Disk, path, |f| {
                if !meanwhile.exists() {
                    Disk.create(&meanwhile).unwrap().write_at(b"theirs", 0)?;
                }
                f.write_at(b"ours", 0)
            });
            assert_eq!(refused.unwrap_err().cause.kind(), ErrorKind::AlreadyExists);
            assert_eq!(Disk.file_len(&temporary_name(path)).unwrap(), None);
        }
        assert_eq!(read_file(&Disk, &before, 10).unwrap(), b"");
        assert_eq!(read_file(&Disk, &meanwhile, 10).unwrap(), b"theirs");
    }

    #[test]
    fn only_temporaries_of_ours_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "notes.tmp",
            "0000000000000001.snap.tmp",
            "0000000000000002.seg.tmp",
            "1.snap.tmp",
            "0000000000000001.snap",
        ];
        for name in names {
            Disk.create(&dir.path().join(name)).unwrap();
        }
        let removed = remove_temporaries(&Disk, dir.path(), &[FileKind::Snapshot]).unwrap();
        assert_eq!(removed, [dir.path().join("0000000000000001.snap.tmp")]);
        assert!(
            remove_temporaries(&Disk, &dir.path().join("none"), &[FileKind::Snapshot]).unwrap().is_empty()
        );
    }
}
