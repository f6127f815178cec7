//! `ecsdb repair`

use anyhow::Result;
use clap::Args;
use ecsdb::{DataLoss, Lsn, Policy, RecoveryReport};
use ecsdb_recovery::verify_files;
use serde_json::json;

use super::past::{Change, GivenUp};
use crate::interrupt;
use crate::opening::Opening;
use crate::output::Output;
use crate::place::{Place, Settled, follow};

/// Options of `repair`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// List what would be lost, and change nothing: what the repair writes goes into the directory for temporary files, and is removed.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let mut settled = options.place.settle()?;
    if options.dry_run {
        settled = settled.dry()?;
    }
    interrupt::hold();
    let mut opening = None;
    let repaired = repair(&settled, |opened| {
        // What a dry run lists is lost only once the real one has opened it.
        let is_told = !out.is_json() && !settled.is_dry && tell_opening(opened.report(), out).is_ok();
        opening = Some((opened, is_told));
    });
    match (repaired, opening) {
        (Ok(repaired), Some((opening, is_told))) => tell(&repaired, opening.report(), is_told, &settled, out),
        (repaired, opening) => {
            if let Some((opening, false)) = opening {
                opening.warn();
            }
            repaired.map(drop)
        }
    }
}

struct Repaired {
    /// What is wrong with files that it leaves as they are, since the state does not need them.
    left: Vec<String>,
    given_up: GivenUp,
    /// The number that the state has from now on: that of the last transaction there ever was.
    lsn: Lsn,
}

/// Opens with the policy that keeps whatever verifies, and has that told at once: by then it is done.
fn repair(settled: &Settled, opened: impl FnOnce(Opening)) -> Result<Repaired> {
    let (db, (), change) = Change::begin(settled, |settled| {
        let db = settled.open_by(Policy::Salvage)?;
        opened(settled.opening(&db)?);
        Ok((db, ()))
    })?;
    interrupt::check()?;
    let lsn = follow(db.snapshot()?)?.lsn;
    let given_up = change.end(settled, db)?;
    let left = settled.look(|look| {
        let checked = verify_files(look.vfs(), look.layout, look.manifest, &mut |_| {})?;
        Ok(checked.faults)
    })?;
    Ok(Repaired { left, given_up, lsn })
}

/// What the opening did, to be seen at once.
fn tell_opening(report: &RecoveryReport, out: &mut Output) -> Result<()> {
    out.line(report)?;
    out.flush()
}

fn tell(
    repaired: &Repaired,
    report: &RecoveryReport,
    is_told: bool,
    settled: &Settled,
    out: &mut Output,
) -> Result<()> {
    let (Repaired { left, given_up, lsn }, dry_run) = (repaired, settled.is_dry);
    if out.is_json() {
        let report = serde_json::to_value(report)?;
        return out.json(&json!({
            "written": !dry_run, "left": left, "data_loss": report["data_loss"], "last_lsn": report["last_lsn"],
            "lsn": lsn.0, "entities": report["entities"], "lost": report["lost"], "set_aside": report["set_aside"],
            "passed_over": report["rejected"], "unlisted": report["unlisted"],
            "strangers": report["strangers"], "given_up": given_up.json(),
        }));
    }
    if !is_told {
        out.line(report)?;
    }
    for fault in left {
        out.line(format_args!("left as it is, since the last state does not need it: {fault}"))?;
    }
    if !given_up.is_nothing() {
        out.line(given_up.line(!dry_run))?;
    }
    let lost = report.data_loss == DataLoss::Acknowledged;
    let aside = settled.layout()?.quarantine_dir();
    if lost && *lsn > report.last_lsn {
        let (will, last) = (if dry_run { "would be" } else { "is" }, report.last_lsn);
        out.line(format_args!(
            "the state of LSN {last} {will} that of LSN {lsn} from now on, the highest there ever was: no number comes to mean two transactions"
        ))?;
    }
    match (dry_run, lost) {
        (true, true) => out.line("nothing was changed; what is listed above as lost would be lost"),
        (true, false) if report.data_loss == DataLoss::Possible => out.line("nothing was changed"),
        (true, false) => out.line("nothing was changed; nothing that had been durable would be lost"),
        (false, true) => out
            .line(format_args!("what is lost is listed above; what was damaged lies in {}", aside.display())),
        (false, false) => Ok(()),
    }
}
