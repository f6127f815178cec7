//! Which file lies where in a database directory, as types, in one place.

use std::path::{Path, PathBuf};

use crate::error::{Context, FileOp, Result};
use crate::vfs::Vfs;

/// The directories of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    log: PathBuf,
    snapshots: PathBuf,
    archive: PathBuf,
    reports: PathBuf,
}

/// The numbered kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A log segment: `log/0000000000000001.seg`, numbered by segment sequence.
    Segment,
    /// An archived segment as it was, cut to its end: `archive/0000000000000001.seg`.
    ArchivedSegment,
    /// An archived segment, compressed: `archive/0000000000000001.seg.zst`.
    CompressedSegment,
    /// A snapshot: `snapshots/0000000000000001.snap`, numbered by file sequence.
    Snapshot,
    /// A manifest: `0000000000000001.manifest`, numbered by generation.
    Manifest,
    /// A recovery report: `recovery/0000000000000001.txt`, numbered by incarnation.
    Report,
}

impl FileKind {
    fn extension(self) -> &'static str {
        match self {
            FileKind::Segment | FileKind::ArchivedSegment => "seg",
            FileKind::CompressedSegment => "seg.zst",
            FileKind::Snapshot => "snap",
            FileKind::Manifest => "manifest",
            FileKind::Report => "txt",
        }
    }

    /// The name of number `number` of this kind: 16 decimal digits, so that names sort as numbers.
    pub fn name(self, number: u64) -> String {
        format!("{number:016}.{}", self.extension())
    }

    /// The highest number that a name can have. No database comes near it; a file beyond is a stranger's.
    pub const NUMBER_MAX: u64 = crate::frame::SEQUENCE_MAX;

    /// The number in a name of this kind, or `None` when the name is of no such file.
    pub fn parse(self, name: &str) -> Option<u64> {
        let digits = name.strip_suffix(self.extension())?.strip_suffix('.')?;
        if digits.len() != 16 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().filter(|&number| number <= FileKind::NUMBER_MAX)
    }
}

impl Layout {
    /// Everything below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Layout {
            log: root.join("log"),
            snapshots: root.join("snapshots"),
            archive: root.join("archive"),
            reports: root.join("recovery"),
            root,
        }
    }

    /// The same directories by names that hold wherever the program goes afterwards.
    ///
    /// # Errors
    /// When a directory has the empty name, or the working directory is gone.
    pub fn absolute(&self) -> Result<Layout> {
        let absolute = |dir: &Path| std::path::absolute(dir).context(FileOp::Metadata, dir);
        Ok(Layout {
            root: absolute(&self.root)?,
            log: absolute(&self.log)?,
            snapshots: absolute(&self.snapshots)?,
            archive: absolute(&self.archive)?,
            reports: absolute(&self.reports)?,
        })
    }

    /// The same directories by their [real names](Vfs::real_path): no two of them are one directory that has two names.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn real(&self, vfs: &dyn Vfs) -> Result<Layout> {
        Ok(Layout {
            root: vfs.real_path(&self.root)?,
            log: vfs.real_path(&self.log)?,
            snapshots: vfs.real_path(&self.snapshots)?,
            archive: vfs.real_path(&self.archive)?,
            reports: vfs.real_path(&self.root)?.join("recovery"),
        })
    }

    /// Puts the log into a directory of its own (another disk, say).
    #[must_use]
    pub fn with_log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.log = dir.into();
        self
    }

    /// Puts the snapshots into a directory of their own.
    #[must_use]
    pub fn with_snapshot_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.snapshots = dir.into();
        self
    }

    /// Puts the archived log into a directory of its own.
    #[must_use]
    pub fn with_archive_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.archive = dir.into();
        self
    }

    /// The database directory: manifests and lock.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The log segments.
    pub fn log_dir(&self) -> &Path {
        &self.log
    }

    /// The snapshots.
    pub fn snapshot_dir(&self) -> &Path {
        &self.snapshots
    }

    /// Segments that are no longer needed for recovery, kept for point-in-time restore.
    pub fn archive_dir(&self) -> &Path {
        &self.archive
    }

    /// Where recovery sets bytes aside before it cuts anything.
    pub fn quarantine_dir(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Where salvage number `salvage` (the incarnation that it began with) sets aside what was there: a database directory of its own.
    pub fn salvage_dir(&self, salvage: u64) -> PathBuf {
        self.quarantine_dir().join(format!("salvage-{salvage:016}"))
    }

    /// The recovery reports.
    pub fn report_dir(&self) -> &Path {
        &self.reports
    }

    /// The directories that may lie elsewhere than in the database's own: those of log, snapshots and archive.
    pub fn data_dirs(&self) -> [&Path; 3] {
        [&self.log, &self.snapshots, &self.archive]
    }

    /// The lock file of one of the directories.
    pub fn lock_file(dir: &Path) -> PathBuf {
        dir.join("LOCK")
    }

    /// What stands in a directory as long as a copy is being written into it.
    pub fn unfinished_file(&self) -> PathBuf {
        self.root.join("UNFINISHED")
    }

    /// The directory in which files of `kind` lie.
    pub fn dir_of(&self, kind: FileKind) -> &Path {
        match kind {
            FileKind::Segment => &self.log,
            FileKind::ArchivedSegment | FileKind::CompressedSegment => &self.archive,
            FileKind::Snapshot => &self.snapshots,
            FileKind::Manifest => &self.root,
            FileKind::Report => &self.reports,
        }
    }

    /// The path of file `number` of `kind`.
    pub fn file(&self, kind: FileKind, number: u64) -> PathBuf {
        self.dir_of(kind).join(kind.name(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_foreign_names_are_none_of_ours() {
        for number in [0, 1, FileKind::NUMBER_MAX] {
            assert_eq!(FileKind::Segment.parse(&FileKind::Segment.name(number)), Some(number));
        }
        for name in [
            "1.seg",
            "0000000000000001.snap",
            "00000000000000001.seg",
            "+000000000000001.seg",
            ".seg",
            "é.seg",
            "0281474976710656.seg",
            "9999999999999999.seg",
            "18446744073709551615.seg",
        ] {
            assert_eq!(FileKind::Segment.parse(name), None, "{name}");
        }
    }
}
