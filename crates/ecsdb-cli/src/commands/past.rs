//! What of the past a snapshot or a compaction gives up: foreseen, or told afterwards.

use std::path::PathBuf;

use anyhow::Result;
use ecsdb::Lsn;
use ecsdb_compactor::{Event, Events, StoreSettings, foresee};
use ecsdb_io::Disk;
use ecsdb_recovery::{archive_away, earliest, log_dirs};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, SegmentReader, segment_files};
use serde_json::{Value as Json, json};

use crate::failure;
use crate::output::many;
use crate::place::Look;

/// What can be given up.
pub(crate) struct Past {
    manifest: Manifest,
    /// Numbers of the segments of log and archive.
    segments: Vec<u64>,
    /// The first moment that can be gone back to.
    first: Option<Lsn>,
}

impl Past {
    pub(crate) fn of(look: &Look<'_>) -> Result<Past> {
        let mut segments = Vec::new();
        for file in segment_files(&Disk, &log_dirs(look.layout, look.manifest))? {
            match SegmentReader::open(&Disk, &file.path) {
                Ok(Some(reader)) if reader.header().database == look.manifest.database => {
                    let before = reader.header().previous.last_lsn;
                    // One without transactions is no part of the past. The archive has none.
                    let in_log = file.number >= look.manifest.first_segment;
                    if !(in_log && LogScan::file(&Disk, &file.path)?.end.last_lsn == before) {
                        segments.push(file.number);
                    }
                }
                Ok(_) => {}
                Err(e) if e.is_of_the_file() => segments.push(file.number),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Past { manifest: look.manifest.clone(), segments, first: first(look, look.manifest)? })
    }

    /// What is given up when `after` takes its place.
    fn given_up(&self, after: &Manifest, first: Option<Lsn>) -> GivenUp {
        // A file that has the same state as one before takes nothing away.
        let stays = |lsn| after.snapshots.iter().chain(&after.away).any(|entry| entry.lsn == lsn);
        let snapshots = self.manifest.snapshots.iter().filter(|entry| !stays(entry.lsn));
        GivenUp {
            snapshots: snapshots.map(|entry| entry.sequence).collect(),
            segments: self.segments.iter().filter(|number| **number < after.first_archived).count() as u64,
            moments_before: first.filter(|first| self.first.is_some_and(|was| was < *first)),
            away: Vec::new(),
            writes: newest(after) != newest(&self.manifest),
        }
    }

    /// What has been given up, by how it looks now.
    pub(crate) fn lost_to(&self, look: &Look<'_>) -> Result<GivenUp> {
        Ok(self.given_up(look.manifest, first(look, look.manifest)?))
    }
}

fn newest(manifest: &Manifest) -> Option<u64> {
    manifest.snapshots.last().map(|newest| newest.sequence)
}

fn first(look: &Look<'_>, manifest: &Manifest) -> Result<Option<Lsn>> {
    Ok(earliest(&Disk, look.layout, manifest)?.map(|(lsn, _)| lsn))
}

/// What of the past goes, or has gone.
pub(crate) struct GivenUp {
    /// Numbers of snapshots.
    snapshots: Vec<u64>,
    /// Segments of log and archive.
    segments: u64,
    /// Where moments could be gone back to that cannot be any more.
    moments_before: Option<Lsn>,
    /// What of the archive is not there, where that was looked at.
    away: Vec<PathBuf>,
    /// A snapshot is written, or would be.
    pub(crate) writes: bool,
}

impl GivenUp {
    /// What a snapshot of the state at `lsn`, or a compaction of it, would give up.
    pub(crate) fn foreseen(
        look: &Look<'_>,
        settings: &StoreSettings,
        lsn: Lsn,
        is_compaction: bool,
    ) -> Result<GivenUp> {
        let after = foresee(&Disk, look.layout, look.manifest, settings, lsn, is_compaction)?;
        let given_up = Past::of(look)?.given_up(&after, first(look, &after)?);
        Ok(GivenUp { away: archive_away(&Disk, look.layout, look.manifest)?, ..given_up })
    }

    pub(crate) fn json(&self) -> Json {
        json!({
            "snapshots": self.snapshots, "segments": self.segments,
            "moments_before": self.moments_before.map(|lsn| lsn.0),
        })
    }

    /// Says what of the archive is away.
    pub(crate) fn warn(&self) {
        for path in &self.away {
            failure::warn(&format!("{} is away: the archive has a hole until it is back", path.display()));
        }
    }

    pub(crate) fn line(&self, is_done: bool) -> String {
        let (is, cannot) = if is_done { ("is", "cannot") } else { ("would be", "could not") };
        if self.snapshots.is_empty() && self.segments == 0 {
            return format!("nothing of the past {is} given up");
        }
        let snapshots = many(self.snapshots.len() as u64, "snapshot", "snapshots");
        let segments = many(self.segments, "segment of log or archive", "segments of log or archive");
        let moments = match self.moments_before {
            Some(lsn) => format!("; moments before LSN {lsn} {cannot} be gone back to any more"),
            None => String::new(),
        };
        format!("of the past {is} given up: {snapshots}, {segments}{moments}")
    }
}

/// Says what failed beside what was asked for: an archive that is away, say.
pub(crate) fn warn_of_failures(events: &mut Events) {
    while let Some(event) = events.try_next() {
        if let Event::Failed { error, .. } = event {
            failure::warn(&error);
        }
    }
}
