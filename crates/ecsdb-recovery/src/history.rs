//! The history that is retained: which moments can be gone back to, and the world as it was at one of them. Only reads.

use std::ops::ControlFlow;
use std::path::PathBuf;

use ecsdb_core::World;
use ecsdb_io::{Layout, Vfs};
use ecsdb_snapshot::{Manifest, SnapshotEntry};
use ecsdb_wal::{Known, LogError, LogScan, Lsn, Replay, SegmentHead, Tail, Transaction, segment_files};

use crate::error::{Error, Result};
use crate::find::listable_dirs;
use crate::moment::{Moment, range_text, unix_ns};
use crate::policy::Options;
use crate::replay::{Follow, Until, step};
use crate::report::{DataLoss, RecoveryReport, Step};
use crate::{find, replay};

/// What of a database's past is there. Whoever asks for a moment, by whatever it is named, or for transactions, reads them through one [`Replay`],
/// which goes over no loss (REC-16).
#[derive(Debug)]
pub struct History<'a> {
    vfs: &'a dyn Vfs,
    layout: &'a Layout,
    manifest: &'a Manifest,
    /// The log is whole above this, and begins at this time.
    logged_from: Lsn,
    logged_from_unix_ns: u64,
    /// The last transaction, and when it was written.
    last: (Lsn, u64),
    /// What is lost after that: from where on, and what is damaged.
    lost: Option<(Lsn, String)>,
    /// What a salvage that is not at its end gives up: from where on, and why.
    given_up: Option<(Lsn, String)>,
    /// What the log had synced, of a database that is open; of any other the manifest says it.
    durable: Option<Lsn>,
    /// What was written after the end of the log, if anything was.
    beyond: Option<String>,
    /// What comes after is not looked at: somebody may be writing it.
    end: Lsn,
}

/// The world as it was.
pub struct Reconstructed {
    /// The world.
    pub world: World,
    /// When its last transaction was written, in nanoseconds since 1970-01-01 UTC; 0 when it came from a snapshot.
    pub unix_ns: u64,
    /// From which snapshot and how many transactions.
    pub report: RecoveryReport,
}

