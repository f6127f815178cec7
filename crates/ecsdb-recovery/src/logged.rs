//! The whole log with its archive, by what the manifest knows of it, and which moments it does not lead to: for whoever lists or verifies it.

use ecsdb_io::{Layout, Vfs};
use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::{LogScan, Lsn, SegmentHead, SegmentHeader, Tail, segment_files};

use crate::archived::not_known_before;
use crate::error::Result;
use crate::fallback::not_missed_before;
use crate::find::{self, listable_dirs};
use crate::history::History;

/// Reads the log and the archive from their beginning, by what the manifest knows: where they end before something that is known to have been
/// there, their tail says it. O(bytes).
///
/// # Errors
/// As [`LogScan::run`].
pub fn scan_log(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<LogScan> {
    let covered = newest(manifest);
    let known = find::known(manifest, covered);
    let mut scan = LogScan::run(vfs, &listable_dirs(vfs, layout, manifest), manifest.database, known, 0)?;
    if !matches!(scan.tail, Tail::Corrupt { .. }) {
        let short = match find::ends_short(manifest, &scan, covered) {
            Some(short) => Some(short),
            None => find::beyond(vfs, layout, manifest, scan.seen_lsn.max(covered))?,
        };
        if let Some(evidence) = short {
            scan.goes_on(layout.log_dir(), evidence);
        }
    }
    Ok(scan)
}

/// What is missing before the first segment that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBefore {
    /// The number of the segment before that one.
    pub number: u64,
    /// What was in it and in those before it, and no snapshot holds: from here on.
    pub first: Lsn,
    /// Up to here.
    pub last: Lsn,
    /// Which file is not there, or is damaged.
    pub what: String,
    /// It is damaged.
    pub is_there: bool,
}

