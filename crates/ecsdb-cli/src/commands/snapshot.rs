//! `ecsdb snapshot`

use anyhow::Result;
use clap::Args;
use ecsdb::Moment;
use indicatif::HumanBytes;
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
        let (seen, newest) = options.place.look(|look| {
            let newest = look.manifest.snapshots.last().map(|newest| (newest.sequence, newest.lsn));
            Ok((look.see(Moment::Latest)?, newest))
        })?;
        if out.is_json() {
            return out.json(&json!({ "lsn": seen.view.lsn().0, "written": false }));
        }
        let (lsn, bytes) = (seen.view.lsn(), HumanBytes(seen.view.live_bytes()));
        if let Some((number, of)) = newest.filter(|(_, of)| *of >= lsn.0) {
            return out.line(nothing_new(number, of));
        }
        return out
            .line(format_args!("a snapshot at LSN {lsn} would be written, of {bytes} before compression"));
    }
    let _held = interrupt::hold();
    let db = options.place.open(None)?;
    interrupt::check()?;
    let info = follow(db.snapshot()?)?;
    db.close()?;
    // One that was there already took no time.
    let written = !info.duration.is_zero();
    if out.is_json() {
        return out.json(&json!({
            "number": info.sequence, "lsn": info.lsn.0, "bytes": info.bytes, "written": written,
            "seconds": info.duration.as_secs_f64(),
        }));
    }
    if !written {
        return out.line(nothing_new(info.sequence, info.lsn.0));
    }
    out.line(format_args!(
        "snapshot {} at LSN {}: {} in {:.3} s",
        info.sequence,
        info.lsn,
        HumanBytes(info.bytes),
        info.duration.as_secs_f64()
    ))
}

fn nothing_new(number: u64, lsn: u64) -> String {
    format!("snapshot {number} has everything already, up to LSN {lsn}: there is nothing to write")
}
