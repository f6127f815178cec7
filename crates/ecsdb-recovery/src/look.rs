//! What there is to open: the newest snapshot that loads, the log above it, and how far that counts.

use ecsdb_core::World;
use ecsdb_io::{FileKind, IoError, Layout, OpenMode, Vfs, numbered_files};
use ecsdb_snapshot::{Manifest, Snapshot};
use ecsdb_wal::{Known, LogDir, LogScan, Lsn, Replay, SegmentHeader, Tail};

use crate::error::{Error, Result, gap_text};
use crate::policy::{Options, Policy};
use crate::recover::Clock;
use crate::replay::{Follow, Until, step};
use crate::report::{DataLoss, LoadedSnapshot, Lost, RecoveryReport, Step};
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
    let before = report.clone();
    let mut world = load(vfs, layout, manifest, options, report, follow)?;
    clock.lap("snapshot", report);
    step(follow, &Step::Verify)?;
    let bytes = sync_log(vfs, layout, manifest)?;
    step(follow, &Step::Replay { done: 0, total: bytes })?;
    let snapshot = world.lsn();
    let (scan, applied) =
        replay::apply_while_verifying(&mut world, bytes, options.threads, report, follow, |take| {
            scan_log(vfs, layout, manifest, snapshot, take)
        });
    let (scan, was_given) = scan?;
    if was_given && applied.is_ok() && find::given_up_after(manifest, snapshot).is_none() {
        // What is wrong may be so once: of a loss is told, or it is given up, what is found again.
        let judged = judge_all(vfs, layout, manifest, &scan, snapshot, options.policy, report);
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
        let (scan, _) = scan_log(vfs, layout, manifest, snapshot, &mut |_, _, _| {})?;
        let whole = judge_all(vfs, layout, manifest, &scan, snapshot, options.policy, report)?;
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

/// Decides up to where the log counts, and whether anything is known to have been there beyond it.
fn judge_all(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    scan: &LogScan,
    snapshot: Lsn,
    policy: Policy,
    report: &mut RecoveryReport,
) -> Result<Until> {
    report.segments = scan.segments.len();
    report.log_bytes = scan.segments.iter().map(|segment| segment.end.offset).sum();
    let whole = judge(vfs, layout, manifest, scan, snapshot, policy, report)?;
    let ends = scan.last_lsn.max(snapshot);
    if report.lost.is_empty()
        && let Some(beyond) = find::beyond(vfs, layout, manifest, scan.seen_lsn.max(ends))?
    {
        let (first, dir) = (ends.next(), layout.log_dir().into());
        let error = Error::Corrupt { first_lost: first.0, what: beyond, shown: true, dir };
        return lost(scan, first, error, policy, report);
    }
    Ok(whole)
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

/// Decides whether the log may be used as it is (REC-2), and up to where it is whole: what comes after a loss was made for another
/// state than the one before it.
fn judge(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    scan: &LogScan,
    snapshot: Lsn,
    policy: Policy,
    report: &mut RecoveryReport,
) -> Result<Until> {
    let given_up = find::given_up_after(manifest, snapshot);
    let is_given_up = |first: Lsn| given_up.is_some_and(|after| first > after);
    if let Some(first) = scan.segments.first()
        && first.header.previous.last_lsn > snapshot
        && !is_given_up(snapshot.next())
    {
        let (snapshot, log_begins) = (snapshot.0, first.header.previous.last_lsn.0);
        let gap =
            Error::Gap { snapshot, log_begins, looked: looked(vfs, layout, manifest, &first.header, report) };
        return lost(scan, Lsn(snapshot + 1), gap, policy, report);
    }
    if let Some(what) = find::ends_short(manifest, scan, snapshot) {
        if policy == Policy::Strict {
            return Err(Error::Strict { what });
        }
        report.data_loss = report.data_loss.max(DataLoss::Possible);
        report.tail = Some(what);
    }
    match &scan.tail {
        Tail::Clean => Ok(Until::END),
        Tail::Torn { .. } => {
            report.data_loss = report.data_loss.max(DataLoss::Unacknowledged);
            Ok(Until::END)
        }
        Tail::Corrupt { damage, first_lost, evidence, shown } => {
            let (what, dir) = (format!("{damage} ({evidence})"), layout.log_dir().into());
            // What the snapshot holds is not lost.
            let first = snapshot.next().max(*first_lost);
            if is_given_up(first) {
                return Ok(Until::END);
            }
            // What a snapshot has that did not load is lost by that, and not by the log.
            let rejected = rejected_snapshots(layout, report);
            let newest = manifest.snapshots.last().map_or(0, |entry| entry.lsn);
            let error = match rejected {
                Some(looked) if scan.segments.is_empty() => {
                    Error::Gap { snapshot: snapshot.0, log_begins: newest, looked }
                }
                Some(looked) if first.0 <= newest => {
                    let what = format!("{what}. {looked}");
                    Error::Corrupt { first_lost: first.0, what, shown: *shown, dir }
                }
                _ => Error::Corrupt { first_lost: first.0, what, shown: *shown, dir },
            };
            lost(scan, first, error, policy, report)
        }
    }
}

/// Which snapshots were not to be had, and where, or which segment before the `first`.
fn looked(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    first: &SegmentHeader,
    report: &RecoveryReport,
) -> String {
    rejected_snapshots(layout, report).unwrap_or_else(|| find::gap(vfs, layout, manifest, Some(first)))
}

/// Which snapshots did not load, if any, in words.
fn rejected_snapshots(layout: &Layout, report: &RecoveryReport) -> Option<String> {
    let dir = layout.snapshot_dir();
    let of_snapshots = report.rejected.iter().filter(|rejected| rejected.path.parent() == Some(dir));
    let reasons: Vec<&str> = of_snapshots.map(|rejected| rejected.reason.as_str()).collect();
    let hint = "a directory that is wrong or not mounted looks the same as one that was emptied";
    let told = || format!("Snapshots were looked for in {} ({hint}): {}", dir.display(), reasons.join("; "));
    (!reasons.is_empty()).then(told)
}

/// Everything from `first` on is lost: an error, but for a salvage, which goes on with what was before.
fn lost(
    scan: &LogScan,
    first: Lsn,
    error: Error,
    policy: Policy,
    report: &mut RecoveryReport,
) -> Result<Until> {
    if policy != Policy::Salvage {
        return Err(error);
    }
    let last = (scan.seen_lsn >= first).then_some(scan.seen_lsn);
    let why = match error {
        Error::Corrupt { what, shown: true, .. } => what,
        Error::Corrupt { what, .. } => format!("{what}; nothing shows that it had transactions"),
        Error::Gap { snapshot, log_begins, looked } => gap_text(snapshot, log_begins, &looked),
        other => other.to_string(),
    };
    report.lost.push(Lost { first, last, why });
    report.data_loss = DataLoss::Acknowledged;
    Ok(Until { lsn: Lsn(first.0 - 1), ..Until::END })
}

/// REC-4: a process that crashed leaves written pages which only the operating system has. What recovery builds on must be
/// on stable storage first. Gives how many bytes that is at most.
fn sync_log(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<u64, IoError> {
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
    match vfs.sync_dir(layout.log_dir()) {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(bytes),
    }
}

/// The log above `after`. Also says whether `take` was given it: it is not what the archive has.
fn scan_log(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    after: Lsn,
    take: &mut dyn FnMut(Lsn, &[u8], bool),
) -> Result<(LogScan, bool)> {
    let known = find::known(manifest, after);
    let all = find::log_dirs(layout, manifest);
    let scan = |dirs: &[LogDir<'_>], take: &mut dyn FnMut(Lsn, &[u8], bool)| -> Result<LogScan> {
        // REC-11: segments that the snapshot covers are not read.
        let from = LogScan::first_needed(vfs, dirs, after)?;
        Ok(LogScan::run_through(vfs, dirs, manifest.database, known, from, take)?)
    };
    // REC-14: the archive is looked at only when a snapshot that is not valid makes older log needed again (REC-8).
    let own = scan(&all[..1], take)?;
    let covered = manifest.snapshots.last().map_or(0, |newest| newest.lsn);
    let reaches = match own.segments.first() {
        Some(first) => first.header.previous.last_lsn <= after,
        // The newest snapshot needs no archive, whatever became of the log.
        None => after >= Lsn(covered),
    };
    if reaches { Ok((own, true)) } else { Ok((scan(&all, &mut |_, _, _| {})?, false)) }
}
