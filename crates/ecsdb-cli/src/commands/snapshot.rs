//! `ecsdb snapshot`

use anyhow::Result;
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::info::list_snapshots;
use super::past::{Change, Foreseen};
use crate::interrupt;
use crate::output::Output;
use crate::place::{Place, Settled, follow};

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
    let settled = options.place.settle()?;
    if options.dry_run {
        return dry_run(&settled, out);
    }
    interrupt::hold();
    let (db, change) = Change::begin(&settled)?;
    interrupt::check()?;
    let info = follow(db.snapshot()?)?;
    let (given_up, opening) = change.end(&settled, db)?;
    // The opening may have written it.
    let written = given_up.writes;
    if out.is_json() {
        out.json(&json!({
            "number": info.sequence, "lsn": info.lsn.0, "bytes": info.bytes, "written": written,
            "seconds": info.duration.as_secs_f64(), "given_up": given_up.json(), "opening": opening.json()?,
        }))?;
        return opening.end();
    }
    let (number, lsn, bytes) = (info.sequence, info.lsn, HumanBytes(info.bytes));
    match (written, info.duration.as_secs_f64()) {
        (false, _) => out.line(nothing_new(number, lsn.0))?,
        // One that was there already took no time.
        (true, 0.0) => {
            out.line(format_args!("snapshot {number} at LSN {lsn}: {bytes}, as the opening wrote it"))?
        }
        (true, seconds) => {
            out.line(format_args!("snapshot {number} at LSN {lsn}: {bytes} in {seconds:.3} s"))?
        }
    }
    out.line(given_up.line(true))?;
    opening.end()
}

fn dry_run(settled: &Settled, out: &mut Output) -> Result<()> {
    let Foreseen { seen, newest, given_up, opening } =
        Foreseen::of(settled, &settled.store_settings(), false)?;
    let lsn = seen.view.lsn();
    if out.is_json() {
        return out.json(&json!({
            "lsn": lsn.0, "written": false, "would_write": given_up.writes, "given_up": given_up.json(),
            "opening": opening.json()?,
        }));
    }
    match newest.filter(|_| !given_up.writes) {
        Some(newest) => out.line(nothing_new(newest.sequence, newest.lsn))?,
        None => {
            let bytes = HumanBytes(seen.view.live_bytes());
            out.line(format_args!(
                "a snapshot at LSN {lsn} would be written, of {bytes} before compression"
            ))?;
        }
    }
    out.line(given_up.line(false))
}

fn nothing_new(number: u64, lsn: u64) -> String {
    format!("snapshot {number} has everything already, up to LSN {lsn}: there is nothing to write")
}
