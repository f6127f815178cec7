//! What there is to open: the newest snapshot that loads, the log above it, and how far that counts.

use ecsdb_core::World;
use ecsdb_io::{FileKind, IoError, Layout, OpenMode, Vfs, numbered_files};
use ecsdb_snapshot::{Manifest, Snapshot};
use ecsdb_wal::{Known, LogDir, LogError, LogScan, Lsn, Replay, Tail};

use crate::error::{Error, Result};
use crate::judge::Judge;
use crate::policy::{Options, Policy};
use crate::recover::Clock;
use crate::replay::{Follow, Until, step};
use crate::report::{DataLoss, LoadedSnapshot, Lost, RecoveryReport, Rejected, Step};
use crate::{find, replay};

/// How often it is looked, at most, what there is, before something is given up.
const LOOKS: u32 = 4;

/// What there is.
pub(crate) struct Found {
    /// As of the snapshot, or with the log.
    world: World,
    has_log: bool,
    /// What the snapshot holds.
    pub(crate) snapshot: Lsn,
    scan: LogScan,
    /// Up to where the log counts.
    pub(crate) whole: Until,
}

/// The world of the newest snapshot that holds.
fn load(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    options: &mut Options,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
) -> Result<World> {
    replay::load(vfs, layout, manifest, &manifest.snapshots, options, report, follow)
}

/// Loads the newest snapshot, and verifies the log. A log that is whole is applied on the way; of any other it is found out first what of it
/// may be.
pub(crate) fn look(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    options: &mut Options,
    report: &mut RecoveryReport,
    clock: &mut Clock,
    follow: Follow<'_>,
) -> Result<Found> {
    let judge = Judge { vfs, layout, manifest, policy: options.policy };
    let before = report.clone();
    let mut world = load(vfs, layout, manifest, options, report, follow)?;
    clock.lap("snapshot", report);
    step(follow, &Step::Verify)?;
    let bytes = sync_found(vfs, layout, manifest)?;
    step(follow, &Step::Replay { done: 0, total: bytes })?;
    let snapshot = world.lsn();
    let (scan, applied) =
        replay::apply_while_verifying(&mut world, bytes, options.threads, report, follow, |take| {
            scan_log(vfs, layout, manifest, snapshot, take)
        });
    let Logged { scan, was_given, .. } = scan?;
    if was_given && applied.is_ok() && find::given_up_after(manifest, snapshot).is_none() {
        // What is wrong may be so once: of a loss is told, or it is given up, what is found again.
        let judged = judge.log(&scan, snapshot, report);
        if report.lost.is_empty()
            && let Ok(whole) = judged
        {
            clock.lap("log", report);
            return Ok(Found { world, has_log: true, snapshot, scan, whole });
        }
    }
    // The world may hold what does not count.
    drop(world);
    let mut lost = std::mem::take(&mut report.lost);
    for _ in 1..LOOKS {
        let timings = std::mem::take(&mut report.timings);
        *report = RecoveryReport { timings, ..before.clone() };
        let world = load(vfs, layout, manifest, options, report, follow)?;
        clock.lap("snapshot", report);
        let snapshot = world.lsn();
        let Logged { scan, unseen, .. } = scan_log(vfs, layout, manifest, snapshot, &mut |_, _, _| {})?;
        report.rejected.extend(unseen);
        let whole = judge.log(&scan, snapshot, report)?;
        clock.lap("verify", report);
        // REC-17: what the medium does not give for once is not given up. A loss is believed that is found twice.
        if report.lost.is_empty() || report.lost == lost {
            return Ok(Found { world, has_log: false, snapshot, scan, whole });
        }
        lost = std::mem::take(&mut report.lost);
    }
    let why = lost.into_iter().map(|lost| lost.why).collect::<Vec<_>>().join("; ");
    Err(Error::Unsteady { why })
}

/// The world with the log, as far as that counts.
pub(crate) fn replay_log(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    found: Found,
    options: &mut Options,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
) -> Result<(World, LogScan)> {
    let Found { mut world, has_log, snapshot, scan, mut whole } = found;
    if has_log {
        return Ok((world, scan));
    }
    let resumes = find::given_up_after(manifest, snapshot);
    whole.lsn = whole.lsn.min(resumes.unwrap_or(whole.lsn));
    step(follow, &Step::Replay { done: 0, total: report.log_bytes })?;
    let mut applied = replay::apply(vfs, &mut world, &scan, whole, options.threads, report, follow);
    if options.register
        && matches!(&applied, Err(Error::Apply { cause: ecsdb_core::Error::Codec { .. }, .. }))
    {
        // A value that its type refuses closes its component, not the database: all over again, with the bytes as they are.
        options.register = false;
        world = load(vfs, layout, manifest, options, report, follow)?;
        applied = replay::apply(vfs, &mut world, &scan, whole, options.threads, report, follow);
    }
    match applied {
        Err(Error::Apply { lsn, cause }) if options.policy == Policy::Salvage => {
            // The world holds a part of that transaction: build it once more, without it and what follows.
            report.lost.push(Lost { first: Lsn(lsn), last: None, why: cause.to_string() });
            report.data_loss = DataLoss::Acknowledged;
            world = load(vfs, layout, manifest, options, report, follow)?;
            let until = Until { lsn: Lsn(lsn - 1), ..whole };
            replay::apply(vfs, &mut world, &scan, until, options.threads, report, follow)?;
        }
        other => drop(other?),
    }
    Ok((world, scan))
}

