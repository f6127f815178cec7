//! `ecsdb repair`

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::{DataLoss, Lsn, Policy, RecoveryReport};
use ecsdb_io::Disk;
use serde_json::json;

use crate::interrupt;
use crate::output::Output;
use crate::place::{Place, SETTINGS, follow};

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
    let _held = interrupt::hold();
    if options.dry_run {
        let copy = copied(&options.place)?;
        let repaired = repair(&Place::of(copy.path()))?;
        return tell(&repaired, &options.place.dir, copy.path(), out);
    }
    let repaired = repair(&options.place)?;
    tell(&repaired, &options.place.dir, &options.place.dir, out)
}

struct Repaired {
    report: RecoveryReport,
    /// The number that the state has from now on: that of the last transaction there ever was.
    lsn: Lsn,
}

/// Opens with the policy that keeps whatever verifies.
fn repair(place: &Place) -> Result<Repaired> {
    let db = place.open(Some(Policy::Salvage))?;
    let report = db.recovery_report().context("the report of the recovery")?.clone();
    interrupt::check()?;
    let lsn = follow(db.snapshot()?)?.lsn;
    db.close()?;
    Ok(Repaired { report, lsn })
}

/// A copy of all files, with every directory in its usual place.
fn copied(place: &Place) -> Result<tempfile::TempDir> {
    let (config, _) = place.config()?;
    let layout = config.layout_in(&Disk)?;
    let copy = tempfile::tempdir()?;
    let to = ecsdb_io::Layout::new(copy.path());
    let own = [layout.root(), layout.log_dir(), layout.snapshot_dir(), layout.archive_dir()];
    let copies = [to.root(), to.log_dir(), to.snapshot_dir(), to.archive_dir()];
    for (from, to) in own.into_iter().zip(copies) {
        copy_files(from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(copy)
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
        let is_ours = !["LOCK", "OWNER", SETTINGS].iter().any(|other| name == *other);
        if is_ours && entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}

/// Says what was found. Where it was found in a copy, it is said of the original.
fn tell(repaired: &Repaired, dir: &Path, found_in: &Path, out: &mut Output) -> Result<()> {
    let Repaired { report, lsn } = repaired;
    let dry_run = dir != found_in;
    let real = |text: String| text.replace(&found_in.display().to_string(), &dir.display().to_string());
    if out.is_json() {
        let text = real(serde_json::to_string(report)?);
        let report: serde_json::Value = serde_json::from_str(&text)?;
        let lost = report["lost"].clone();
        return out.json(&json!({
            "written": !dry_run, "data_loss": report["data_loss"], "last_lsn": report["last_lsn"],
            "lsn": lsn.0,            "entities": report["entities"], "lost": lost, "set_aside": report["set_aside"],
            "passed_over": report["rejected"], "unlisted": report["unlisted"],
        }));
    }
    out.line(real(report.to_string()))?;
    let lost = report.data_loss == DataLoss::Acknowledged;
    let aside = dir.join("quarantine");
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
