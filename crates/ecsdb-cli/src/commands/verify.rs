//! `ecsdb verify`

use anyhow::Result;
use clap::Args;
use ecsdb_recovery::{Step, Verified, verify_files};
use indicatif::HumanBytes;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, Output, many, spinner};
use crate::place::{Look, Place};

/// Options of `verify`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let bar = spinner();
    let verify = |look: &Look<'_>| {
        let mut show = |step: &Step| bar.set_message(step.to_string());
        Ok(verify_files(look.vfs(), look.layout, look.manifest, &mut show)?)
    };
    let doubts = |checked: &Verified| (checked.faults.clone(), checked.away.clone());
    let checked = options.place.look_closely(verify, doubts);
    bar.finish_and_clear();
    let checked = checked?;
    let damaged = checked.faults.len() as u64;
    if out.is_json() {
        let away: Vec<_> = checked.away.iter().map(|file| output::path(file)).collect();
        out.json(&json!({
            "snapshots": checked.snapshots, "segments": checked.segments, "bytes": checked.bytes,
            "last_lsn": checked.last_lsn.0, "torn_tail": checked.torn_tail, "faults": checked.faults,
            "away": away,
        }))?;
    } else {
        if let Some(torn) = &checked.torn_tail {
            out.line(format_args!(
                "torn tail: {torn}; the next opening cuts it, since nothing proves that it had been durable"
            ))?;
        }
        for path in &checked.away {
            out.line(format_args!(
                "away: {}; once it is back, the next opening for writing counts it again",
                path.display()
            ))?;
        }
        for fault in &checked.faults {
            out.line(format_args!("DAMAGED {fault}"))?;
        }
        out.line(format_args!(
            "{} and {}, {} read; the last transaction is {}",
            many(checked.snapshots as u64, "snapshot", "snapshots"),
            many(checked.segments as u64, "log segment", "log segments"),
            HumanBytes(checked.bytes),
            checked.last_lsn
        ))?;
    }
    if damaged == 0 {
        return if out.is_json() { Ok(()) } else { out.line("everything verifies") };
    }
    let what = many(damaged, "of the files above is", "of the files above are");
    Err(Failure::Damaged(format!(
        "{what} damaged. Opening passes over a damaged snapshot or manifest where older ones and the log make up for it, and \
         refuses otherwise: then restore a backup, or use `ecsdb repair`"
    ))
    .into())
}
