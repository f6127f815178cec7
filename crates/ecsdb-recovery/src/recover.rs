//! The order of things at opening.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use ecsdb_core::{Unreadable, World};
use ecsdb_io::sync::Instant;
use ecsdb_io::{
    DirLock, FileKind, FileOp, IoError, Layout, Vfs, create_dir_durably, next_free_number, numbered_files,
    replace,
};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, LogStart, Lsn, SegmentEnd, SegmentHeader, Tail};

use crate::archived::lacks_manifest;
use crate::claim::mark;
use crate::error::{Error, Result};
use crate::look::{goes_on_from_newer, look, replay_log};
use crate::policy::{Existence, Options, Policy};
use crate::present::check_existence;
use crate::report::{ClosedComponent, DataLoss, RecoveryReport, Step, is_report};
use crate::taken::Taken;
use crate::{aside, find, repair};

/// Numbers of files that there must be for an opening: more than any will ever use.
const NUMBERS_MIN: u64 = 1 << 40;
/// Reports kept in the report directory.
const REPORTS_KEPT: usize = 8;

/// An opened database. The log is started next, and then the opening [completed](Recovered::complete).
#[must_use = "nothing may be committed before the opening is completed"]
pub struct Recovered {
    /// The world, as of the last whole transaction.
    pub world: World,
    /// The manifest, with this opening's incarnation; published by [`Recovered::complete`].
    pub manifest: Manifest,
    /// Where the log goes on.
    pub log_start: LogStart,
    /// The locks on the directories; held as long as the database is open.
    pub locks: Vec<Arc<dyn DirLock>>,
    /// What was found and done.
    pub report: RecoveryReport,
    /// Segments that hold nothing that counts.
    unused: Vec<PathBuf>,
    /// Files of snapshots that did not load.
    damaged: Vec<PathBuf>,
    /// The last segment, if it is longer than what counts of it.
    cut: Option<repair::Cut>,
    taken: Taken,
}