/// Whether what was found goes on from a snapshot that `manifest` does not know of, and the log is that one's. A log that ends earlier is not whole.
pub(crate) fn goes_on_from_newer(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    found: &Found,
    report: &mut RecoveryReport,
) -> Result<bool> {
    let Some(LoadedSnapshot { sequence, lsn }) = report.snapshot else { return Ok(false) };
    let path = layout.file(FileKind::Snapshot, sequence);
    if manifest.snapshots.iter().any(|entry| entry.sequence == sequence) {
        return Ok(false);
    }
    if found.scan.last_lsn > lsn {
        let created = Snapshot::open(vfs, &path)?.header().created_unix_ns;
        let [own, _] = find::log_dirs(layout, manifest);
        let from = LogScan::first_needed(vfs, &[own], Lsn(lsn.0 - 1))?;
        let scan = LogScan::run(vfs, &[own], manifest.database, Known::default(), from)?;
        let mut replay = Replay::new(vfs, &scan, Lsn(lsn.0 - 1), lsn);
        let is_its = match replay.next(&mut Vec::new())? {
            // IO-2: what it ends with was written before it.
            Some(last) if last.lsn == lsn => last.unix_ns <= created,
            // Nothing tells, but that the log is newer than the manifest, too.
            _ => scan.incarnation > manifest.incarnation,
        };
        if !is_its {
            return Ok(false);
        }
    }
    if report.lost.is_empty() && found.scan.last_lsn < lsn {
        let why = format!("the log ends before LSN {lsn}, which {} was written after", path.display());
        report.lost.push(Lost { first: lsn.next(), last: None, why });
        report.data_loss = DataLoss::Acknowledged;
    }
    report.unlisted.push(path);
    Ok(true)
}

/// REC-4: a process that crashed leaves written pages which only the operating system has, and names. What recovery builds on must be
/// on stable storage first. Gives how many bytes of log that is at most.
fn sync_found(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<u64, IoError> {
    let mut files = numbered_files(vfs, layout.log_dir(), &[FileKind::Segment])?;
    files.retain(|file| file.number >= manifest.first_segment);
    let bytes = files.iter().map(|file| file.bytes).sum();
    for file in files {
        match vfs.open(&file.path, OpenMode::ReadWrite) {
            // A file that this user may only read is built on all the same.
            Err(e) if e.is_denied() => vfs.open(&file.path, OpenMode::Read)?.sync_data()?,
            opened => opened?.sync_data()?,
        }
    }
    // A snapshot is whole before it has its name.
    for dir in [layout.log_dir(), layout.snapshot_dir()] {
        match vfs.sync_dir(dir) {
            Err(e) if e.is_not_found() => {}
            synced => synced?,
        }
    }
    Ok(bytes)
}

/// What there is of the log.
struct Logged {
    scan: LogScan,
    /// It was given away as it was read: it is not what the archive has.
    was_given: bool,
    /// The archive might have what is damaged, and cannot be looked at.
    unseen: Option<Rejected>,
}

/// The log above `after`, which `take` is given.
fn scan_log(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    after: Lsn,
    take: &mut dyn FnMut(Lsn, &[u8], bool),
) -> Result<Logged> {
    let known = find::known(manifest, after);
    let [log, archive] = find::log_dirs(layout, manifest);
    // REC-11: segments that the snapshot covers are not read.
    let from = LogScan::first_needed(vfs, &[log], after)?;
    let with_archive = |archive: LogDir<'_>| -> Result<LogScan> {
        let from = LogScan::first_needed(vfs, &[log, archive], after)?;
        Ok(LogScan::run(vfs, &[log, archive], manifest.database, known, from)?)
    };
    // What the log has given up is no part of it.
    let kept = LogDir { first: archive.first.max(log.first), ..archive };
    let own = match LogScan::run_through(vfs, log, manifest.database, known, from, take) {
        // CKP-10: where the archive has what is missed, another's file is in nobody's way.
        Err(e @ LogError::OtherDatabase { .. }) => {
            let scan = with_archive(kept).map_err(|why| {
                tracing::warn!(error = %why, "the archive does not help");
                e
            })?;
            return Ok(Logged { scan, was_given: false, unseen: None });
        }
        own => own?,
    };
    // REC-14: the archive is looked at only when a snapshot that is not valid makes older log needed again (REC-8), or it may have what is damaged.
    let covered = manifest.snapshots.last().map_or(0, |newest| newest.lsn);
    let reaches = match own.segments.first() {
        Some(first) => first.header.previous.last_lsn <= after,
        // The newest snapshot needs no archive, whatever became of the log.
        None => after >= Lsn(covered),
    };
    if !reaches {
        return Ok(Logged { scan: with_archive(archive)?, was_given: false, unseen: None });
    }
    let mut unseen = None;
    if let Tail::Corrupt { first_lost, .. } = &own.tail {
        // Where nothing of it is left, what it has given up is all there is.
        match with_archive(if own.segments.is_empty() { archive } else { kept }) {
            Ok(mended) if !matches!(&mended.tail, Tail::Corrupt { first_lost: lost, .. } if lost <= first_lost) =>
            {
                for loss in &mended.losses {
                    tracing::warn!(damage = %loss.damage, evidence = loss.evidence, "a segment is read from the archive");
                }
                return Ok(Logged { scan: mended, was_given: false, unseen: None });
            }
            Ok(_) => {}
            // REC-17: what is given up then may be there.
            Err(e) => {
                let (path, reason) = (layout.archive_dir().into(), e.to_string());
                unseen = Some(Rejected { path, reason, away: false });
            }
        }
    }
    Ok(Logged { scan: own, was_given: true, unseen })
}
