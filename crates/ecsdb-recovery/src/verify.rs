//! Checking every file of a database that nobody has open. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ecsdb_io::{FileKind, Layout, Vfs};
use ecsdb_snapshot::{Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::{LogError, LogScan, Lsn, SegmentReader, Tail, segment_files};

use crate::archived::archive_away;
use crate::error::Result;
use crate::find::{self, log_dirs};
use crate::history::lock_closed;
use crate::logged::{lost_before, unreachable};
use crate::report::{Lost, Step};

/// What was found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Snapshot files read.
    pub snapshots: usize,
    /// Log segments read, archived ones included.
    pub segments: usize,
    /// Bytes read.
    pub bytes: u64,
    /// The last whole transaction.
    pub last_lsn: Lsn,
    /// An end of the log that nothing proves to have been durable, and that the next opening cuts: what an interrupted write
    /// leaves behind. Damage to the very last group of transactions looks the same.
    pub torn_tail: Option<String>,
    /// Nobody could open the database meanwhile. False where nothing can be written, not even a lock file.
    pub locked: bool,
    /// Snapshots that were not where they should be at an opening, and are not yet; and of the archive what is not there: a segment for each
    /// gap, or the directory. Each counts again once it is back.
    pub away: Vec<PathBuf>,
    /// What is damaged or missing, each with its file and place.
    pub faults: Vec<String>,
    /// The first and the last of the moments that cannot be gone back to for that, of all up to the last one that is there: those that
    /// [`crate::History::reconstruct`] refuses. What came after that one is lost, and the faults say from where on. Empty where a stranger's
    /// segment lies in the place of one of the log.
    pub unreachable: Vec<(Lsn, Lsn)>,
}

/// Reads every manifest, every snapshot file that a retained snapshot needs, the log and the archive, and checks each byte
/// that has a checksum. O(bytes).
///
/// # Errors
/// When there is no database, somebody has it open, or a file operation fails. Damage is in the result.
pub fn verify(vfs: &dyn Vfs, layout: &Layout, progress: &mut dyn FnMut(&Step)) -> Result<Verified> {
    progress(&Step::Manifest);
    let (lock, manifest) = lock_closed(vfs, layout)?;
    let verified = verify_files(vfs, layout, &manifest, progress)?;
    Ok(Verified { locked: lock.is_some(), ..verified })
}