/// Opens the database that lies in `layout`, or makes a new one.
///
/// # Errors
/// When the directory is locked, a file operation fails, or the damage is more than the policy allows. What was found is not changed
/// then, but for leftovers of interrupted operations; in directories in which there was nothing of a database there is nothing of this one.
pub fn recover(
    vfs: &Arc<dyn Vfs>,
    layout: &Layout,
    options: Options,
    progress: &mut dyn FnMut(&Step),
) -> Result<Recovered> {
    let mut taken = Taken::new(vfs.clone());
    let vfs = &**vfs;
    let _span = tracing::info_span!("recover", dir = %layout.root().display()).entered();
    let mut report = RecoveryReport::default();
    let mut clock = Clock::new();
    check_existence(vfs, layout, options.existence)?;
    if vfs.file_len(layout.root())?.is_none() {
        // What refuses a new one is found before its directory is made.
        let new = find::manifest(vfs, layout, options.policy, &mut RecoveryReport::default())?;
        check_others(vfs, layout, &new)?;
    }
    taken.lock(layout.root())?;
    // Somebody else may have made one meanwhile.
    if options.existence == Existence::Refused {
        check_existence(vfs, layout, options.existence)?;
    }
    progress(&Step::Manifest);
    let mut follow = |step: &Step| {
        progress(step);
        // An opening comes to its end.
        ControlFlow::Continue(())
    };
    let mut manifest = find::manifest(vfs, layout, options.policy, &mut report)?;
    // A new one, or a copy. Of one that had a manifest nothing of that is known any more.
    let is_first = manifest.incarnation == 0 && report.data_loss == DataLoss::None;
    check_others(vfs, layout, &manifest)?;
    clock.lap("manifest", &mut report);

    let wanted = options.register;
    let mut options = options;
    let before = report.clone();
    let mut found = look(vfs, layout, &manifest, &mut options, &mut report, &mut clock, &mut follow)?;
    if !report.lost.is_empty() && manifest.salvage == 0 {
        let mut newer = find::newer_snapshots(vfs, layout, &manifest)?;
        newer.retain(|entry| entry.lsn > found.whole.lsn.0);
        if !newer.is_empty() {
            let mut with = manifest.clone();
            with.snapshots.extend(newer);
            // For one of them the log may have been let go, up to behind the segment that the manifest knows.
            with.log_mark = (0, 0);
            let mut said = before;
            let other = look(vfs, layout, &with, &mut options, &mut said, &mut clock, &mut follow)?;
            if goes_on_from_newer(vfs, layout, &manifest, &other, &mut said)? {
                (manifest, report, found) = (with, said, other);
            }
        }
    }
    // REC-17: what a salvage gave up, if it is still to be gone on from.
    let resumes = find::given_up_after(&manifest, found.snapshot);
    let (mut world, mut scan) =
        replay_log(vfs, layout, &manifest, found, &mut options, &mut report, &mut follow)?;
    if wanted {
        for Unreadable { component, why } in world.register_linked()? {
            tracing::warn!(
                component,
                why,
                "a stored value cannot be read; its component is closed, its bytes are kept"
            );
            report.closed.push(ClosedComponent { component, why });
        }
    }
    clock.lap("replay", &mut report);
    let loses = !report.lost.is_empty();
    // What leads to this world is not the log that there is.
    let broken = loses || resumes.is_some();
    if let Some(given_up) = find::given_up(&manifest) {
        report.lost.insert(0, given_up);
        report.data_loss = DataLoss::Acknowledged;
    }

    // REC-15: from here on things are changed; all before only read, and can be done again.
    progress(&Step::Repair);
    if !scan.seen_lsn.is_reachable() {
        return Err(Error::NumbersUsedUp { dir: layout.log_dir().into(), highest: scan.seen_lsn.0 });
    }
    manifest.incarnation = manifest.incarnation.max(scan.incarnation) + 1;
    // Before a manifest says that there is a database.
    for dir in [layout.log_dir(), layout.snapshot_dir()] {
        taken.lock_there(dir)?;
    }
    if is_first && !broken {
        // Files without any manifest would look like one that was lost, and directories would belong to nobody. REC-13: whichever of the two manifests
        // of an opening is damaged, the other one says that there was one.
        manifest.publish(vfs, layout)?;
    }
    for dir in [layout.log_dir(), layout.snapshot_dir()] {
        taken.claim(layout, dir, manifest.database)?;
    }
    let locks = taken.locks([layout.root(), layout.log_dir(), layout.snapshot_dir()]);
    repair::remove_temporaries(vfs, layout, &mut report)?;
    repair::rewrite_end(vfs, layout, &scan)?;
    repair::set_tail_aside(vfs, layout, &scan, &mut report)?;
    let begins_salvage = loses && manifest.salvage == 0;
    if begins_salvage {
        // Of what comes after a loss nothing counts, and all of it is kept, with what came before.
        manifest.salvage = aside::free_salvage(vfs, layout, manifest.incarnation)?;
        aside::keep_manifests(vfs, layout, manifest.salvage, &mut report)?;
    }
    let damaged = repair::take_off_the_list(vfs, layout, &mut manifest, &mut report)?;
    if options.policy == Policy::Salvage && manifest.snapshots.is_empty() {
        // CKP-11: so somebody says that those which are away are gone for good, and others may be taken in their place. What comes back all the
        // same is set aside.
        manifest.away.clear();
        report.rejected.iter_mut().for_each(|rejected| rejected.away = false);
    }
    // WAL-7, REC-7: above everything ever seen, in any source.
    let mut seen = scan.seen_lsn.max(world.lsn()).0.max(manifest.durable_lsn).max(manifest.seen_lsn);
    if broken {
        // REC-17: the snapshot that ends the salvage is another one than what it goes on from, which is set aside.
        seen = seen.max(world.lsn().0 + 1);
    }
    report.last_lsn = world.lsn();
    report.entities = world.view().len() as u64;
    world.advance_lsn(Lsn(seen));
    let free = |kind| next_free_number(vfs, layout.dir_of(kind), kind);
    manifest.next_snapshot = manifest.next_snapshot.max(free(FileKind::Snapshot)?);
    manifest.generation = manifest.generation.max(free(FileKind::Manifest)?.saturating_sub(1));
    // REC-7: the number of a segment that the manifest vouches for is not given again.
    let may_go = |last: &SegmentHeader| manifest.salvage == 0 && last.sequence != manifest.log_mark.0;
    let mut empty = replaceable(layout, &scan).filter(may_go);
    if let Some(last) = empty {
        // What was prepared behind it would stand where the log is to go on. CKP-10: what is another's stays, and the log goes on behind it.
        repair::remove_unused(vfs, layout, &std::mem::take(&mut scan.unused), &mut report)?;
        if free(FileKind::Segment)? > last.sequence + 1 {
            empty = None;
        }
    }
    let segment = match empty {
        Some(empty) => empty.sequence,
        None => manifest.next_segment.max(scan.last_file + 1).max(free(FileKind::Segment)?),
    };
    let highest = manifest.next_snapshot.max(manifest.generation).max(segment);
    if highest > FileKind::NUMBER_MAX - NUMBERS_MIN {
        return Err(Error::NumbersUsedUp { dir: layout.root().into(), highest });
    }
    manifest.next_segment = manifest.next_segment.max(segment + 1);
    if loses || scan.lacks_marked {
        // REC-13: nothing followed it, and what follows from here on is not to be missed for it.
        manifest.log_mark = (0, 0);
    }
    if begins_salvage {
        // Those from here on are of its attempts.
        manifest.salvaged_segments = segment;
    }
    // What was replayed was synced above (REC-4). What was merely seen beyond a torn tail was never durable. Until a salvage is at its end, this
    // says where what it has given up begins.
    if broken || manifest.salvage == 0 {
        manifest.durable_lsn = report.last_lsn.0;
    }
    manifest.seen_lsn = seen;
    report.incarnation = manifest.incarnation;
    clock.lap("repair", &mut report);
    let previous = match (empty, scan.segments.last()) {
        // REC-13: a salvage's log follows from nothing but the snapshot that ends it. A segment that is damaged would have an end by its word.
        _ if broken => SegmentEnd { last_lsn: Lsn(seen), ..SegmentEnd::default() },
        // Without a log there is a past all the same, of which this one knows nothing.
        (None, None) => SegmentEnd { last_lsn: report.last_lsn, ..SegmentEnd::default() },
        (Some(empty), _) => empty.previous,
        (None, Some(last)) => last.end,
    };
    // REC-8: a log that ends before the snapshot, since it is damaged where the snapshot covers it, is no way to this world. Should the
    // snapshot be lost, too, the hole is seen by this.
    // LSNs between the end of a segment and the beginning of the next one were never anything, and a snapshot may have one of them.
    let reaches = scan.segments.last().map_or(0, |last| last.header.first_lsn.0.saturating_sub(1));
    let is_short = report.last_lsn > previous.last_lsn.max(Lsn(reaches));
    let last_lsn = if is_short { report.last_lsn } else { previous.last_lsn };
    let previous = SegmentEnd { last_lsn, ..previous };
    // IO-2: the log's times go on after all that were ever said.
    let stamps = scan.segments.iter().map(|segment| segment.last_unix_ns);
    let last_unix_ns =
        stamps.chain(manifest.snapshots.iter().map(|entry| entry.created_unix_ns)).max().unwrap_or(0);
    let log_start = LogStart {
        lock: locks.get(1).map(Arc::downgrade),
        database: manifest.database,
        incarnation: manifest.incarnation,
        segment,
        lsn: Lsn(seen + 1),
        previous,
        last_unix_ns,
    };
    // After a loss the files stay what they are, and one that is replaced needs no cutting.
    let cut = if report.lost.is_empty() && empty.is_none() { repair::cut(layout, &scan) } else { None };
    if broken {
        // REC-5, REC-17: first it is noted what is given up, and from where on the salvage goes on. Whatever it is interrupted by, that is known.
        manifest.publish(vfs, layout)?;
    }
    Ok(Recovered { world, manifest, log_start, locks, report, unused: scan.unused, damaged, cut, taken })
}

