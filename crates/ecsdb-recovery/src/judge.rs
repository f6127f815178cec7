//! How far the log counts: what of it may be used as it is, what a salvage gives up of it, and what is an error (REC-2).

use ecsdb_io::{Layout, Vfs};
use ecsdb_snapshot::Manifest;
use ecsdb_wal::{LogScan, Lsn, SegmentHeader, Tail};

use crate::error::{Error, Result, gap_text};
use crate::find;
use crate::policy::Policy;
use crate::replay::Until;
use crate::report::{DataLoss, Lost, RecoveryReport};

/// Judges the log of a database.
pub(crate) struct Judge<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) layout: &'a Layout,
    pub(crate) manifest: &'a Manifest,
    pub(crate) policy: Policy,
}

impl Judge<'_> {
    /// Decides up to where the log counts, and whether anything is known to have been there beyond it.
    pub(crate) fn log(&self, scan: &LogScan, snapshot: Lsn, report: &mut RecoveryReport) -> Result<Until> {
        report.segments = scan.segments.len();
        report.log_bytes = scan.segments.iter().map(|segment| segment.end.offset).sum();
        let whole = self.known(scan, snapshot, report)?;
        let ends = scan.last_lsn.max(snapshot);
        if report.lost.is_empty()
            && let Some(beyond) = find::beyond(self.vfs, self.layout, self.manifest, scan.seen_lsn.max(ends))?
        {
            let (first, dir) = (ends.next(), self.layout.log_dir().into());
            let error = Error::Corrupt { first_lost: first.0, what: beyond, shown: true, dir };
            return self.lost(scan, first, error, report);
        }
        Ok(whole)
    }

    /// Decides up to where what was found is whole: what comes after a loss was made for another state than the one before it.
    fn known(&self, scan: &LogScan, snapshot: Lsn, report: &mut RecoveryReport) -> Result<Until> {
        let Self { layout, manifest, policy, .. } = *self;
        let given_up = find::given_up_after(manifest, snapshot);
        let is_given_up = |first: Lsn| given_up.is_some_and(|after| first > after);
        if let Some(first) = scan.segments.first()
            && first.header.previous.last_lsn > snapshot
            && !is_given_up(snapshot.next())
        {
            let (snapshot, log_begins) = (snapshot.0, first.header.previous.last_lsn.0);
            let gap = Error::Gap { snapshot, log_begins, looked: self.looked(&first.header, report) };
            return self.lost(scan, Lsn(snapshot + 1), gap, report);
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
                let rejected = self.rejected_snapshots(report);
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
                self.lost(scan, first, error, report)
            }
        }
    }

    /// Which snapshots were not to be had, and where, or which segment before the `first`.
    fn looked(&self, first: &SegmentHeader, report: &RecoveryReport) -> String {
        let gap = || find::gap(self.vfs, self.layout, self.manifest, Some(first));
        self.rejected_snapshots(report).unwrap_or_else(gap)
    }

    /// Which snapshots did not load, if any, in words.
    fn rejected_snapshots(&self, report: &RecoveryReport) -> Option<String> {
        let dir = self.layout.snapshot_dir();
        let of_snapshots = report.rejected.iter().filter(|rejected| rejected.path.parent() == Some(dir));
        let reasons: Vec<&str> = of_snapshots.map(|rejected| rejected.reason.as_str()).collect();
        let hint = "a directory that is wrong or not mounted looks the same as one that was emptied";
        let told =
            || format!("Snapshots were looked for in {} ({hint}): {}", dir.display(), reasons.join("; "));
        (!reasons.is_empty()).then(told)
    }

    /// Everything from `first` on is lost: an error, but for a salvage, which goes on with what was before.
    fn lost(&self, scan: &LogScan, first: Lsn, error: Error, report: &mut RecoveryReport) -> Result<Until> {
        if self.policy != Policy::Salvage {
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
}
