//! `ecsdb repair`

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::{DataLoss, Lsn, Policy, RecoveryReport};
use ecsdb_io::{Disk, Layout};
use ecsdb_recovery::verify_files;
use serde_json::{Value as Json, json};

use crate::output::Output;
use crate::place::{Place, SETTINGS, Settled, follow};
use crate::{failure, interrupt};

/// Options of `repair`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// List what would be lost, and change nothing: a copy is repaired, for which there must be room in the directory for temporary files.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    // A copy that is not needed any more is removed, whatever ends the work.
    interrupt::hold();
    let settled = options.place.settle()?;
    if options.dry_run {
        settled.check_opening()?;
        let (copy, moved) = copied(&settled)?;
        let repaired =
            repair(&settled.at(copy.path())).map_err(|e| failure::told(&e, |text| moved.text(text)))?;
        return tell(&repaired, &settled.layout()?, Some(&moved), out);
    }
    tell(&repair(&settled)?, &settled.layout()?, None, out)
}

struct Repaired {
    report: RecoveryReport,
    /// What is wrong with files that it leaves as they are, since the state does not need them.
    left: Vec<String>,
    /// The number that the state has from now on: that of the last transaction there ever was.
    lsn: Lsn,
}

/// Opens with the policy that keeps whatever verifies.
fn repair(settled: &Settled) -> Result<Repaired> {
    let db = settled.open_by(Policy::Salvage)?;
    let report = db.recovery_report().context("the report of the recovery")?.clone();
    interrupt::check()?;
    let lsn = follow(db.snapshot()?)?.lsn;
    db.close()?;
    let left = settled.look(|look| {
        let checked = verify_files(look.vfs(), look.layout, look.manifest, &mut |_| {})?;
        Ok(checked.faults)
    })?;
    Ok(Repaired { report, left, lsn })
}

/// Directories of a copy, and those that they are copies of: what is found in the one is said of the other.
struct Moved(Vec<(String, String)>);

impl Moved {
    fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.into(), |text: String, (copy, own)| text.replace(copy, own))
    }

    fn json(&self, value: &mut Json) {
        match value {
            Json::String(text) => *text = self.text(text),
            Json::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Json::Object(values) => values.values_mut().for_each(|value| self.json(value)),
            _ => {}
        }
    }
}

/// A copy of all files, with every directory at its usual place. The original is read, and nothing of it opened for writing.
fn copied(settled: &Settled) -> Result<(tempfile::TempDir, Moved)> {
    let layout = settled.layout()?;
    let copy = tempfile::tempdir()?;
    let to = Layout::new(copy.path()).real(&Disk)?;
    let mut moved = Vec::new();
    // What is within another one comes first, to be told from it.
    let own = [layout.log_dir(), layout.snapshot_dir(), layout.archive_dir(), layout.root()];
    let copies = [to.log_dir(), to.snapshot_dir(), to.archive_dir(), to.root()];
    for (from, to) in own.into_iter().zip(copies) {
        copy_files(from, to).with_context(|| format!("copying {}", from.display()))?;
        moved.push((to.display().to_string(), from.display().to_string()));
    }
    Ok((copy, Moved(moved)))
}

/// Copies the files of a directory, but for those that say whose it is and who has it open.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = match fs::read_dir(from) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        interrupt::check()?;
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = !["LOCK", "LOCK.holder", "OWNER", SETTINGS].iter().any(|other| name == *other);
        match fs::metadata(entry.path()) {
            Ok(there) if is_ours && there.is_file() => drop(fs::copy(entry.path(), to.join(&name))?),
            // In the place of a file it is in the way, whatever is in it.
            Ok(there) if is_ours && there.is_dir() => fs::create_dir_all(to.join(&name))?,
            _ => {}
        }
    }
    Ok(())
}

/// Says what was found, or in a copy, of the original.
fn tell(repaired: &Repaired, layout: &Layout, moved: Option<&Moved>, out: &mut Output) -> Result<()> {
    let Repaired { report, left, lsn } = repaired;
    let dry_run = moved.is_some();
    if out.is_json() {
        let mut report = serde_json::to_value(report)?;
        if let Some(moved) = moved {
            moved.json(&mut report);
        }
        let left: Vec<_> =
            left.iter().map(|fault| moved.map_or(fault.clone(), |moved| moved.text(fault))).collect();
        return out.json(&json!({
            "written": !dry_run, "left": left, "data_loss": report["data_loss"], "last_lsn": report["last_lsn"],
            "lsn": lsn.0, "entities": report["entities"], "lost": report["lost"], "set_aside": report["set_aside"],
            "passed_over": report["rejected"], "unlisted": report["unlisted"],
        }));
    }
    let text = report.to_string();
    out.line(moved.map_or(text.clone(), |moved| moved.text(&text)))?;
    for fault in left {
        let fault = moved.map_or(fault.clone(), |moved| moved.text(fault));
        out.line(format_args!("left as it is, since the last state does not need it: {fault}"))?;
    }
    let lost = report.data_loss == DataLoss::Acknowledged;
    let aside = layout.quarantine_dir();
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