impl Recovered {
    /// Publishes the manifest of this opening, removes what nothing needs, and writes the report. The log's first segment is
    /// there before: a segment that the manifest knows of is never missing but by damage.
    ///
    /// # Errors
    /// When a file operation fails. The database can be opened again as if this opening had not been.
    pub fn complete(
        &mut self,
        vfs: &dyn Vfs,
        layout: &Layout,
        progress: &mut dyn FnMut(&Step),
    ) -> Result<()> {
        let mut clock = Clock::new();
        let Recovered { manifest, report, .. } = self;
        manifest.publish(vfs, layout)?;
        if let Some(cut) = &self.cut {
            repair::cut_to_end(vfs, cut)?;
        }
        // The copy was finished after all: its manifest is the last thing that is written. REC-14: beside one the mark says nothing.
        if let Err(e) = remove_mark(vfs, layout) {
            tracing::warn!(error = %e, "a mark of a copy stays");
        }
        for path in &self.damaged {
            report.set_aside.push(aside::move_aside(vfs, layout, path)?);
        }
        if manifest.salvage == 0 {
            repair::remove_unused(vfs, layout, &self.unused, report)?;
            repair::remove_orphans(vfs, layout, manifest, report)?;
        }
        repair::set_manifests_aside(vfs, layout, manifest, report)?;
        if lacks_manifest(vfs, layout, manifest)? {
            // REC-13: whichever of the two is damaged one day, the other one is there.
            manifest.publish(vfs, layout)?;
        }
        self.taken.keep();
        clock.lap("publish", report);
        // REC-14: the database does not need it.
        if let Err(e) = write_report(vfs, layout, report) {
            tracing::warn!(error = %e, "the recovery report could not be written");
        }
        tracing::info!("{report}");
        progress(&Step::Done);
        Ok(())
    }
}

