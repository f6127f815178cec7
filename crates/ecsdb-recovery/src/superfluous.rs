//! What nothing needs any more once a manifest is durable, and whose it is (CKP-4, CKP-10).

use std::cell::LazyCell;
use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, IoError, Layout, NumberedFile, OpenMode, Vfs, numbered_files};
use ecsdb_snapshot::{Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::SegmentReader;

use crate::aside::{has_content, move_aside, move_into};
use crate::claim::{self, Mark};
use crate::error::Result;

/// A file that a manifest has no use for.
#[derive(Debug)]
pub struct Garbage {
    /// The file.
    pub path: PathBuf,
    /// Bytes of it.
    pub bytes: u64,
    kind: FileKind,
    number: u64,
    given_up: bool,
    of_attempt: bool,
}

/// Where, within what a salvage sets aside, that lies which attempts to do it have made: it would say of what was there before that it has ended.
const ATTEMPTS_DIR: &str = "attempts";

impl Garbage {
    fn dispose(&self, vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<PathBuf>> {
        let disposed = match manifest.salvage {
            0 if self.given_up => vfs.remove(&self.path).map(|()| None),
            0 => {
                let target = move_aside(vfs, layout, &self.path)?;
                tracing::warn!(
                    path = %self.path.display(), target = %target.display(),
                    "a file that is not in use, though nobody had given it up, was set aside"
                );
                return Ok(Some(target));
            }
            salvage => {
                let aside = layout.salvage_dir(salvage);
                let aside = Layout::new(if self.of_attempt { aside.join(ATTEMPTS_DIR) } else { aside });
                move_into(vfs, aside.dir_of(self.kind), &self.path).map(Some)
            }
        };
        match disposed {
            Err(e) if e.is_not_found() => Ok(None),
            disposed => Ok(disposed?),
        }
    }
}

/// The files that nothing needs once `manifest` is durable: what [`crate::recover`] removes or sets aside, and whoever published it. Only what says
/// itself that it is this database's, or is blank, is garbage; what has a name of ours and is another's, or cannot be read, is left alone
/// (CKP-10).
///
/// # Errors
/// When a directory cannot be listed.
pub fn superfluous(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Superfluous> {
    let Superfluous { mut garbage, mut staying } = Superfluous::default();
    use FileKind::{ArchivedSegment, CompressedSegment, Segment, Snapshot};
    let copies = LazyCell::new(|| -> Result<Vec<NumberedFile>> {
        // What lies in another database's is no copy of anything here.
        claim::mark(vfs, layout, layout.archive_dir(), manifest.database)?;
        Ok(numbered_files(vfs, layout.archive_dir(), &[ArchivedSegment, CompressedSegment])?)
    });
    let is_only_here = |number| {
        let is_copied = || match &*copies {
            Ok(copies) => copies.iter().any(|copy| copy.number == number),
            Err(_) => false,
        };
        manifest.salvage == 0 && manifest.is_archived(number) && !is_copied()
    };
    let is_needed = |kind, number| match kind {
        Snapshot => manifest.uses(number),
        // CKP-3: what should be in the archive, and is not, may be the last one of it.
        Segment => number >= manifest.first_segment || is_only_here(number),
        // CKP-11: what nobody has given up is another life's, or was away: it does not count, and stays.
        _ => !manifest.archive_gone.contains(number),
    };
    let given_up = |number, whose: &Whose| match whose {
        Whose::Snapshot(header) => manifest.has_given_up(number, header.salt),
        _ => number >= manifest.salvaged_segments,
    };
    // While a salvage is under way: nothing was committed in what it has made.
    let of_attempt = |kind, number| match kind {
        Snapshot => manifest.gone.iter().any(|entry| entry.is_reserved() && entry.sequence == number),
        Segment => number >= manifest.salvaged_segments,
        _ => false,
    };
    for kind in [Snapshot, Segment, ArchivedSegment, CompressedSegment] {
        let dir = layout.dir_of(kind);
        let list = || -> Result<Vec<NumberedFile>> {
            if dir == layout.archive_dir() && claim::mark(vfs, layout, dir, manifest.database)? == Mark::Empty
            {
                return Ok(Vec::new());
            }
            Ok(numbered_files(vfs, dir, &[kind])?)
        };
        let files = match list() {
            Ok(files) => files,
            // REC-14: garbage in the archive can wait until there is one.
            Err(e) if dir == layout.archive_dir() => {
                tracing::warn!(error = %e, "the archive cannot be looked at");
                continue;
            }
            Err(e) => return Err(e),
        };
        for file in files.into_iter().filter(|file| !is_needed(kind, file.number)) {
            let whose = match whose(vfs, kind, &file.path) {
                Ok(whose) => whose,
                // REC-14: as above.
                Err(e) if dir == layout.archive_dir() => {
                    tracing::warn!(error = %e, "what was given up stays in the archive for now");
                    continue;
                }
                Err(e) => return Err(e),
            };
            let is_ours = match whose {
                Whose::Blank => true,
                // It may be a part of what a salvage sets aside.
                Whose::Unreadable => manifest.salvage != 0,
                _ => whose.database() == Some(manifest.database),
            };
            if is_ours {
                let NumberedFile { number, path, bytes } = file;
                let (given_up, of_attempt) = (given_up(number, &whose), of_attempt(kind, number));
                garbage.push(Garbage { path, bytes, kind, number, given_up, of_attempt });
                continue;
            }
            tracing::debug!(path = %file.path.display(), "a file that is not this database's is left alone");
            if kind == Snapshot && matches!(whose, Whose::Unreadable) {
                staying.push(file.number);
            }
        }
    }
    Ok(Superfluous { garbage, staying })
}

/// What a manifest has no use for.
#[derive(Debug, Default)]
pub struct Superfluous {
    /// The files that can go.
    pub garbage: Vec<Garbage>,
    /// Numbers of snapshot files that could not be read, or not be removed.
    staying: Vec<u64>,
}

impl Superfluous {
    /// Removes each file, if it was given up. Otherwise, and while a salvage is under way, sets it aside, and says where it lies then (REC-17, CKP-11).
    /// That somebody has removed it already is no error. One that stays keeps no other from going: `disposed` is told of each, and says whether an
    /// error ends it.
    ///
    /// # Errors
    /// That of `disposed`.
    pub fn dispose(
        &mut self,
        vfs: &dyn Vfs,
        layout: &Layout,
        manifest: &Manifest,
        mut disposed: impl FnMut(&Garbage, Result<Option<PathBuf>>) -> Result<()>,
    ) -> Result<()> {
        for file in &self.garbage {
            let done = file.dispose(vfs, layout, manifest);
            if done.is_err() && file.kind == FileKind::Snapshot {
                self.staying.push(file.number);
            }
            disposed(file, done)?;
        }
        Ok(())
    }

    /// Those of the snapshots given up of which a file stays, since it could not be read, or removed: it goes once it can be (CKP-11).
    pub fn still_gone(&self, manifest: &Manifest) -> Vec<SnapshotEntry> {
        // One that stands for all files there may be would give up what is yet to come.
        let is_there =
            |entry: &&SnapshotEntry| entry.base != 0 && self.staying.iter().any(|&n| entry.uses(n));
        manifest.gone.iter().filter(is_there).copied().collect()
    }
}

/// What a file says of whose it is.
pub(crate) enum Whose {
    /// It is a segment of the database with this identity.
    Database(u128),
    /// A snapshot.
    Snapshot(ecsdb_snapshot::Header),
    /// A segment that was prepared and never used.
    Blank,
    /// What it says is damaged.
    Unreadable,
}

impl Whose {
    pub(crate) fn database(&self) -> Option<u128> {
        match self {
            Whose::Database(database) => Some(*database),
            Whose::Snapshot(header) => Some(header.database),
            Whose::Blank | Whose::Unreadable => None,
        }
    }
}

pub(crate) fn whose(vfs: &dyn Vfs, kind: FileKind, path: &Path) -> Result<Whose> {
    match kind {
        FileKind::Snapshot => match Snapshot::open(vfs, path) {
            Ok(snapshot) => Ok(Whose::Snapshot(*snapshot.header())),
            Err(e) if e.is_of_the_file() => Ok(Whose::Unreadable),
            Err(e) => Err(e.into()),
        },
        _ => match SegmentReader::open(vfs, path) {
            Ok(Some(reader)) => Ok(Whose::Database(reader.header().database)),
            Ok(None) if is_blank(vfs, path)? => Ok(Whose::Blank),
            Ok(None) => Ok(Whose::Unreadable),
            Err(e) if e.is_of_the_file() => Ok(Whose::Unreadable),
            Err(e) => Err(e.into()),
        },
    }
}

pub(crate) fn is_blank(vfs: &dyn Vfs, path: &Path) -> Result<bool, IoError> {
    let look = || -> Result<bool, IoError> {
        let file = vfs.open(path, OpenMode::Read)?;
        Ok(!has_content(&*file, 0, file.len()?)?)
    };
    match look() {
        Err(e) if e.is_of_the_file() && !e.is_not_found() => Ok(false),
        looked => looked,
    }
}
