//! Whose a directory is: the file `OWNER` in each directory of log, snapshots and archive (CKP-10). Specified in
//! `docs/format/owner.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::checksum::checksum;
use crate::error::{FileOp, IoError, Result};
use crate::publish::{may_be_left_over, read_file, replace};
use crate::vfs::Vfs;

/// The name of the file.
const OWNER_FILE: &str = "OWNER";
/// Largest file that is read.
const BYTES_MAX: u64 = 64 << 10;
const FIRST_LINE: &str = "this directory belongs to an ecsdb database";

/// The database that a directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its identity.
    pub database: u128,
    /// Its own directory, as it was called when this was written; what is not Unicode in a name, or a control character, is replaced.
    pub root: PathBuf,
}

impl Owner {
    /// The name of the file as long as it is being written.
    pub const UNPUBLISHED: &str = "OWNER.tmp";

    /// Database `database`, which lies in `root`.
    pub fn new(database: u128, root: &Path) -> Owner {
        let shown = root.to_string_lossy().replace(char::is_control, "\u{fffd}");
        Owner { database, root: shown.into() }
    }

    /// False if something in the name of its directory may have been replaced, so that nobody can look there.
    pub fn is_exact(&self) -> bool {
        !self.root.to_string_lossy().contains('\u{fffd}')
    }

    /// The owner of `dir`: `None` if it says none, or what it says is damaged.
    ///
    /// # Errors
    /// When a file operation fails for another reason than that the file is not there, or cannot be read.
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Owner>> {
        match read_file(vfs, &dir.join(OWNER_FILE), BYTES_MAX) {
            Ok(bytes) => Ok(Owner::decode(&bytes)),
            // REC-14: a file that is damaged is no word about whose the others are.
            Err(e) if e.is_of_the_file() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Refuses a directory that says that it is another database's than `database`: it was moved since it was opened, and another one made
    /// in its place, to which its name leads (CKP-10).
    ///
    /// # Errors
    /// When it is another's, and as [`Owner::read`].
    pub fn check(vfs: &dyn Vfs, dir: &Path, database: u128) -> Result<()> {
        match Owner::read(vfs, dir)? {
            Some(owner) if owner.database != database => {
                let what = format!("by now it is a directory of the database in {}", owner.root.display());
                Err(IoError::new(FileOp::Lock, dir, std::io::Error::other(what)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a directory that was claimed for `database`, and is another one by now: as [`Owner::check`], or since it was moved or unmounted
    /// and its name leads to what is in its place (CKP-11).
    ///
    /// # Errors
    /// When it is not that directory, and as [`Owner::read`].
    pub fn check_claimed(vfs: &dyn Vfs, dir: &Path, database: u128) -> Result<()> {
        Owner::check(vfs, dir, database)?;
        if !Owner::is_said(vfs, dir) {
            let what =
                format!("it was moved, or is not mounted any more: its file {OWNER_FILE} is not there");
            return Err(IoError::new(FileOp::Lock, dir, std::io::Error::other(what)));
        }
        Ok(())
    }

    /// Whether `dir` says whose it is; if not to be read, it says something.
    pub fn is_said(vfs: &dyn Vfs, dir: &Path) -> bool {
        !matches!(vfs.file_len(&dir.join(OWNER_FILE)), Ok(None))
    }

    /// The file that has the name in `dir`, where it is none of ours, nor what may be left of one: a stranger's, which is not to be replaced (CKP-10).
    ///
    /// # Errors
    /// When a file operation fails for another reason than that the file cannot be read.
    pub fn strangers(vfs: &dyn Vfs, dir: &Path) -> Result<Option<PathBuf>> {
        let path = dir.join(OWNER_FILE);
        match may_be_left_over(vfs, &path, FIRST_LINE.as_bytes()) {
            Ok(is_ours) => Ok((!is_ours).then_some(path)),
            Err(e) if e.is_of_the_file() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the file of this name in `dir` is one that was about to say whose it is when its writer was killed.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn is_left_over(vfs: &dyn Vfs, dir: &Path, name: &str) -> Result<bool> {
        Ok(name == Owner::UNPUBLISHED && may_be_left_over(vfs, &dir.join(name), FIRST_LINE.as_bytes())?)
    }

    /// Says durably that `dir` is this one's.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let text = self.encode();
        replace(vfs, &dir.join(OWNER_FILE), |file| file.write_at(text.as_bytes(), 0))?;
        Ok(())
    }

    /// Says no more whose `dir` is.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn remove(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        vfs.remove(&dir.join(OWNER_FILE))
    }

    fn encode(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nidentity {:032x}\nin {}\n", self.database, self.root.display());
        let sum = checksum(0, text.as_bytes());
        // Writing into a string cannot fail.
        let _ = writeln!(text, "checksum {sum:08x}");
        text
    }

    fn decode(bytes: &[u8]) -> Option<Owner> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines().skip(1);
        let database = u128::from_str_radix(lines.next()?.strip_prefix("identity ")?, 16).ok()?;
        let root = lines.next()?.strip_prefix("in ")?.into();
        let owner = Owner { database, root };
        // There is one way to write it, checksum included.
        (owner.encode() == text).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;

    #[test]
    fn what_is_written_reads_back_and_damage_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Owner::read(&Disk, dir.path()).unwrap(), None);
        for root in ["/a/world", "C:\\with space", "/a\nb/\u{fffd}"] {
            let owner = Owner::new(42 << 100, Path::new(root));
            owner.write(&Disk, dir.path()).unwrap();
            assert_eq!(Owner::read(&Disk, dir.path()).unwrap(), Some(owner), "{root}");
        }
        let good = read_file(&Disk, &dir.path().join(OWNER_FILE), BYTES_MAX).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Owner::decode(&bad), None, "bit {bit}");
        }
        let is_left_over = |bytes: &[u8]| {
            Disk.create(&dir.path().join(Owner::UNPUBLISHED)).unwrap().write_at(bytes, 0).unwrap();
            let is_left = Owner::is_left_over(&Disk, dir.path(), Owner::UNPUBLISHED).unwrap();
            Disk.remove(&dir.path().join(Owner::UNPUBLISHED)).unwrap();
            is_left
        };
        for len in 0..good.len() {
            assert_eq!(Owner::decode(&good[..len]), None, "cut to {len}");
            assert!(is_left_over(&good[..len]) && is_left_over(&vec![0; len]), "cut to {len}");
        }
        assert!(
            !is_left_over(b"42") && !is_left_over(b"mine, and longer than the first line of our own file")
        );
        assert!(!Owner::is_left_over(&Disk, dir.path(), "OWNER").unwrap());
    }
}
