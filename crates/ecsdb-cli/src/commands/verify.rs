//! `ecsdb verify`

use anyhow::Result;
use clap::Args;
use ecsdb::{Moment, Policy};
use ecsdb_recovery::{Step, Verified, rejected_manifests, verify_files};
use indicatif::HumanBytes;
use serde_json::json;

use crate::failure::{self, Failure};
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
    let advice = if damaged > 0 { Some(Advice::of(&options.place)?) } else { None };
    let unreachable: Vec<_> = checked
        .unreachable
        .iter()
        .map(|(first, last)| json!({ "first_lsn": first.0, "last_lsn": last.0 }))
        .collect();
    if out.is_json() {
        let away: Vec<_> = checked.away.iter().map(|file| output::path(file)).collect();
        out.json(&json!({
            "snapshots": checked.snapshots, "segments": checked.segments, "bytes": checked.bytes,
            "last_lsn": checked.last_lsn.0, "torn_tail": checked.torn_tail, "faults": checked.faults,
            "away": away, "unreachable": unreachable, "needed": advice.as_ref().map(|advice| advice.needed),
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
        for (first, last) in &checked.unreachable {
            out.line(format_args!("moments from LSN {first} to {last} cannot be gone back to for that"))?;
        }
        out.line(format_args!(
            "{} and {}, {} read; the last transaction is {}",
            many(checked.snapshots as u64, "snapshot", "snapshots"),
            many(checked.segments as u64, "log segment", "log segments"),
            HumanBytes(checked.bytes),
            checked.last_lsn
        ))?;
    }
    let Some(Advice { text, .. }) = advice else {
        let all = if checked.away.is_empty() { "everything" } else { "everything that is there" };
        return if out.is_json() { Ok(()) } else { out.line(format_args!("{all} verifies")) };
    };
    let what = many(damaged, "of the files above is", "of the files above are");
    Err(Failure::Damaged(format!("{what} damaged. {text}")).into())
}

/// What can be done about damage.
struct Advice {
    /// The last state is not to be had without what is damaged.
    needed: bool,
    text: String,
}

impl Advice {
    /// Asks recovery whether it needs what is damaged.
    fn of(place: &Place) -> Result<Advice> {
        let seen = match place.see(Moment::Latest) {
            Ok(seen) => seen,
            Err(e) if failure::is_damage(&e) => {
                let text = "The last state needs it, and opening refuses: restore a backup, or let `ecsdb repair` go on with what was before \
                            it (`--dry-run` lists what that loses)";
                return Ok(Advice { needed: true, text: text.into() });
            }
            Err(e) => return Err(e),
        };
        let lsn = seen.view.lsn();
        let passed = |away| {
            let passed = seen.report.rejected.iter().filter(|one| one.away == away);
            passed.map(|one| one.path.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        let manifests =
            place.look(|look| Ok(rejected_manifests(look.vfs(), look.layout, Policy::TruncateTail)?))?;
        let manifests: Vec<_> = manifests.iter().map(|one| one.path.display().to_string()).collect();
        let next = match (passed(true), passed(false)) {
            (away, damaged) if away.is_empty() && damaged.is_empty() && !manifests.is_empty() => format!(
                "opening passes over {} for an older one. `ecsdb snapshot` sets it aside",
                manifests.join(", ")
            ),
            (away, damaged) if away.is_empty() && damaged.is_empty() => {
                "there is nothing to repair. Put the file back from a backup, or leave it: `ecsdb repair` leaves it as well, and it goes once the \
                 retention gives up what it belongs to"
                    .into()
            }
            (away, damaged) if away.is_empty() => format!(
                "opening passes over {damaged} for what is older. `ecsdb snapshot` sets it aside, and takes another one"
            ),
            (away, _) => format!(
                "opening passes over {away} for what is older. Put it back, or, if it is gone for good, say so with `ecsdb repair`"
            ),
        };
        Ok(Advice { needed: false, text: format!("The last state, of LSN {lsn}, does not need it: {next}") })
    }
}
