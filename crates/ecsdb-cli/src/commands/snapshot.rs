//! `ecsdb snapshot`

use anyhow::Result;
use clap::Args;
use ecsdb::Moment;
use indicatif::{HumanBytes, HumanDuration};
use serde_json::json;

use super::info::list_snapshots;
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
        let seen = options.place.see(Moment::Latest)?;
        if out.is_json() {
            return out.json(&json!({ "lsn": seen.view.lsn().0, "written": false }));
        }
        let (lsn, bytes) = (seen.view.lsn(), HumanBytes(seen.view.live_bytes()));
        return out
            .line(format_args!("a snapshot at LSN {lsn} would be written, of {bytes} before compression"));
    }
    let _held = interrupt::hold();
    let db = options.place.open(None)?;
    interrupt::check()?;
    let info = follow(db.snapshot()?)?;
    db.close()?;
    if out.is_json() {
        return out.json(&json!({
            "number": info.sequence, "lsn": info.lsn.0, "bytes": info.bytes, "written": true,
            "seconds": info.duration.as_secs_f64(),
        }));
    }
    out.line(format_args!(
        "snapshot {} at LSN {}: {} in {}",
        info.sequence,
        info.lsn,
        HumanBytes(info.bytes),
        HumanDuration(info.duration)
    ))
}