/// Refuses a database with a directory that is another one's.
fn check_others(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<()> {
    [layout.log_dir(), layout.snapshot_dir()]
        .into_iter()
        .try_for_each(|dir| mark(vfs, layout, dir, manifest.database).map(drop))
}

/// The header of the log's last segment, if nothing was ever written into it. A session that wrote nothing leaves no segment behind (IO-1):
/// the next one takes its place, under its number, in one rename. Whichever of the two is there, the log is whole.
fn replaceable(layout: &Layout, scan: &LogScan) -> Option<SegmentHeader> {
    let last = scan.segments.last().filter(|_| scan.tail == Tail::Clean)?;
    let is_empty = last.end.last_lsn < last.header.first_lsn;
    (is_empty && last.path.parent() == Some(layout.log_dir())).then_some(last.header)
}

/// The mark is empty: what has anything in it is somebody's (CKP-10).
fn remove_mark(vfs: &dyn Vfs, layout: &Layout) -> Result<(), IoError> {
    let mark = layout.unfinished_file();
    match vfs.file_len(&mark)? {
        Some(0) => vfs.remove(&mark),
        _ => Ok(()),
    }
}

fn write_report(vfs: &dyn Vfs, layout: &Layout, report: &RecoveryReport) -> Result<(), IoError> {
    create_dir_durably(vfs, layout.report_dir())?;
    let path = layout.file(FileKind::Report, report.incarnation);
    if vfs.file_len(&path)?.is_some() && !is_report(vfs, &path)? {
        let what = "it has the name of a report, and is somebody's";
        return Err(IoError::new(FileOp::Create, &path, std::io::Error::other(what)));
    }
    let mut text = format!("{report}\n");
    for (step, time) in &report.timings {
        text += &format!("  {step}: {:.3} ms\n", time.as_secs_f64() * 1000.0);
    }
    replace(vfs, &path, |file| file.write_at(text.as_bytes(), 0))?;
    let mut reports = numbered_files(vfs, layout.report_dir(), &[FileKind::Report])?;
    reports.retain(|file| is_report(vfs, &file.path).unwrap_or(false));
    reports.truncate(reports.len().saturating_sub(REPORTS_KEPT));
    reports.into_iter().try_for_each(|old| vfs.remove(&old.path))
}

/// Times the steps.
pub(crate) struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Clock(Instant::now())
    }

    pub(crate) fn lap(&mut self, step: &'static str, report: &mut RecoveryReport) {
        report.timings.push((step, self.0.elapsed()));
        self.0 = Instant::now();
    }
}
