//! `ecsdb snapshot`

use anyhow::Result;
use clap::Args;
use ecsdb::Moment;
use indicatif::HumanBytes;
use serde_json::json;

use super::info::list_snapshots;
use super::past::{GivenUp, Past, warn_of_failures};
use crate::interrupt;
use crate::output::Output;
use crate::place::{Place, follow};

/// Options of `snapshot`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Only list the snapshots that there are.
    #[arg(long)]
    list: bool,
    /// Say what would be written, and write nothing.
    #[arg(long, conflicts_with = "list")]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    if options.list {
        return list_snapshots(&options.place, out);
    }
    if options.dry_run {
        let settled = options.place.settle()?;
        let (seen, newest, given_up) = settled.look(|look| {
            let newest = look.manifest.snapshots.last().map(|newest| (newest.sequence, newest.lsn));
            let seen = look.see(Moment::Latest)?;
            let given_up = GivenUp::foreseen(look, &settled.store_settings(), seen.view.lsn(), false)?;
            Ok((seen, newest, given_up))
        })?;
        given_up.warn();
        if out.is_json() {
            let lsn = seen.view.lsn().0;
            return out.json(&json!({
                "lsn": lsn, "written": false, "would_write": given_up.writes, "given_up": given_up.json(),
            }));
        }
        let (lsn, bytes) = (seen.view.lsn(), HumanBytes(seen.view.live_bytes()));
        if let Some((number, of)) = newest.filter(|(_, of)| *of >= lsn.0) {
            out.line(nothing_new(number, of))?;
        } else {
            out.line(format_args!(
                "a snapshot at LSN {lsn} would be written, of {bytes} before compression"
            ))?;
        }
        return out.line(given_up.line(false));
    }
    interrupt::hold();
    let settled = options.place.settle()?;
    let db = settled.open(None)?;
    let before = settled.look(Past::of)?;
    let mut events = db.events();
    interrupt::check()?;
    let info = follow(db.snapshot()?)?;
    db.close()?;
    warn_of_failures(&mut events);
    let given_up = settled.look(|look| before.lost_to(look))?;
    // One that was there already took no time.
    let written = !info.duration.is_zero();
    if out.is_json() {
        return out.json(&json!({
            "number": info.sequence, "lsn": info.lsn.0, "bytes": info.bytes, "written": written,
            "seconds": info.duration.as_secs_f64(), "given_up": given_up.json(),
        }));
    }
    if !written {
        out.line(nothing_new(info.sequence, info.lsn.0))?;
        return out.line(given_up.line(true));
    }
    out.line(format_args!(
        "snapshot {} at LSN {}: {} in {:.3} s",
        info.sequence,
        info.lsn,
        HumanBytes(info.bytes),
        info.duration.as_secs_f64()
    ))?;
    out.line(given_up.line(true))
}

fn nothing_new(number: u64, lsn: u64) -> String {
    format!("snapshot {number} has everything already, up to LSN {lsn}: there is nothing to write")
}
