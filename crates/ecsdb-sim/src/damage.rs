//! What a test does behind the workload's back: files put in place, bits flipped, tails cut. Nothing of it
//! counts as an operation, and all of it is durable at once, together with whatever was un-synced in the file
//! (or, where a name appears or goes, in the names of the disk).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ecsdb_io::{FileOp, IoError, Result};
use xxhash_rust::xxh3::Xxh3;

use crate::content::Content;
use crate::disk::SimDisk;
use crate::names::Ino;
use crate::state::{ROOT, State, names};

impl SimDisk {
    /// All files, sorted by path, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        fn list(state: &State, dir: Ino, path: &Path, into: &mut Vec<(PathBuf, u64)>) {
            for (name, ino) in state.entries(dir) {
                let path = path.join(&**name);
                if state.is_dir(*ino) {
                    list(state, *ino, &path, into);
                } else {
                    into.push((path, state.len_of(*ino)));
                }
            }
        }
        let mut files = Vec::new();
        self.with_state(|state| list(state, ROOT, Path::new("/"), &mut files));
        files.sort();
        files
    }

    /// A hash of everything that reads see: names, lengths and bytes, but for the bytes of files by whose name `without` is true. Two
    /// disks with one fingerprint are the same, as good as certainly. O(bytes that are not zero).
    pub fn fingerprint(&self, without: impl Fn(&str) -> bool) -> u64 {
        fn hash(state: &State, dir: Ino, without: &dyn Fn(&str) -> bool, into: &mut Xxh3) {
            for (name, ino) in state.entries(dir) {
                into.update(name.as_bytes());
                into.update(&[0, u8::from(state.is_dir(*ino))]);
                match state.files.get(ino) {
                    Some(_) if without(name) => {}
                    Some(file) => file.live().hash(into),
                    None => hash(state, *ino, without, into),
                }
            }
            into.update(b"/");
        }
        let mut hasher = Xxh3::new();
        self.with_state(|state| hash(state, ROOT, &without, &mut hasher));
        hasher.digest()
    }

    /// The whole content of a file.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        self.with_state(|state| {
            let ino = found(FileOp::Read, path, state.file_at(path))?;
            Ok(state.files.get(&ino).map(|file| file.live().to_vec()).unwrap_or_default())
        })
    }

    /// Makes a directory and its parents.
    ///
    /// # Errors
    /// When a file is in the way.
    pub fn put_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.with_state(|state| make_dirs(state, path.as_ref()))
    }

    /// Puts a file with this content in place, with its directories, or replaces the content of one.
    ///
    /// # Errors
    /// When a directory or file is in the way.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = path.as_ref();
        self.with_state(|state| {
            make_dirs(state, path.parent().unwrap_or(Path::new("/")))?;
            let ino = match state.file_at(path) {
                Ok(ino) => ino,
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let place = found(FileOp::Create, path, state.place(path))?;
                    let ino = state.create_file(&place);
                    state.settle_names();
                    ino
                }
                Err(e) => return Err(IoError::new(FileOp::Create, path, e)),
            };
            state.edit(ino, |file| file.replace(bytes));
            Ok(())
        })
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn erase(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.with_state(|state| {
            let ino = found(FileOp::Remove, path, state.file_at(path))?;
            let place = found(FileOp::Remove, path, state.place(path))?;
            state.remove(&place, ino);
            state.settle_names();
            Ok(())
        })
    }

    /// Cuts a file, or lengthens it with zeros.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) -> Result<()> {
        self.tamper(path.as_ref(), |content| content.set_len(len))
    }

    /// Writes over a file's bytes at `offset`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> Result<()> {
        self.tamper(path.as_ref(), |content| content.write(offset, bytes))
    }

    /// Flips bit `bit % 8` of the byte at `offset`.
    ///
    /// # Errors
    /// When there is no such file, or it ends before.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u32) -> Result<()> {
        let path = path.as_ref();
        let mut ends_before = false;
        self.tamper(path, |content| {
            let mut byte = [0];
            ends_before = content.read(&mut byte, offset) == 0;
            if !ends_before {
                content.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
            }
        })?;
        if ends_before {
            return Err(IoError::new(FileOp::Write, path, ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn tamper(&self, path: &Path, with: impl FnOnce(&mut Content)) -> Result<()> {
        self.with_state(|state| {
            let ino = found(FileOp::Write, path, state.file_at(path))?;
            state.edit(ino, |file| file.tamper(with));
            Ok(())
        })
    }
}

fn make_dirs(state: &mut State, path: &Path) -> Result<()> {
    let mut parent = PathBuf::from("/");
    for name in names(path) {
        parent.push(name);
        let place = found(FileOp::CreateDir, &parent, state.place(&parent))?;
        if place.ino.is_none() {
            state.create_dir(&place);
            state.settle_names();
        }
    }
    Ok(())
}

fn found<T>(op: FileOp, path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| IoError::new(op, path, source))
}
