//! What of the past a snapshot, a compaction or a repair gives up, told afterwards: of a dry run, too.

use anyhow::Result;
use ecsdb::{Database, Lsn};
use ecsdb_compactor::{Event, Events};
use ecsdb_recovery::{earliest, log_dirs};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, SegmentReader, segment_files};
use serde_json::{Value as Json, json};

use crate::failure;
use crate::output::many;
use crate::place::{Look, Settled};

/// What can be given up.
struct Past {
    manifest: Manifest,
    /// Numbers of the segments of log and archive.
    segments: Vec<u64>,
    /// The first moment that can be gone back to.
    first: Option<Lsn>,
}

impl Past {
    fn of(look: &Look<'_>) -> Result<Past> {
        let mut segments = Vec::new();
        for file in segment_files(look.vfs(), &log_dirs(look.layout, look.manifest))? {
            match SegmentReader::open(look.vfs(), &file.path) {
                Ok(Some(reader)) if reader.header().database == look.manifest.database => {
                    let before = reader.header().previous.last_lsn;
                    // One without transactions is no part of the past. The archive has none.
                    let in_log = file.number >= look.manifest.first_segment;
                    if !(in_log && LogScan::file(look.vfs(), &file.path)?.end.last_lsn == before) {
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
        let moments_before = first.filter(|first| self.first.is_some_and(|was| was < *first));
        let is_gone = |number| number < after.first_segment && !after.is_archived(number);
        let kept = |first: Lsn| {
            let mut kept: Vec<u64> = after.snapshots.iter().map(|entry| entry.lsn).collect();
            kept.retain(|lsn| *lsn < first.0);
            kept.dedup();
            kept
        };
        GivenUp {
            snapshots: snapshots.map(|entry| entry.sequence).collect(),
            segments: self.segments.iter().filter(|number| is_gone(**number)).count() as u64,
            moments_before,
            moments_kept: moments_before.map_or_else(Vec::new, kept),
            writes: newest(after) > newest(&self.manifest),
        }
    }
}

fn newest(manifest: &Manifest) -> Option<u64> {
    manifest.snapshots.last().map(|newest| newest.sequence)
}

fn first(look: &Look<'_>, manifest: &Manifest) -> Result<Option<Lsn>> {
    Ok(earliest(look.vfs(), look.layout, manifest)?.map(|(lsn, _)| lsn))
}

/// What of the past goes, or has gone.
pub(crate) struct GivenUp {
    /// Numbers of snapshots.
    snapshots: Vec<u64>,
    /// Segments of log and archive.
    segments: u64,
    /// Where moments could be gone back to that cannot be any more.
    moments_before: Option<Lsn>,
    /// Those of them that can all the same: a snapshot that stays has its own, whatever becomes of the log behind it.
    moments_kept: Vec<u64>,
    /// A snapshot is written, or would be.
    pub(crate) writes: bool,
}

/// A change of what is kept, from before the database is opened until it is closed.
pub(crate) struct Change {
    before: Past,
    events: Events,
}

impl Change {
    /// Opens the database. What the opening says beside it is the caller's.
    pub(crate) fn begin<T>(
        settled: &Settled,
        open: impl FnOnce(&Settled) -> Result<(Database, T)>,
    ) -> Result<(Database, T, Change)> {
        // What the opening itself gives up counts, too. One that has lost its manifests can be looked at only once it is open.
        let before = settled.look(Past::of).ok();
        let (db, opening) = open(settled)?;
        let before = before.map_or_else(|| settled.look(Past::of), Ok)?;
        let events = db.events();
        Ok((db, opening, Change { before, events }))
    }

    /// Closes it. Says what failed beside what was asked for: an archive that is away, say.
    pub(crate) fn end(mut self, settled: &Settled, db: Database) -> Result<GivenUp> {
        // What runs by itself may have failed before anybody could listen.
        let failed = db.stats()?.store.map_or_else(Vec::new, |store| store.failures);
        db.close()?;
        failed.iter().for_each(|failed| failure::warn(&failed.error));
        while let Some(event) = self.events.try_next() {
            if let Event::Failed { error, .. } = event {
                failure::warn(&error);
            }
        }
        settled.look(|look| Ok(self.before.given_up(look.manifest, first(look, look.manifest)?)))
    }
}

impl GivenUp {
    pub(crate) fn is_nothing(&self) -> bool {
        self.snapshots.is_empty() && self.segments == 0 && self.moments_before.is_none()
    }

    pub(crate) fn json(&self) -> Json {
        json!({
            "snapshots": self.snapshots, "segments": self.segments,
            "moments_before": self.moments_before.map(|lsn| lsn.0), "moments_kept": self.moments_kept,
        })
    }

    pub(crate) fn line(&self, is_done: bool) -> String {
        let (is, cannot) = if is_done { ("is", "cannot") } else { ("would be", "could not") };
        let (snapshots, segments) = (self.snapshots.len() as u64, self.segments);
        let mut what = Vec::new();
        if snapshots + segments > 0 {
            what.push(format!(
                "{}, {}",
                many(snapshots, "snapshot", "snapshots"),
                many(segments, "segment of log or archive", "segments of log or archive")
            ));
        }
        if let Some(lsn) = self.moments_before {
            let kept: Vec<String> = self.moments_kept.iter().map(u64::to_string).collect();
            let but =
                if kept.is_empty() { String::new() } else { format!(", but for LSN {}", kept.join(", ")) };
            what.push(format!("moments before LSN {lsn} {cannot} be gone back to any more{but}"));
        }
        match self.is_nothing() {
            true => format!("nothing of the past {is} given up"),
            false => format!("of the past {is} given up: {}", what.join("; ")),
        }
    }
}
