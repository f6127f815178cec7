//! Opening a database for changing it: what would refuse it, and what the opening did beside what was asked for. Every command says that, so that
//! nothing is lost, cut or set aside without a word.

use anyhow::{Context, Result};
use ecsdb::{DataLoss, Database, Policy, RecoveryError, RecoveryReport};
use ecsdb_compactor::Error as StoreError;
use ecsdb_io::{Disk, FileKind, Layout, LockKind, lock_there, numbered_files};
use ecsdb_recovery::{look, mark};
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::place::Settled;
use crate::{failure, output, target};

/// What an opening did, or in a dry run would do.
pub(crate) struct Opening {
    report: RecoveryReport,
    is_done: bool,
}

impl Settled {
    /// Opens it for changing it by the policy of its settings, and says what that did.
    pub(crate) fn open(&self) -> Result<(Database, Opening)> {
        if self.config.recovery.policy != Policy::Salvage {
            self.check_snapshots()?;
        }
        let db = self.open_by(self.config.recovery.policy)?;
        let opening = self.opening(&db)?;
        opening.warn();
        Ok((db, opening))
    }

    /// What the opening of the database did.
    pub(crate) fn opening(&self, db: &Database) -> Result<Opening> {
        let report = db.recovery_report().context("the report of the recovery")?.clone();
        Ok(Opening { report, is_done: !self.is_dry })
    }

    /// Opens it for changing it, with nothing running by itself, showing the steps. What that did is the caller's to say.
    pub(crate) fn open_by(&self, policy: Policy) -> Result<Database> {
        self.check_opening()?;
        let bar = output::spinner();
        let steps = bar.clone();
        let builder = self.builder().policy(policy);
        // One that has lost its manifests is there, too: a repair may open it.
        let opened = builder.progress(move |step| steps.set_message(step.to_string())).open_existing();
        bar.finish_and_clear();
        Ok(opened?)
    }

    /// Refuses a directory of snapshots that is the wrong one, or not mounted: it opens without any, and would take the directory for its own before
    /// it refuses to write one there.
    fn check_snapshots(&self) -> Result<()> {
        let layout = self.layout()?;
        let dir = layout.snapshot_dir();
        let has_some =
            look(self.vfs(), &layout).is_ok_and(|it| !it.snapshots.is_empty() || !it.away.is_empty());
        if has_some && numbered_files(self.vfs(), dir, &[FileKind::Snapshot])?.is_empty() {
            return Err(StoreError::SnapshotsAway(dir.into()).into());
        }
        Ok(())
    }

    /// Refuses what an opening for changing would be refused for before it reads anything: somebody has it open, a directory is another's, or
    /// nothing can be written there. A dry run asks the same. Nothing is written.
    pub(crate) fn check_opening(&self) -> Result<()> {
        let layout = self.layout()?;
        // The lock is tried for a moment, on the file that is there: where none is, nobody has it.
        lock_there(&Layout::lock_file(layout.root()), LockKind::Exclusive, "")
            .map_err(RecoveryError::from)?;
        match look(&Disk, &layout) {
            Ok(manifest) => {
                for dir in [layout.log_dir(), layout.snapshot_dir()] {
                    mark(&Disk, &layout, dir, manifest.database)?;
                }
            }
            Err(e @ RecoveryError::ForeignDirectory { .. }) => return Err(e.into()),
            // A repair may open it.
            Err(_) => {}
        }
        // What it has is looked at once the database is open, by which that has changed.
        drop(numbered_files(&Disk, layout.archive_dir(), &[])?);
        [layout.root(), layout.log_dir()].into_iter().try_for_each(target::can_write)
    }
}

