//! `ecsdb snapshot`

use anyhow::Result;
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::info::list_snapshots;
use super::past::Change;
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
    let mut settled = options.place.settle()?;
    if options.dry_run {
        settled = settled.dry()?;
    }
    interrupt::hold();
    let (db, opening, change) = Change::begin(&settled, Settled::open)?;
    interrupt::check()?;
    let info = follow(db.snapshot()?)?;
    let given_up = change.end(&settled, db)?;
    // The opening may have written it.
    let (writes, is_done) = (given_up.writes, !options.dry_run);
    if out.is_json() {
        let mut told = json!({
            "number": info.sequence, "lsn": info.lsn.0, "bytes": info.bytes, "written": writes && is_done,
            "seconds": info.duration.as_secs_f64(), "given_up": given_up.json(), "opening": opening.json()?,
        });
        if options.dry_run {
            told["would_write"] = writes.into();
        }
        out.json(&told)?;
        return opening.end();
    }
    let (number, lsn, bytes) = (info.sequence, info.lsn, HumanBytes(info.bytes));
    match (writes, is_done, info.duration.as_secs_f64()) {
        (false, ..) => out.line(format_args!(
            "snapshot {number} has everything already, up to LSN {lsn}: there is nothing to write"
        ))?,
        (true, false, _) => {
            out.line(format_args!("a snapshot at LSN {lsn} would be written: {bytes}, number {number}"))?
        }
        // One that was there already took no time.
        (true, true, 0.0) => {
            out.line(format_args!("snapshot {number} at LSN {lsn}: {bytes}, as the opening wrote it"))?
        }
        (true, true, seconds) => {
            out.line(format_args!("snapshot {number} at LSN {lsn}: {bytes} in {seconds:.3} s"))?
        }
    }
    out.line(given_up.line(is_done))?;
    opening.end()
}