/// As [`verify`], by a manifest that was [looked](crate::look) at, without a lock: of a database that somebody has open, what is deleted
/// meanwhile counts as missing. Look again then. O(bytes).
///
/// # Errors
/// When a file operation fails. Damage is in the result.
pub fn verify_files(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    progress: &mut dyn FnMut(&Step),
) -> Result<Verified> {
    let mut verified = Verified::default();
    for generation in Manifest::generations(vfs, layout)? {
        match Manifest::read(vfs, &layout.file(FileKind::Manifest, generation)) {
            Ok(_) => {}
            Err(ecsdb_snapshot::Error::Io(e)) if !e.is_of_the_file() => return Err(e.into()),
            Err(e) => verified.faults.push(e.to_string()),
        }
    }
    let path = |entry: &SnapshotEntry| layout.file(FileKind::Snapshot, entry.sequence);
    verified.away = manifest.away.iter().map(path).chain(archive_away(vfs, layout, manifest)?).collect();
    // Of each snapshot the files that it needs; of one that does not open it is not known.
    let mut needs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut needed = BTreeSet::new();
    for entry in &manifest.snapshots {
        let path = layout.file(FileKind::Snapshot, entry.sequence);
        needed.insert(entry.sequence);
        let opened = Snapshot::open(vfs, &path).and_then(|snapshot| {
            snapshot.expect(manifest.database, entry)?;
            needs.insert(entry.sequence, snapshot.needs().chain([entry.sequence]).collect());
            Ok(())
        });
        verified.note(opened)?;
    }
    needed.extend(needs.values().flatten());
    let mut damaged = BTreeSet::new();
    for sequence in needed {
        let path = layout.file(FileKind::Snapshot, sequence);
        let bytes = vfs.file_len(&path)?.unwrap_or(0);
        progress(&Step::Snapshot { sequence, bytes });
        verified.snapshots += 1;
        verified.bytes += bytes;
        if !verified.note(Snapshot::open(vfs, &path).and_then(|snapshot| snapshot.verify_own()))? {
            damaged.insert(sequence);
        }
    }
    if let Some(Lost { first, why, .. }) = find::given_up(manifest) {
        verified
            .faults
            .push(format!("what came from LSN {first} on is given up: {why}. The next opening ends it"));
    }
    progress(&Step::Verify);
    let covered = manifest.snapshots.last().map_or(0, |newest| newest.lsn);
    let known = find::known(manifest, Lsn(covered));
    let dirs = log_dirs(layout, manifest);
    // Over a hole in the archive no log leads: what is there of it is checked piece by piece, and what is not is away, however much that is.
    let is_whole = verified.away.iter().all(|path| path.starts_with(layout.snapshot_dir()));
    if !is_whole {
        verified.note_pieces(vfs, layout, manifest)?;
    }
    let dirs = if is_whole { &dirs[..] } else { &dirs[..1] };
    let scan = match LogScan::run(vfs, dirs, manifest.database, known, 0) {
        // In the place of a segment: what is in the log beside it rests on that one.
        Err(stranger @ LogError::OtherDatabase { .. }) => {
            verified.faults.push(stranger.to_string());
            verified.last_lsn = Lsn(covered);
            progress(&Step::Done);
            return Ok(verified);
        }
        scan => scan?,
    };
    let given_up = find::given_up_after(manifest, Lsn(covered));
    verified.segments += scan.segments.len();
    verified.bytes += scan.segments.iter().map(|segment| segment.end.offset).sum::<u64>();
    verified.last_lsn = scan.last_lsn.max(Lsn(covered));
    match &scan.tail {
        Tail::Clean => {}
        Tail::Torn { damage, .. } => verified.torn_tail = Some(damage.to_string()),
        // It is what is given up.
        Tail::Corrupt { first_lost, .. } if given_up.is_some_and(|after| *first_lost > after) => {}
        Tail::Corrupt { damage, evidence, .. } => {
            verified.faults.push(format!("{damage} ({evidence})"));
        }
    }
    verified.faults.extend(find::ends_short(manifest, &scan, Lsn(covered)));
    verified.faults.extend(find::beyond(vfs, layout, manifest, scan.seen_lsn.max(verified.last_lsn))?);
    // A snapshot that no log leads on from, though there is some.
    if let Some(first) = scan.segments.first()
        && first.header.previous.last_lsn > Lsn(covered)
    {
        let (path, begins) = (first.path.display(), first.header.previous.last_lsn);
        let missed = find::missed_before(vfs, layout, manifest, &first.header);
        verified.faults.push(format!(
            "{}{path} begins after LSN {begins}, and the newest snapshot ends with LSN {covered}",
            missed.map_or_else(String::new, |missed| format!("{missed}: "))
        ));
    } else if let Some(before) = lost_before(vfs, layout, manifest)? {
        // What is away of the archive is none; what is damaged there beside that was checked piece by piece.
        if is_whole || before.number >= manifest.first_segment {
            verified
                .faults
                .push(format!("LSN {} to {} are lost: {}", before.first, before.last, before.what));
        }
    }
    if !(verified.faults.is_empty() && verified.away.is_empty()) {
        let is_whole = |sequence| {
            needs.get(&sequence).is_some_and(|files| files.iter().all(|file| !damaged.contains(file)))
        };
        verified.unreachable = unreachable(vfs, layout, manifest, is_whole)?;
    }
    progress(&Step::Done);
    Ok(verified)
}

impl Verified {
    /// Checks each segment of the archive by itself: it goes on for as long as the one after it says. What the last one before a hole ends with,
    /// nobody says.
    fn note_pieces(&mut self, vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<()> {
        let mut pieces = Vec::new();
        for file in segment_files(vfs, &log_dirs(layout, manifest))? {
            match SegmentReader::open(vfs, &file.path) {
                Ok(Some(reader)) if reader.header().database == manifest.database => {
                    pieces.push((file, *reader.header()));
                }
                Ok(_) => {}
                Err(e) if e.is_of_the_file() && file.number < manifest.first_segment => {
                    self.faults.push(e.to_string());
                }
                // The scan of the log tells.
                Err(e) if e.is_of_the_file() => {}
                Err(e) => return Err(e.into()),
            }
        }
        let archived = pieces.iter().take_while(|(file, _)| file.number < manifest.first_segment).count();
        for (i, (file, _)) in pieces.iter().enumerate().take(archived) {
            let piece = match LogScan::file(vfs, &file.path) {
                Ok(piece) => piece,
                Err(e) if e.is_of_the_file() => {
                    self.faults.push(e.to_string());
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            self.segments += 1;
            self.bytes += piece.end.offset;
            let end = pieces.get(i + 1).map(|(_, next)| next.previous);
            let end = end.filter(|end| end.segment == file.number && end.last_lsn > piece.end.last_lsn);
            if let (Some(end), Some(damage)) = (end, piece.damage) {
                let last = end.last_lsn;
                self.faults
                    .push(format!("{damage} (the next segment says that this one ends with LSN {last})"));
            }
        }
        Ok(())
    }

    /// Whether it is whole; what is wrong with it otherwise is a fault.
    fn note(&mut self, checked: ecsdb_snapshot::Result<()>) -> Result<bool> {
        match checked {
            Ok(()) => Ok(true),
            Err(e) if e.is_damage() => {
                // One that is opened twice is damaged once.
                let fault = e.to_string();
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }
}