/// The moment from which on the log is without a hole, up to its end or to a loss, which is a hole that no snapshot covers: that stands in the
/// headers, each of which names the segment before it (REC-16). O(segments).
fn logged_from(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<(Lsn, u64)> {
    let newest = manifest.snapshots.last().map_or((Lsn::ZERO, 0), |e| (Lsn(e.lsn), e.created_unix_ns));
    let mut from = newest;
    let mut before: Option<(u64, PathBuf)> = None;
    // Of a salvage that is not at its end: nothing was ever written into them.
    let attempts = find::given_up_after(manifest, from.0).map_or(u64::MAX, |_| manifest.salvaged_segments);
    for file in segment_files(vfs, &listable_dirs(vfs, layout, manifest))? {
        if file.number >= attempts {
            break;
        }
        // What is none of this log's is missed by the one after it.
        let Some(header) = SegmentHead::of(vfs, &file, manifest.database)?.own() else { continue };
        // What a salvage has lost is no part of the past: that begins with the snapshot that ended it.
        let salvaged = manifest.salvage == 0 && header.sequence == manifest.salvaged_segments;
        let follows = before.as_ref().is_some_and(|(number, _)| *number == header.previous.segment);
        if salvaged || !follows {
            if let Some((_, path)) = before.filter(|_| !salvaged && header.previous.last_lsn > newest.0) {
                // What comes after a loss is no part of any past. The newest snapshot is one, wherever the hole begins.
                let reaches = LogScan::file(vfs, &path)
                    .is_ok_and(|scan| !scan.not_given && scan.end.last_lsn >= newest.0);
                from = if reaches { from } else { newest };
                break;
            }
            let first = Lsn(header.first_lsn.0.saturating_sub(1));
            from = (if salvaged { first } else { header.previous.last_lsn }, header.created_unix_ns);
        }
        before = Some((header.sequence, file.path));
    }
    Ok(from)
}

/// The first moment that can be gone back to, of those from which the log leads on: the empty world's, or a snapshot's.
fn first_moment(manifest: &Manifest, (logged_from, unix_ns): (Lsn, u64)) -> Option<(Lsn, u64)> {
    let mut bases = manifest.snapshots.iter().filter(|entry| Lsn(entry.lsn) >= logged_from);
    match bases.next() {
        // A snapshot of it may be older than what is left of the log.
        Some(base) if base.lsn == 0 => Some((Lsn::ZERO, base.created_unix_ns.min(unix_ns))),
        _ if logged_from == Lsn::ZERO => Some((Lsn::ZERO, unix_ns)),
        Some(base) => Some((Lsn(base.lsn), base.created_unix_ns)),
        None => None,
    }
}

/// The first moment that can be gone back to, with its time in nanoseconds since 1970-01-01 UTC. From there on everything can that the log has.
/// `None` where there is neither a snapshot nor a beginning of the log. Reads headers. O(segments + snapshots).
///
/// # Errors
/// When a directory cannot be listed, or a file not be read for no fault of its own.
pub fn earliest(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Option<(Lsn, u64)>> {
    Ok(first_moment(manifest, logged_from(vfs, layout, manifest)?))
}

/// The LSNs that no transaction ever had, from where to where, in their order: between the last one before a segment and the first one in it, as its
/// header has them, an opening went on above all that it had seen. They are missing nowhere. Reads headers. O(segments).
///
/// # Errors
/// When a directory cannot be listed, or a file not be read for no fault of its own.
pub fn never_given(vfs: &dyn Vfs, layout: &Layout, manifest: &Manifest) -> Result<Vec<(Lsn, Lsn)>> {
    let mut found = Vec::new();
    for file in segment_files(vfs, &listable_dirs(vfs, layout, manifest))? {
        if let Some(header) = SegmentHead::of(vfs, &file, manifest.database)?.own() {
            let (first, last) = (header.previous.last_lsn.next(), Lsn(header.first_lsn.0.saturating_sub(1)));
            found.extend((first <= last).then_some((first, last)));
        }
    }
    Ok(found)
}

impl<'a> History<'a> {
    /// Looks at what there is of a database that is open, up to `durable`, which its log has synced. Nothing of it may be deleted meanwhile; the
    /// log may grow. O(bytes of log after the newest snapshot).
    ///
    /// # Errors
    /// When a file cannot be read. Damage is an error of [`History::reconstruct`], where it matters.
    pub fn read(
        vfs: &'a dyn Vfs,
        layout: &'a Layout,
        manifest: &'a Manifest,
        durable: Lsn,
    ) -> Result<History<'a>> {
        History::look(vfs, layout, manifest, Some(durable))
    }

    /// The same of a database that nobody has open, or whose manifest was [looked](crate::look) at before: its log ends no earlier than the manifest
    /// says.
    ///
    /// # Errors
    /// As [`History::read`].
    pub fn of_closed(vfs: &'a dyn Vfs, layout: &'a Layout, manifest: &'a Manifest) -> Result<History<'a>> {
        let mut history = History::look(vfs, layout, manifest, None)?;
        history.given_up = find::given_up(manifest).map(|lost| (lost.first, lost.why));
        if history.given_up.is_none() && history.lost.is_none() {
            let last = history.last.0;
            history.beyond = find::beyond(vfs, layout, manifest, last)?;
            history.lost = history.beyond.clone().map(|what| (last.next(), what));
        }
        Ok(history)
    }

    fn look(
        vfs: &'a dyn Vfs,
        layout: &'a Layout,
        manifest: &'a Manifest,
        durable: Option<Lsn>,
    ) -> Result<History<'a>> {
        let newest = manifest.snapshots.last().map_or((Lsn::ZERO, 0), |e| (Lsn(e.lsn), e.created_unix_ns));
        let (logged_from, logged_from_unix_ns) = logged_from(vfs, layout, manifest)?;
        let mut history = History {
            vfs,
            layout,
            manifest,
            logged_from,
            logged_from_unix_ns,
            last: newest,
            lost: None,
            given_up: None,
            durable,
            beyond: None,
            end: durable.unwrap_or(Until::END.lsn),
        };
        let scan = history.scan(newest.0)?;
        if let Tail::Corrupt { damage, first_lost, evidence, .. } = &scan.tail {
            history.lost = Some((newest.0.next().max(*first_lost), format!("{damage} ({evidence})")));
        }
        history.last = newest.max(last_of(&scan));
        Ok(history)
    }

    /// The log and the archive from the segment on that has what comes after `after`.
    pub(crate) fn scan(&self, after: Lsn) -> Result<LogScan> {
        let dirs = listable_dirs(self.vfs, self.layout, self.manifest);
        let from = LogScan::first_needed(self.vfs, &dirs, after)?;
        // Of what is known to have been durable, that counts which is not in what the log goes on from: a newer snapshot need not load.
        let known = match self.durable {
            Some(durable) => Known { after, durable, ..Known::default() },
            None => find::known(self.manifest, after),
        };
        let mut scan = LogScan::run(self.vfs, &dirs, self.manifest.database, known, from)?;
        if let Some(beyond) = &self.beyond
            && !matches!(scan.tail, Tail::Corrupt { .. })
        {
            scan.goes_on(self.layout.log_dir(), beyond.clone());
        }
        Ok(scan)
    }

    /// The first and the last moment, each with its time in nanoseconds since 1970-01-01 UTC; every transaction between them is
    /// there. `None` for a database that nothing was ever committed to.
    pub fn range(&self) -> Option<((Lsn, u64), (Lsn, u64))> {
        let first =
            first_moment(self.manifest, (self.logged_from, self.logged_from_unix_ns)).unwrap_or(self.last);
        (self.last.0 > Lsn::ZERO).then_some((first, self.last))
    }

    /// Builds the world as it was at `moment`: the newest snapshot before it, and the log from there. `follow` is told of each step, and may
    /// stop it. O(bytes).
    ///
    /// # Errors
    /// [`Error::OutOfRange`], which names what there is; [`Error::Cancelled`]; or when something that is needed is damaged.
    pub fn reconstruct(&self, moment: Moment, options: Options, follow: Follow<'_>) -> Result<Reconstructed> {
        let _span = tracing::info_span!("reconstruct", %moment).entered();
        let until = self.until(moment)?;
        let is_before =
            |entry: &&SnapshotEntry| Lsn(entry.lsn) <= until.lsn && entry.created_unix_ns <= until.unix_ns;
        let bases: Vec<SnapshotEntry> = self.manifest.snapshots.iter().filter(is_before).copied().collect();
        let Self { vfs, layout, manifest, .. } = *self;
        let mut report = RecoveryReport::default();
        let mut options = options;
        let mut world = replay::load(vfs, layout, manifest, &bases, &mut options, &mut report, follow)?;
        let base = world.lsn();
        step(follow, &Step::Verify)?;
        let scan = self.scan(base)?;
        report.segments = scan.segments.len();
        // What the log does not lead to from the base is not there. Where it has a hole behind the base, it leads as far as that.
        let begins = scan.segments.first().map(|first| first.header.previous.last_lsn);
        let leads = match begins {
            Some(begins) if begins > base => false,
            Some(_) => base >= self.logged_from || until.lsn <= scan.last_lsn,
            None => base >= self.logged_from,
        };
        // Nor is the empty world, where the log does not go back to it.
        let is_base = bases.iter().any(|entry| Lsn(entry.lsn) == base);
        if !leads && (until.lsn != base || !is_base) {
            return Err(match report.rejected.into_iter().next() {
                Some(first) => Error::NoBase { asked: moment.to_string(), what: first.reason },
                None if bases.is_empty() => self.unfounded(moment)?,
                // The log leads on from the newest snapshot, if nothing of it is lost.
                None if self.manifest.snapshots.last().is_some_and(|newest| Lsn(newest.lsn) == base) => {
                    self.gap(base, &scan)
                }
                None => self.out_of_range(moment),
            });
        }
        let from = bases.iter().find(|entry| Lsn(entry.lsn) == base);
        let from = (base, from.map_or(self.logged_from_unix_ns, |entry| entry.created_unix_ns));
        let unix_ns = replay::apply(vfs, &mut world, &scan, until, options.threads, &mut report, follow)
            .map_err(|e| self.lost_behind(e, base, &range_text(from, last_of(&scan).max(from))))?;
        // What was taken for lost when it was looked at first may have been given since, and be no more than this.
        if let Moment::Lsn(asked) = moment
            && asked > scan.last_lsn.max(base)
        {
            return Err(match report.rejected.into_iter().next() {
                Some(first) => Error::NoBase { asked: moment.to_string(), what: first.reason },
                None => self.out_of_range(moment),
            });
        }
        if let Tail::Torn { damage, .. } = &scan.tail
            && world.lsn() >= scan.last_lsn
        {
            report.tail = Some(damage.to_string());
            report.data_loss = DataLoss::Unacknowledged;
        }
        if options.register {
            world.register_linked()?;
        }
        report.last_lsn = world.lsn();
        report.entities = world.view().len() as u64;
        Ok(Reconstructed { world, unix_ns, report })
    }

    /// Calls back with each retained transaction above `after`, up to and with `to`, in their order: its number, when it was written, and its
    /// change set, until that breaks off. O(bytes of log).
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it comes to one that is lost: what comes after is called back with by another call, that begins after it. When a
    /// file cannot be read, or is no more what it was a moment ago.
    pub fn transactions(
        &self,
        after: Lsn,
        to: Lsn,
        mut each: impl FnMut(Transaction, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let scan = self.scan(after)?;
        let counts = self.given_up.as_ref().map_or(self.end, |(first, _)| Lsn(first.0.saturating_sub(1)));
        let mut replay = Replay::new(self.vfs, &scan, after, to.min(counts));
        let mut bytes = Vec::new();
        loop {
            let next = replay.next(&mut bytes).map_err(Error::from);
            let next = next.map_err(|e| {
                self.lost_behind(e, Lsn::ZERO, &format!("the log up to LSN {}", scan.last_lsn))
            })?;
            match next {
                Some(transaction) if each(transaction, &bytes).is_continue() => bytes.clear(),
                Some(_) => return Ok(()),
                None => return self.counts(to),
            }
        }
    }

    /// Above this the log is without a hole, up to its end, or to what is [lost](History::lost).
    pub fn logged_from(&self) -> Lsn {
        self.logged_from
    }

    /// The first transaction that is lost although it had been durable, and what is damaged there; `None` when nothing is.
    pub fn lost(&self) -> Option<(Lsn, &str)> {
        let lost = self.given_up.as_ref().or(self.lost.as_ref());
        lost.map(|(first, what)| (*first, &**what))
    }

    /// How far the log is to be read for a moment. What is lost on the way there, or may be, the replay says.
    fn until(&self, moment: Moment) -> Result<Until> {
        let until = Until { lsn: self.end, ..Until::END };
        if let Moment::Latest | Moment::Time(_) = moment {
            // What came last at that moment may be among it.
            self.counts(Lsn::MAX)?;
        }
        match moment {
            Moment::Latest => Ok(until),
            Moment::Lsn(lsn) if self.counts(lsn).is_err() => self.counts(lsn).map(|()| until),
            Moment::Lsn(lsn) if lsn <= self.last.0 || self.lost.is_some() => Ok(Until { lsn, ..until }),
            Moment::Time(time) => match self.range() {
                Some(((_, first), _)) if unix_ns(time) >= first => {
                    Ok(Until { unix_ns: unix_ns(time), ..until })
                }
                None if self.lost.is_some() => Ok(Until { unix_ns: unix_ns(time), ..until }),
                _ => Err(self.out_of_range(moment)),
            },
            Moment::Snapshot(number) => {
                let entry = self.manifest.snapshots.iter().find(|entry| entry.sequence == number);
                let entry = entry.ok_or_else(|| self.out_of_range(moment))?;
                Ok(Until { lsn: Lsn(entry.lsn), ..until })
            }
            Moment::Lsn(_) => Err(self.out_of_range(moment)),
        }
    }

    /// An error if LSN `to` is among what a salvage gives up.
    fn counts(&self, to: Lsn) -> Result<()> {
        match &self.given_up {
            Some((first, why)) if to >= *first => {
                let (what, dir) = (why.clone(), self.layout.log_dir().into());
                Err(Error::Corrupt { first_lost: first.0, what, shown: true, dir })
            }
            _ => Ok(()),
        }
    }

    /// The error for a loss that a replay from `base` on came to; `there` is what there is before it.
    fn lost_behind(&self, e: Error, base: Lsn, there: &str) -> Error {
        match e {
            Error::Log(LogError::Lost { first, damage, evidence, shown }) => {
                // What the base holds is not lost.
                let first = first.max(base.next());
                let what = format!("{damage} ({evidence}). Before that there is {there}");
                if damage.path.starts_with(self.layout.archive_dir()) {
                    let dir = self.layout.archive_dir().into();
                    return Error::ArchiveLost { first_lost: first.0, what, dir };
                }
                Error::Corrupt { first_lost: first.0, what, shown, dir: self.layout.log_dir().into() }
            }
            other => other,
        }
    }

    /// The error for a moment that there is neither a snapshot nor the beginning of a log for; where there is none for any, something is lost.
    fn unfounded(&self, moment: Moment) -> Result<Error> {
        if first_moment(self.manifest, (self.logged_from, self.logged_from_unix_ns)).is_some() {
            return Ok(self.out_of_range(moment));
        }
        let newest = self.manifest.snapshots.last().map_or(Lsn::ZERO, |entry| Lsn(entry.lsn));
        Ok(self.gap(newest, &self.scan(newest)?))
    }

    /// The error for a log that does not lead on from the newest snapshot.
    fn gap(&self, newest: Lsn, scan: &LogScan) -> Error {
        let first = scan.segments.first().map(|first| &first.header);
        let looked = find::gap(self.vfs, self.layout, self.manifest, first);
        let log_begins = first.map_or(self.logged_from.0, |first| first.previous.last_lsn.0);
        Error::Gap { snapshot: newest.0, log_begins, looked: looked + &self.unlisted() }
    }

    /// That the archive cannot be looked at, if that is so: what is missing may be there.
    fn unlisted(&self) -> String {
        find::unlisted_archive(self.vfs, self.layout)
            .map_or_else(String::new, |e| format!(". The archive is not looked at: {e}"))
    }

    fn out_of_range(&self, moment: Moment) -> Error {
        let mut there = match self.range() {
            Some((first, last)) => range_text(first, last),
            None => "nothing was ever committed".into(),
        };
        if matches!(moment, Moment::Snapshot(_)) {
            let numbers: Vec<String> =
                self.manifest.snapshots.iter().map(|entry| entry.sequence.to_string()).collect();
            there = match &numbers[..] {
                [] => "there are no snapshots".into(),
                [one] => format!("the snapshot {one}"),
                more => format!("the snapshots {}", more.join(", ")),
            };
        }
        Error::OutOfRange { asked: moment.to_string(), there: there + &self.unlisted() }
    }
}

/// The last transaction of a log before its tail, and when it was written.
fn last_of(scan: &LogScan) -> (Lsn, u64) {
    scan.whole().last().map_or((Lsn::ZERO, 0), |last| (scan.last_lsn, last.last_unix_ns))
}
