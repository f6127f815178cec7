//! Checking every file of a database that nobody has open. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ecsdb_io::{FileKind, Layout, Vfs};
use ecsdb_snapshot::{LoadOptions, Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::{LogError, LogScan, Loss, Lsn, Tail};
use serde::{Serialize, Serializer};

use crate::archived::{archive_away, lacks_manifest};
use crate::error::Result;
use crate::fallback::check_heads;
use crate::find::{self, listable_dirs};
use crate::logged::{LostBefore, lost_before, unreachable};
use crate::path_text;
use crate::present::lock_closed;
use crate::report::{Lost, Step};

/// What was found. Serialized, it is what whoever asks needs to know, in whatever way.
#[derive(Debug, Clone, Default, Serialize)]
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
    #[serde(skip)]
    pub locked: bool,
    /// Snapshots that were not where they should be at an opening, and are not yet; and of the archive what is not there: a segment for each
    /// gap, or the directory. Each counts again once it is back.
    #[serde(serialize_with = "path_text::list")]
    pub away: Vec<PathBuf>,
    /// What is damaged or missing, each with its file and place.
    pub faults: Vec<String>,
    /// The manifests among it: the next opening sets them aside.
    #[serde(skip)]
    pub manifests: Vec<PathBuf>,
    /// The segments of other databases among it.
    #[serde(skip)]
    pub strangers: Vec<PathBuf>,
    /// Of the two manifests one [is gone](lacks_manifest).
    pub lacks_manifest: bool,
    /// Manifests of other databases: nobody goes by them.
    #[serde(serialize_with = "path_text::list")]
    pub left_alone: Vec<PathBuf>,
    /// The first and the last of the moments that cannot be gone back to for that, of all up to the last one of which anything tells: those that
    /// [`crate::History::reconstruct`] refuses. What a salvage gives up that is not at its end, the faults say.
    #[serde(serialize_with = "moments")]
    pub unreachable: Vec<(Lsn, Lsn)>,
}

fn moments<S: Serializer>(ranges: &[(Lsn, Lsn)], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Moments {
        first_lsn: Lsn,
        last_lsn: Lsn,
    }
    to.collect_seq(ranges.iter().map(|&(first_lsn, last_lsn)| Moments { first_lsn, last_lsn }))
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
        let path = layout.file(FileKind::Manifest, generation);
        match Manifest::read(vfs, &path) {
            Ok(other) if other.database != manifest.database => {
                verified.left_alone.push(path);
            }
            Ok(_) => {}
            Err(ecsdb_snapshot::Error::Io(e)) if !e.is_of_the_file() => return Err(e.into()),
            Err(e) => {
                verified.faults.push(e.to_string());
                verified.manifests.push(path);
            }
        }
    }
    verified.lacks_manifest = lacks_manifest(vfs, layout, manifest)?;
    let path = |entry: &SnapshotEntry| layout.file(FileKind::Snapshot, entry.sequence);
    verified.away = manifest.away.iter().map(path).chain(archive_away(vfs, layout, manifest)?).collect();
    if let Some(e) = find::unlisted_archive(vfs, layout).filter(|_| manifest.kept.archive != 0) {
        verified.faults.push(format!("the archive cannot be looked at: {e}"));
    }
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
        // What is wrong with a file that has none, opening it says.
        let bytes = vfs.file_len(&path).ok().flatten().unwrap_or(0);
        progress(&Step::Snapshot { sequence, bytes });
        verified.snapshots += 1;
        verified.bytes += bytes;
        if !verified.note(Snapshot::open(vfs, &path).and_then(|snapshot| snapshot.verify_own()))? {
            damaged.insert(sequence);
        }
    }
    // Each file may be whole, and one of them not that with which the snapshot was written.
    let is_undamaged = |entry: &SnapshotEntry, damaged: &BTreeSet<u64>| {
        needs.get(&entry.sequence).is_some_and(|files| files.iter().all(|file| !damaged.contains(file)))
    };
    for entry in &manifest.snapshots {
        if is_undamaged(entry, &damaged)
            && !verified.note(check_heads(vfs, layout, manifest.database, entry))?
        {
            damaged.insert(entry.sequence);
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
    let dirs = listable_dirs(vfs, layout, manifest);
    let mut begins = |number, bytes| progress(&Step::Segment { number, bytes });
    let (all, strangers) = LogScan::survey(vfs, &dirs, manifest.database, known, 0, &mut begins)?;
    // Behind a loss the log is looked at once more, from where the newest snapshot leads on.
    let newer = match &all.tail {
        Tail::Corrupt { .. } => {
            let from = LogScan::first_needed(vfs, &dirs, Lsn(covered))?;
            LogScan::survey(vfs, &dirs, manifest.database, known, from, &mut |_, _| {})?.0
        }
        _ => all.clone(),
    };
    verified.segments = all.segments.len();
    verified.bytes += all.segments.iter().map(|segment| segment.end.offset).sum::<u64>();
    verified.last_lsn = newer.last_lsn.max(Lsn(covered));
    if let Tail::Torn { damage, .. } = &newer.tail {
        verified.torn_tail = Some(damage.to_string());
    }
    let before = lost_before(vfs, layout, manifest)?;
    verified.note_losses(layout, manifest, &strangers, [&newer, &all], before.as_ref());
    verified.faults.extend(find::ends_short(manifest, &newer, Lsn(covered)));
    verified.faults.extend(find::beyond(vfs, layout, manifest, newer.seen_lsn.max(verified.last_lsn))?);
    // A snapshot that no log leads on from, though there is some.
    if let Some(first) = all.segments.first()
        && first.header.previous.last_lsn > Lsn(covered)
    {
        let (path, begins) = (first.path.display(), first.header.previous.last_lsn);
        let missed = find::missed_before(vfs, layout, manifest, &first.header);
        verified.faults.push(format!(
            "{}{path} begins after LSN {begins}, and the newest snapshot ends with LSN {covered}",
            missed.map_or_else(String::new, |missed| format!("{missed}: "))
        ));
    } else if let Some(before) = before
        // What is not there of the archive is away.
        && !(before.number < manifest.first_segment && verified.is_archive_away(layout) && !before.is_there)
    {
        verified.faults.push(format!("LSN {} to {} are lost: {}", before.first, before.last, before.what));
    }
    if !(verified.faults.is_empty() && verified.away.is_empty()) {
        // Not all that is in the files of a snapshot is needed by it.
        let loads = |entry: &SnapshotEntry| {
            is_undamaged(entry, &damaged) || can_be_loaded(vfs, layout, manifest, entry)
        };
        let last = match manifest.salvage {
            0 => all
                .segments
                .iter()
                .map(|segment| segment.end.last_lsn)
                .fold(Lsn(manifest.durable_lsn), Lsn::max),
            _ => Lsn::ZERO,
        };
        verified.unreachable = unreachable(vfs, layout, manifest, last, loads)?;
    }
    progress(&Step::Done);
    Ok(verified)
}

/// The number of a segment.
fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_string_lossy();
    FileKind::Segment.parse(&name).or_else(|| FileKind::CompressedSegment.parse(&name))
}

