//! `ecsdb verify`

use std::path::Path;

use anyhow::Result;
use clap::Args;
use ecsdb::Moment;
use ecsdb_io::{Disk, FileKind, numbered_files};
use ecsdb_recovery::{Step, Verified, verify_files};
use indicatif::HumanBytes;
use serde_json::json;

use crate::failure::{self, Failure};
use crate::output::{Output, many, spinner};
use crate::place::{Look, Place, Settled};

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
    let doubts = |checked: &Verified| (checked.faults.clone(), checked.away.clone(), checked.lacks_manifest);
    let settled = options.place.settle()?;
    let checked = settled.look_closely(verify, doubts);
    bar.finish_and_clear();
    let checked = checked?;
    let damaged = checked.faults.len() as u64;
    let advice = if damaged > 0 { Some(Advice::of(&settled, &checked)?) } else { None };
    if out.is_json() {
        let mut told = serde_json::to_value(&checked)?;
        told["needed"] = json!(advice.as_ref().map(|advice| advice.needed));
        out.json(&told)?;
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
        if checked.lacks_manifest {
            out.line(format_args!("a manifest is missing: {LACKS_MANIFEST}"))?;
        }
        for path in &checked.left_alone {
            out.line(format_args!(
                "left alone: {}, the manifest of another database; move it elsewhere",
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

/// What it means that there is one manifest.
pub(super) const LACKS_MANIFEST: &str =
    "there is one, where there were two. If the newest is gone, what it alone knew is as it was before";

/// What can be done about damage.
struct Advice {
    /// The last state is not to be had without what is damaged.
    needed: bool,
    text: String,
}

impl Advice {
    /// Asks recovery whether it needs what is damaged.
    fn of(settled: &Settled, checked: &Verified) -> Result<Advice> {
        let seen = match settled.see(Moment::Latest) {
            Ok(seen) => seen,
            Err(e) if matches!(e.downcast_ref(), Some(Failure::Interrupted)) => return Err(e),
            Err(e) => return Ok(Advice { needed: true, text: refused(settled, checked, &e)? }),
        };
        let lsn = seen.view.lsn();
        let passed =
            |away| list(seen.report.rejected.iter().filter(|one| one.away == away).map(|one| &*one.path));
        let mut next = Vec::new();
        match (passed(true), passed(false)) {
            (away, damaged) if away.is_empty() && damaged.is_empty() => {
                if checked.faults.len() > checked.manifests.len() + checked.strangers.len() {
                    next.push(
                        "there is nothing to repair. Put the file back from a backup, or leave it: `ecsdb repair` leaves it as well, and it \
                         goes once the retention gives up what it belongs to"
                            .to_string(),
                    );
                }
            }
            (away, damaged) if away.is_empty() => next.push(format!(
                "opening passes over {damaged} for what is older. `ecsdb snapshot` sets it aside, and takes another one"
            )),
            (away, _) => next.push(format!(
                "opening passes over {away} for what is older. Put it back, or, if it is gone for good, say so with `ecsdb repair`"
            )),
        }
        if !checked.manifests.is_empty() {
            let manifests = list(checked.manifests.iter().map(|path| &**path));
            next.push(format!(
                "opening goes by another manifest than {manifests}. `ecsdb snapshot` sets it aside"
            ));
        }
        if !checked.strangers.is_empty() {
            let strangers = list(checked.strangers.iter().map(|path| &**path));
            next.push(format!("opening leaves {strangers} alone. Move it elsewhere"));
        }
        let text = format!("The last state, of LSN {lsn}, does not need it: {}", next.join(". Also, "));
        Ok(Advice { needed: false, text })
    }
}

/// What can be done where the last state is not to be had.
fn refused(settled: &Settled, checked: &Verified, e: &anyhow::Error) -> Result<String> {
    if !failure::is_damage(e) {
        return Ok(format!("Whether the last state needs it cannot be told: {e:#}"));
    }
    if e.downcast_ref::<ecsdb_recovery::Error>().is_some_and(ecsdb_recovery::Error::is_stranger) {
        let strangers = list(checked.strangers.iter().map(|path| &**path));
        return Ok(format!(
            "Opening refuses, and `ecsdb repair` with it, as long as {strangers} of another database lies there: move it elsewhere, and put back \
             the right one"
        ));
    }
    let mut text = "The last state needs it, and opening refuses: restore a backup, or let `ecsdb repair` go on with what was before it \
                    (`--dry-run` lists what that loses)"
        .to_string();
    let layout = settled.layout()?;
    for kind in [FileKind::Segment, FileKind::Snapshot] {
        let dir = layout.dir_of(kind);
        let is_empty = numbered_files(&Disk, dir, &[kind]).is_ok_and(|files| files.is_empty());
        // A database without any snapshot misses none.
        let is_missed = checked.faults.iter().any(|fault| fault.contains(&*dir.to_string_lossy()));
        if is_empty && is_missed {
            text += &format!(
                ". Nothing is in {}: a directory that is wrong or not mounted looks the same as one that was emptied",
                dir.display()
            );
        }
    }
    Ok(text)
}

fn list<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
