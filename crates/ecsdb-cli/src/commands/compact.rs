//! `ecsdb compact`

use anyhow::Result;
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::info::Info;
use crate::interrupt;
use crate::output::{Output, many};
use crate::place::{Place, follow};

/// Options of `compact`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Say what there is to merge and what the settings would let go, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    if options.dry_run {
        return dry_run(&options.place, out);
    }
    let _held = interrupt::hold();
    let db = options.place.open(None)?;
    interrupt::check()?;
    let digest = db.view()?.digest()?;
    let info = follow(db.compact()?)?;
    anyhow::ensure!(db.view()?.digest()? == digest, "the digest has changed; this is a bug of ecsdb");
    db.close()?;
    if out.is_json() {
        return out.json(&json!({
            "lsn": info.lsn.0, "bytes_before": info.bytes_before, "bytes_after": info.bytes_after,
            "digest": digest.to_string(), "written": true,
        }));
    }
    out.line(format_args!(
        "compacted at LSN {}: {} before, {} after, digest {digest} as before",
        info.lsn,
        HumanBytes(info.bytes_before),
        HumanBytes(info.bytes_after)
    ))
}

fn dry_run(place: &Place, out: &mut Output) -> Result<()> {
    let (_, unsaid) = place.config()?;
    let (info, merged) = place.look(|look| {
        let merged: u64 = look.manifest.snapshots.iter().map(|entry| entry.bytes).sum();
        Ok((Info::of(look)?, merged))
    })?;
    let lsn = info.seen.view.lsn();
    if out.is_json() {
        return out.json(&json!({
            "lsn": lsn.0, "snapshot_bytes": merged, "log_bytes": info.log.bytes, "keeps_all": unsaid, "written": false,
        }));
    }
    let log = many(info.log.count, "log segment", "log segments");
    let (snapshots, bytes) = (HumanBytes(merged), HumanBytes(info.log.bytes));
    out.line(format_args!(
        "{log} ({bytes}) and {snapshots} of snapshots would become one full snapshot at LSN {lsn}"
    ))?;
    out.line(match unsaid {
        true => "nothing of the past would be given up, since no settings say so",
        false => "of the past would be kept what `retention` and `archive` in the settings say",
    })
}