impl Opening {
    pub(crate) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Says it on standard error.
    pub(crate) fn warn(&self) {
        let Opening { report, is_done } = self;
        let is_done = *is_done;
        let is = if is_done { "is" } else { "would be" };
        let are = |n: u64| if is_done && n != 1 { "are" } else { is };
        for lost in &report.lost {
            failure::warn(&format!("what had been acknowledged {is} lost: {}", lsns(lost)));
        }
        if report.data_loss == DataLoss::Possible {
            failure::warn("what came last may be lost: nothing shows that the log went no further");
        }
        if let Some(tail) = &report.tail {
            let cut = match report.cut_bytes {
                0 => format!("the end of the log {is} cut"),
                bytes => format!(
                    "{} {} cut off the end of the log",
                    output::many(bytes, "byte", "bytes"),
                    are(bytes)
                ),
            };
            failure::warn(&format!("{cut}: {tail}"));
        }
        if let Some(lsn) = report.rolled_back {
            failure::warn(&format!("the incomplete transaction {lsn}, never acknowledged, {is} rolled back"));
        }
        for rejected in &report.rejected {
            let back = if rejected.away { " (once it is back, it counts again)" } else { "" };
            let (path, reason) = (rejected.path.display(), &rejected.reason);
            failure::warn(&format!("{path} {is} passed over: {reason}{back}"));
        }
        for path in &report.unlisted {
            let path = path.display();
            failure::warn(&format!("{path} {is} taken in, which the manifest is older than"));
        }
        for path in &report.strangers {
            let path = path.display();
            failure::warn(&format!("{path} is another database's, and {is} left alone: move it elsewhere"));
        }
        if !report.set_aside.is_empty() {
            let paths: Vec<_> = report.set_aside.iter().map(|path| path.display().to_string()).collect();
            failure::warn(&format!("{} {} set aside", paths.join(", "), are(paths.len() as u64)));
        }
    }

    pub(crate) fn json(&self) -> Result<Json> {
        let report = serde_json::to_value(&self.report)?;
        Ok(json!({
            "data_loss": report["data_loss"], "lost": report["lost"], "passed_over": report["rejected"],
            "unlisted": report["unlisted"], "torn_tail": report["tail"], "cut_bytes": report["cut_bytes"],
            "rolled_back": report["rolled_back"], "set_aside": report["set_aside"], "strangers": report["strangers"],
        }))
    }

    /// Ends with the exit code of damage where what had been acknowledged is lost, whatever else was done.
    pub(crate) fn end(&self) -> Result<()> {
        if self.report.data_loss != DataLoss::Acknowledged {
            return Ok(());
        }
        let number = self.report.incarnation;
        Err(Failure::Damaged(match self.is_done {
            true => format!(
                "it is done, but the opening gave up what had been acknowledged: `recovery.policy` is `salvage`; the report of opening \
                 {number} lists it, and what was set aside is kept"
            ),
            false => "it would be done, but the opening would give up what had been acknowledged: `recovery.policy` is `salvage`".into(),
        })
        .into())
    }
}

/// Which transactions are lost, and why.
fn lsns(lost: &ecsdb_recovery::Lost) -> String {
    match lost.last {
        Some(last) => format!("LSN {} to {last}: {}", lost.first, lost.why),
        None => format!("from LSN {} on: {}", lost.first, lost.why),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    use ecsdb_recovery::{Rejected, Verified};

    use super::*;

    /// It is told when the work is done, and not found out then that it cannot be.
    #[test]
    fn what_an_opening_and_a_check_tell_may_be_of_files_whose_names_are_no_unicode() {
        let path = PathBuf::from(OsStr::from_bytes(b"w\xff"));
        let all = || vec![path.clone()];
        let mut report = RecoveryReport::default();
        (report.strangers, report.unlisted, report.set_aside, report.removed) = (all(), all(), all(), all());
        report.rejected = vec![Rejected { path: path.clone(), reason: "it is damaged".into(), away: false }];
        let told = Opening { report, is_done: true }.json().unwrap();
        for key in ["strangers", "unlisted", "set_aside"] {
            assert_eq!(told[key][0]["bytes"], "77ff", "{key}");
        }
        let mut verified = Verified::default();
        (verified.away, verified.left_alone) = (all(), all());
        let told = serde_json::to_value(verified).unwrap();
        for key in ["away", "left_alone"] {
            assert_eq!(told[key][0]["bytes"], "77ff", "{key}");
        }
    }
}
