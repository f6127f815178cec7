//! `ecsdb compact`

use anyhow::Result;
use clap::Args;
use ecsdb_compactor::Archiving;
use indicatif::HumanBytes;
use serde_json::json;

use super::info::Info;
use super::past::{GivenUp, Past, warn_of_failures};
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
    let settled = options.place.settle()?;
    let db = settled.open(None)?;
    let before = settled.look(Past::of)?;
    let mut events = db.events();
    interrupt::check()?;
    let digest = db.view()?.digest()?;
    let info = follow(db.compact()?)?;
    anyhow::ensure!(db.view()?.digest()? == digest, "the digest has changed; this is a bug of ecsdb");
    db.close()?;
    warn_of_failures(&mut events);
    let given_up = settled.look(|look| before.lost_to(look))?;
    if out.is_json() {
        return out.json(&json!({
            "lsn": info.lsn.0, "bytes_before": info.bytes_before, "bytes_after": info.bytes_after,
            "digest": digest.to_string(), "written": true, "given_up": given_up.json(),
        }));
    }
    out.line(format_args!(
        "compacted at LSN {}: {} before, {} after, digest {digest} as before",
        info.lsn,
        HumanBytes(info.bytes_before),
        HumanBytes(info.bytes_after)
    ))?;
    out.line(given_up.line(true))
}

fn dry_run(place: &Place, out: &mut Output) -> Result<()> {
    let settled = place.settle()?;
    let settings = settled.store_settings();
    let (info, merged, given_up) = settled.look(|look| {
        let merged: u64 = look.manifest.snapshots.iter().map(|entry| entry.bytes).sum();
        let info = Info::of(look)?;
        let given_up = GivenUp::foreseen(look, &settings, info.seen.view.lsn(), true)?;
        Ok((info, merged, given_up))
    })?;
    given_up.warn();
    let keeps_all = settings.retention.is_none() && settings.archive == Archiving::AsBefore;
    let lsn = info.seen.view.lsn();
    if out.is_json() {
        return out.json(&json!({
            "lsn": lsn.0, "snapshot_bytes": merged, "log_bytes": info.log.bytes, "keeps_all": keeps_all,
            "written": false, "given_up": given_up.json(),
        }));
    }
    let log = many(info.log.count, "log segment", "log segments");
    let (snapshots, bytes) = (HumanBytes(merged), HumanBytes(info.log.bytes));
    out.line(format_args!(
        "{log} ({bytes}) and {snapshots} of snapshots would become one full snapshot at LSN {lsn}"
    ))?;
    out.line(given_up.line(false))
}
