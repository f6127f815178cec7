//! The whole log with its archive, by what the manifest knows of it, and which moments it does not lead to: for whoever lists or verifies it.

use ecsdb_io::{Layout, Vfs};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, Lsn, SegmentHeader, SegmentReader, Tail, segment_files};

use crate::archived::not_known_before;
use crate::error::Result;
use crate::find::{self, log_dirs};
use crate::history::History;

/// Reads the log and the archive from their beginning, by what the manifest knows: where they end before something that is known to have been
/// there, their tail says it. O(bytes).
///
/// # Errors
/// As [`LogScan::run`].
pub fn scan_log(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<LogScan> {
    let covered = newest(manifest);
    let known = find::known(manifest, covered);
    let mut scan = LogScan::run(vfs, &log_dirs(layout, manifest), manifest.database, known, 0)?;
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
}

/// What the manifest wants of log and archive from before the first segment that is there; `None` where that is nothing, or no segment is there.
/// Reads headers. O(segments).
///
/// # Errors
/// When a directory cannot be listed, or a file not be read for no fault of its own.
pub fn lost_before(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<LostBefore>> {
    let Some(header) = first_header(vfs, layout, manifest)? else { return Ok(None) };
    let (number, last) = (header.previous.segment, header.previous.last_lsn);
    // Without an archive nobody wants what is behind the snapshot that recovery falls back to, and it need not be there.
    let is_there = segment_files(vfs, &log_dirs(layout, manifest))?.iter().any(|file| file.number == number);
    let fallback = manifest.snapshots.iter().rev().nth(1);
    let is_unwanted =
        !is_there && manifest.kept.archive == 0 && fallback.is_some_and(|fallback| fallback.lsn >= last.0);
    if is_unwanted || manifest.salvage != 0 || last <= not_known_before(vfs, layout, manifest)? {
        return Ok(None);
    }
    let before = manifest.snapshots.iter().rev().find(|entry| entry.lsn < last.0);
    let first = Lsn(before.map_or(0, |entry| entry.lsn)).next();
    let missed = find::missed_before(vfs, layout, manifest, &header);
    Ok(missed.map(|what| LostBefore { number, first, last, what }))
}

/// The header of the first segment that is there and has one.
fn first_header(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<SegmentHeader>> {
    for file in segment_files(vfs, &log_dirs(layout, manifest))? {
        match SegmentReader::open(vfs, &file.path) {
            Ok(Some(reader)) => {
                let header = *reader.header();
                if (header.database, header.sequence) == (manifest.database, file.number) {
                    return Ok(Some(header));
                }
            }
            Ok(None) => {}
            Err(e) if e.is_of_the_file() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}

/// The first and the last of the moments that [`History::reconstruct`] refuses for something that is damaged or missing, up to the last one that
/// is there; `is_whole` says of a snapshot whether it can be loaded. From where on moments are wanted is what the oldest snapshot says that the
/// manifest names, or the beginning, where the log goes back to it. A scan for each loss. O(bytes · losses).
pub(crate) fn unreachable(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    is_whole: impl Fn(u64) -> bool,
) -> Result<Vec<(Lsn, Lsn)>> {
    let history = History::of_closed(vfs, layout, manifest)?;
    // A copy's log begins where it was made.
    let begins = first_header(vfs, layout, manifest)?.filter(|first| first.previous.segment == 0);
    let begins = begins.map_or(Lsn(1), |first| first.previous.last_lsn.next());
    let named = || manifest.snapshots.iter().chain(&manifest.away).map(|entry| Lsn(entry.lsn));
    let wanted = match named().min() {
        Some(oldest) if manifest.archived_from() > 1 => oldest.max(Lsn(1)),
        Some(oldest) => oldest.max(Lsn(1)).min(begins),
        None => begins,
    };
    let mut bases = vec![Lsn::ZERO];
    bases.extend(manifest.snapshots.iter().filter(|one| is_whole(one.sequence)).map(|one| Lsn(one.lsn)));
    bases.sort();
    let given_up = find::given_up(manifest).map_or(Lsn(u64::MAX), |lost| lost.first);
    // What can be gone back to, each piece from a base up to the first loss behind it.
    let mut pieces: Vec<(Lsn, Lsn)> = Vec::new();
    for base in bases.into_iter().filter(|base| *base < given_up) {
        if pieces.last().is_some_and(|(_, to)| *to > base) {
            continue;
        }
        let scan = history.scan(base)?;
        let leads = scan.segments.first().is_some_and(|first| first.header.previous.last_lsn <= base);
        let to = match &scan.tail {
            _ if !leads => base,
            Tail::Corrupt { first_lost, .. } => Lsn(first_lost.0.saturating_sub(1)),
            _ => scan.last_lsn,
        };
        pieces.push((base, to.min(Lsn(given_up.0 - 1)).max(base)));
    }
    let last = named().chain(pieces.iter().map(|(_, to)| *to)).max().unwrap_or(Lsn::ZERO);
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
    Ok(out_of_reach)
}

fn newest(manifest: &Manifest) -> Lsn {
    manifest.snapshots.last().map_or(Lsn::ZERO, |entry| Lsn(entry.lsn))
}
