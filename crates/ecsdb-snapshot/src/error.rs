//! What can be wrong with a snapshot or a manifest: which file, where in it, and what to do.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use ecsdb_io::{IoError, frame::FrameDamage};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a snapshot or a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file was written by a newer version of ecsdb (REC-10).
    #[error("{} has format version {found}, and this program reads up to {supported}: use a newer ecsdb", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// The file was written in a format from before the formats were fixed, which has no migration.
    #[error(
        "{} has format version {found}, of a development version, and this program reads {supported}: write its content out with \
         the program that made it", path.display()
    )]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version read here.
        supported: u32,
    },
    /// The file belongs to another database.
    #[error("{} belongs to database {found:032x}, not {expected:032x}: it was copied here by mistake", path.display())]
    OtherDatabase {
        /// The file.
        path: PathBuf,
        /// The database it belongs to.
        found: u128,
        /// The database asked for.
        expected: u128,
    },
    /// A frame is damaged.
    #[error("{} is damaged at byte {offset}: {damage}", path.display())]
    Frame {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What is wrong.
        damage: FrameDamage,
    },
    /// The bytes validate, or are not covered by a checksum, but make no sense.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The stored components or chunks do not make a world.
    #[error("{} at byte {offset}: {cause}", path.display())]
    World {
        /// The file.
        path: PathBuf,
        /// Where the block begins.
        offset: u64,
        /// Why.
        cause: ecsdb_core::Error,
    },
    /// A file that this snapshot points to is missing.
    #[error("{} needs {}, which is not there", path.display(), missing.display())]
    MissingParent {
        /// The incremental snapshot.
        path: PathBuf,
        /// The file that has its older blocks.
        missing: PathBuf,
    },
    /// A value of the view could not be encoded.
    #[error("a snapshot of the world cannot be written: {0}")]
    Encode(ecsdb_core::Error),
    /// There is more of something than a snapshot file has room for.
    #[error(
        "a snapshot of the world cannot be written: {what}: {found}, and at most {max} fit into its file"
    )]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        max: u64,
    },
    /// The compressor refused.
    #[error("compressing a block: {0}")]
    Compress(std::io::Error),
    /// The writer was told to stop; nothing was published.
    #[error("the snapshot was cancelled; nothing was written")]
    Cancelled,
}

impl Error {
    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Error::Damaged { path: path.into(), offset, what: what.into() }
    }

    pub(crate) fn frame(path: &Path, offset: u64, damage: FrameDamage) -> Self {
        Error::Frame { path: path.into(), offset, damage }
    }

    /// True when the disk is full.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Error::Io(e) if e.is_full_disk())
    }

    /// Whether a file's format is the one that is read here.
    pub(crate) fn check_version(path: &Path, found: u32, supported: u32) -> Result<()> {
        match found.cmp(&supported) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(Error::NewerVersion { path: path.into(), found, supported }),
            Ordering::Less => Err(Error::OlderVersion { path: path.into(), found, supported }),
        }
    }

    /// True when a file is not there, or the medium does not give it: it may be another time.
    pub fn is_away(&self) -> bool {
        match self {
            Error::Io(e) => e.is_not_found() || e.is_of_the_medium(),
            Error::MissingParent { .. } => true,
            _ => false,
        }
    }

    /// True when it says something of this file alone: nobody who does not need it need care.
    pub fn is_of_the_file(&self) -> bool {
        match self {
            Error::Io(e) => e.is_of_the_file() || e.is_denied(),
            _ => true,
        }
    }

    /// A number of a snapshot as its file has it, in 32 bits: whatever is not small by its nature goes through here, since what is cut off would be
    /// missed only when somebody needs the snapshot.
    pub(crate) fn fit(what: &'static str, number: u64) -> Result<u32> {
        let max = u32::MAX;
        u32::try_from(number).map_err(|_| Error::TooLarge { what, found: number, max: max.into() })
    }

    /// True when the file or the medium, not the system, is at fault: another snapshot may do.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Io(e) => e.is_of_the_file(),
            Error::Frame { .. }
            | Error::Damaged { .. }
            | Error::MissingParent { .. }
            | Error::OtherDatabase { .. } => true,
            Error::World { cause, .. } => !matches!(
                cause,
                ecsdb_core::Error::SchemaMismatch { .. } | ecsdb_core::Error::NameTaken { .. }
            ),
            _ => false,
        }
    }
}
