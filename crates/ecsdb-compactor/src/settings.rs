//! How the files of a database are kept.

use ecsdb_snapshot::Kept;

use crate::retention::Retention;

/// What snapshots and archive take at most where there is an archive and nobody ever said what it may take: 10 GiB.
pub const ARCHIVE_BYTES_DEFAULT: u64 = 10 << 30;

/// How snapshots are written and what is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    /// zstd level of snapshots (1 to 22), or `None` for uncompressed ones.
    pub compression: Option<i32>,
    /// Threads that encode and compress a snapshot.
    pub threads: usize,
    /// Files that a snapshot's blocks may lie in: one more than the increments that may follow a full one. With 1 every snapshot
    /// is full.
    pub chain_max: usize,
    /// What of the past is kept; `None` for what was said last, in this run of the program or in one before (CKP-11).
    pub retention: Option<Retention>,
    /// What becomes of log segments that recovery does not need.
    pub archive: Archiving,
    /// What these settings do not say of `retention` and `archive` gives nothing up in this run, whatever was said last, which goes on to
    /// hold afterwards. For tools that work on a database without its program's settings.
    pub keep_all: bool,
}

/// What becomes of log segments that recovery does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Archiving {
    /// What was said last; of a new database they are dropped.
    #[default]
    AsBefore,
    /// They are dropped, and what is in the archive is given up.
    Off,
    /// They are kept in the archive, for going back to any moment within the retention.
    On(ArchiveSettings),
}

impl StoreSettings {
    /// What of the past is kept, when `before` is what was said last: to be noted in the manifest.
    pub fn said(&self, before: Kept) -> Kept {
        let mut kept = before;
        if let Some(retention) = self.retention {
            kept.snapshots_max = retention.snapshots_max.map_or(0, |max| max as u64);
            kept.age_max_ns = retention.age_max.map_or(0, |max| max.as_nanos().min(u64::MAX.into()) as u64);
            kept.bytes_max = retention.bytes_max.unwrap_or(0);
        }
        match self.archive {
            Archiving::AsBefore => {}
            Archiving::Off => kept.archive = 0,
            Archiving::On(archive) => {
                kept.archive = 1;
                kept.archive_level = archive.compression.map_or(0, |level| level.unsigned_abs().into());
            }
        }
        if kept.archive != 0 && Retention::from(kept) == Retention::default() {
            kept.bytes_max = ARCHIVE_BYTES_DEFAULT;
        }
        kept
    }

    /// What of the past is kept in this run.
    pub(crate) fn kept(&self, before: Kept) -> Kept {
        let mut kept = self.said(before);
        // CKP-11: each by itself, since who says one has not said the other.
        if self.keep_all && self.retention.is_none() {
            kept = Kept { snapshots_max: u64::MAX, age_max_ns: 0, bytes_max: 0, ..kept };
        }
        if self.keep_all && self.archive == Archiving::AsBefore {
            kept.archive = 1;
        }
        kept
    }
}

/// How log segments are archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// zstd level (1 to 22), or `None` for segments as they are.
    pub compression: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(retention: Option<Retention>, archive: Archiving) -> StoreSettings {
        StoreSettings { compression: None, threads: 1, chain_max: 1, retention, archive, keep_all: false }
    }

    const ON: Archiving = Archiving::On(ArchiveSettings { compression: Some(3) });

    #[test]
    fn an_archive_is_bounded_unless_something_else_is_said() {
        let nothing = Kept::default();
        let bounded = settings(None, ON).said(nothing);
        assert_eq!((bounded.archive, bounded.bytes_max), (1, ARCHIVE_BYTES_DEFAULT));
        // What was said goes on to hold, the default that it came to included.
        assert_eq!(settings(None, Archiving::AsBefore).said(bounded), bounded);
        let age = Retention { age_max: Some(std::time::Duration::from_nanos(7)), ..Retention::default() };
        let aged = settings(Some(age), ON).said(bounded);
        assert_eq!((aged.age_max_ns, aged.bytes_max), (7, 0));
        assert_eq!(settings(None, ON).said(aged), aged);
        let unlimited = settings(Some(Retention::UNLIMITED), ON).said(aged);
        assert_eq!((unlimited.snapshots_max, unlimited.age_max_ns, unlimited.bytes_max), (u64::MAX, 0, 0));
        assert_eq!(settings(None, ON).said(unlimited), unlimited);
        // Without an archive only what recovery needs is kept anyway.
        assert_eq!(settings(None, Archiving::AsBefore).said(nothing), nothing);
    }

    #[test]
    fn who_keeps_all_gives_up_what_is_said_and_nothing_that_is_not() {
        let noted = Kept { snapshots_max: 2, archive: 0, ..Kept::default() };
        let run = |retention, archive| StoreSettings { keep_all: true, ..settings(retention, archive) };
        let limit = |kept: Kept| (kept.snapshots_max, kept.archive);
        let two = Some(Retention { snapshots_max: Some(3), ..Retention::default() });
        assert_eq!(limit(run(None, Archiving::AsBefore).kept(noted)), (u64::MAX, 1));
        assert_eq!(limit(run(two, Archiving::AsBefore).kept(noted)), (3, 1));
        assert_eq!(limit(run(None, Archiving::Off).kept(noted)), (u64::MAX, 0));
        assert_eq!(limit(run(two, Archiving::Off).kept(noted)), (3, 0));
        // What was not said is not noted.
        assert_eq!(run(None, Archiving::AsBefore).said(noted), noted);
    }
}