fn can_be_loaded(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest, entry: &SnapshotEntry) -> bool {
    let load = || {
        let snapshot = Snapshot::open(vfs, &layout.file(FileKind::Snapshot, entry.sequence))?;
        snapshot.expect(manifest.database, entry)?;
        snapshot.load(vfs, LoadOptions { threads: 1, register: false }).map(drop)
    };
    load().is_ok()
}

impl Verified {
    /// Whether anything of the archive is away.
    fn is_archive_away(&self, layout: &Layout) -> bool {
        self.away.iter().any(|path| path.starts_with(layout.archive_dir()))
    }

    /// Names each segment that is damaged or missing once, but for what is away, what is said of what is missing `before` all that is there,
    /// and what a salvage gives up. Nearer to what the newest snapshot leads on with, it is known better.
    fn note_losses(
        &mut self,
        layout: &Layout,
        manifest: &Manifest,
        strangers: &[LogError],
        scans: [&LogScan; 2],
        before: Option<&LostBefore>,
    ) {
        for stranger in strangers {
            self.faults.push(stranger.to_string());
            if let LogError::OtherDatabase { path, .. } = stranger {
                self.strangers.push(path.clone());
            }
        }
        let covered = Lsn(manifest.snapshots.last().map_or(0, |newest| newest.lsn));
        let given_up = find::given_up_after(manifest, covered);
        let away: Vec<u64> = self.away.iter().filter_map(|path| number_of(path)).collect();
        let is_away = |loss: &Loss| {
            let is_archived = loss.missing && loss.damage.path.starts_with(layout.archive_dir());
            let all = || self.away.iter().any(|path| path == layout.archive_dir());
            is_archived
                && (all() || number_of(&loss.damage.path).is_some_and(|number| away.contains(&number)))
        };
        let is_strange = |loss: &Loss| self.strangers.contains(&loss.damage.path);
        let is_before =
            |loss: &Loss| before.is_some_and(|before| number_of(&loss.damage.path) == Some(before.number));
        let is_given_up = |loss: &Loss| {
            given_up.is_some_and(|after| loss.damage.lsn > after || loss.damage.lsn == Lsn::ZERO)
        };
        let mut losses: Vec<&Loss> = Vec::new();
        for loss in scans.into_iter().flat_map(|scan| &scan.losses) {
            let is_told = losses.iter().any(|told| told.damage.path == loss.damage.path);
            if !(is_told || is_away(loss) || is_strange(loss) || is_before(loss) || is_given_up(loss)) {
                losses.push(loss);
            }
        }
        losses.sort_by(|one, other| one.damage.path.file_name().cmp(&other.damage.path.file_name()));
        self.faults
            .extend(losses.iter().map(|Loss { damage, evidence, .. }| format!("{damage} ({evidence})")));
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