/// What the manifest wants of log and archive from before the first segment that is there; `None` where that is nothing, or no segment is there.
/// Reads headers. O(segments).
///
/// # Errors
/// When a directory cannot be listed, or a file not be read for no fault of its own.
pub fn lost_before(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<LostBefore>> {
    let Some(header) = first_header(vfs, layout, manifest)? else { return Ok(None) };
    let (number, last) = (header.previous.segment, header.previous.last_lsn);
    // What is there is to be whole, whoever wants it.
    let is_there =
        segment_files(vfs, &listable_dirs(vfs, layout, manifest))?.iter().any(|file| file.number == number);
    let not_missed = if is_there {
        not_known_before(vfs, layout, manifest)?
    } else {
        not_missed_before(vfs, layout, manifest)?
    };
    if manifest.salvage != 0 || last <= not_missed {
        return Ok(None);
    }
    let before = manifest.snapshots.iter().rev().find(|entry| entry.lsn < last.0);
    let first = Lsn(before.map_or(0, |entry| entry.lsn)).next();
    let missed = find::missed_before(vfs, layout, manifest, &header);
    Ok(missed.map(|what| LostBefore { number, first, last, what, is_there }))
}

/// The header of the first segment that is there and has one.
fn first_header(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<SegmentHeader>> {
    for file in segment_files(vfs, &listable_dirs(vfs, layout, manifest))? {
        if let Some(header) = SegmentHead::of(vfs, &file, manifest.database)?.own() {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// The first and the last of the moments that [`History::reconstruct`] refuses for something that is damaged or missing, up to `last`, or the last
/// one that can be gone back to; `loads` says of a snapshot whether it can be loaded. From where on moments are wanted is what the oldest
/// snapshot says that the manifest names, or the beginning, where the log goes back to it. A scan for each loss. O(bytes · losses).
pub(crate) fn unreachable(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    last: Lsn,
    loads: impl Fn(&SnapshotEntry) -> bool,
) -> Result<Vec<(Lsn, Lsn)>> {
    // A copy's log begins where it was made.
    let begins = first_header(vfs, layout, manifest)?.filter(|first| first.previous.segment == 0);
    let begins = begins.map_or(Lsn(1), |first| first.previous.last_lsn.next());
    let named = || manifest.snapshots.iter().chain(&manifest.away).map(|entry| Lsn(entry.lsn));
    let wanted = match named().min() {
        Some(oldest) if manifest.archived_from() > 1 => oldest.max(Lsn(1)),
        Some(oldest) => oldest.max(Lsn(1)).min(begins),
        None => begins,
    };
    let pieces = match History::of_closed(vfs, layout, manifest) {
        Ok(history) => pieces(&history, manifest, loads)?,
        Err(e) if e.is_stranger() => Vec::new(),
        Err(e) => return Err(e),
    };
    let last = named().chain(pieces.iter().map(|(_, to)| *to)).fold(last, Lsn::max);
    let (mut next, mut out_of_reach) = (wanted, Vec::new());
    for (from, to) in pieces {
        if from > next {
            out_of_reach.push((next, Lsn(from.0 - 1)));
        }
        next = next.max(to.next());
    }
    if last >= next {
        out_of_reach.push((next, last));
    }
    for given_up in given_up(vfs, layout, manifest, named().collect())? {
        out_of_reach = out_of_reach.into_iter().flat_map(|range| without(range, given_up)).collect();
    }
    Ok(out_of_reach)
}

/// The moments between snapshots that no log leads to any more, though all is there that the manifest wants: they were given up, and are out of
/// reach for nothing that is damaged.
fn given_up(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    mut snapshots: Vec<Lsn>,
) -> Result<Vec<(Lsn, Lsn)>> {
    if lost_before(vfs, layout, manifest)?.is_some() {
        return Ok(Vec::new());
    }
    let logged_from = first_header(vfs, layout, manifest)?.map_or(Lsn::ZERO, |first| first.previous.last_lsn);
    snapshots.sort();
    let between = snapshots.iter().zip(snapshots.iter().skip(1));
    Ok(between
        .filter(|(one, _)| **one < logged_from)
        .map(|(one, next)| (one.next(), Lsn(next.0.saturating_sub(1))))
        .collect())
}

/// What is left of the first range without the second one.
fn without((first, last): (Lsn, Lsn), (from, to): (Lsn, Lsn)) -> impl Iterator<Item = (Lsn, Lsn)> {
    let before = (first, last.min(Lsn(from.0.saturating_sub(1))));
    let behind = (first.max(to.next()), last);
    let is_apart = to < first || from > last || to < from;
    let parts = if is_apart { [Some((first, last)), None] } else { [Some(before), Some(behind)] };
    parts.into_iter().flatten().filter(|(first, last)| first <= last)
}

/// What can be gone back to, each piece from a base up to the first loss behind it.
fn pieces(
    history: &History<'_>,
    manifest: &Manifest,
    loads: impl Fn(&SnapshotEntry) -> bool,
) -> Result<Vec<(Lsn, Lsn)>> {
    let mut bases = vec![Lsn::ZERO];
    bases.extend(manifest.snapshots.iter().filter(|one| loads(one)).map(|one| Lsn(one.lsn)));
    bases.sort();
    let given_up = find::given_up(manifest).map_or(Lsn(u64::MAX), |lost| lost.first);
    let mut pieces: Vec<(Lsn, Lsn)> = Vec::new();
    for base in bases.into_iter().filter(|base| *base < given_up) {
        if pieces.last().is_some_and(|(_, to)| *to > base) {
            continue;
        }
        let scan = match history.scan(base) {
            Ok(scan) => scan,
            Err(e) if e.is_stranger() => continue,
            Err(e) => return Err(e),
        };
        let leads = scan.segments.first().is_some_and(|first| first.header.previous.last_lsn <= base);
        let to = match &scan.tail {
            _ if !leads => base,
            Tail::Corrupt { first_lost, .. } => Lsn(first_lost.0.saturating_sub(1)),
            _ => scan.last_lsn,
        };
        pieces.push((base, to.min(Lsn(given_up.0 - 1)).max(base)));
    }
    Ok(pieces)
}

fn newest(manifest: &Manifest) -> Lsn {
    manifest.snapshots.last().map_or(Lsn::ZERO, |entry| Lsn(entry.lsn))
}
