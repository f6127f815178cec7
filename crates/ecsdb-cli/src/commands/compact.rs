//! `ecsdb compact`

use anyhow::Result;
use clap::Args;
use ecsdb_compactor::Archiving;
use ecsdb_io::{Disk, FileKind, Layout, numbered_files};
use indicatif::HumanBytes;
use serde_json::json;

use super::info::Files;
use super::past::{Change, Foreseen};
use crate::interrupt;
use crate::output::{Output, many};
use crate::place::{Place, Settled, follow};

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
    let settled = options.place.settle()?;
    if options.dry_run {
        return dry_run(&settled, out);
    }
    interrupt::hold();
    let before = taken(&settled.layout()?)?;
    let (db, change) = Change::begin(&settled)?;
    interrupt::check()?;
    let digest = db.view()?.digest()?;
    let info = follow(db.compact()?)?;
    anyhow::ensure!(db.view()?.digest()? == digest, "the digest has changed; this is a bug of ecsdb");
    let (given_up, opening) = change.end(&settled, db)?;
    let after = taken(&settled.layout()?)?;
    if out.is_json() {
        out.json(&json!({
            "lsn": info.lsn.0, "bytes_before": before, "bytes_after": after, "digest": digest.to_string(),
            "written": given_up.writes, "given_up": given_up.json(), "opening": opening.json()?,
        }))?;
        return opening.end();
    }
    let what = match given_up.writes {
        true => format!("compacted at LSN {}", info.lsn),
        false => nothing_to_merge(info.sequence, info.lsn.0),
    };
    let (before, after) = (HumanBytes(before), HumanBytes(after));
    out.line(format_args!("{what}: {before} before, {after} after, digest {digest} as before"))?;
    out.line(given_up.line(true))?;
    opening.end()
}

fn nothing_to_merge(number: u64, lsn: u64) -> String {
    format!("snapshot {number} lies in one file and has everything already, up to LSN {lsn}")
}

/// Bytes of snapshots, log and archive: what a closed database takes. While it is open it has segments with room for what is to come.
fn taken(layout: &Layout) -> Result<u64> {
    let kinds = [FileKind::Snapshot, FileKind::Segment, FileKind::CompressedSegment];
    let mut bytes = 0;
    for dir in layout.data_dirs() {
        match numbered_files(&Disk, dir, &kinds) {
            Ok(files) => bytes += files.iter().map(|file| file.bytes).sum::<u64>(),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(bytes)
}

fn dry_run(settled: &Settled, out: &mut Output) -> Result<()> {
    let settings = settled.store_settings();
    let Foreseen { seen, newest, given_up, opening } = Foreseen::of(settled, &settings, true)?;
    let (merged, log) = settled.look(|look| {
        let merged: u64 = look.manifest.snapshots.iter().map(|entry| entry.bytes).sum();
        Ok((merged, Files::of(look, look.layout.log_dir())?))
    })?;
    let keeps_all = settings.retention.is_none() && settings.archive == Archiving::AsBefore;
    let lsn = seen.view.lsn();
    if out.is_json() {
        return out.json(&json!({
            "lsn": lsn.0, "snapshot_bytes": merged, "log_bytes": log.bytes, "keeps_all": keeps_all,
            "written": false, "would_write": given_up.writes, "given_up": given_up.json(),
            "opening": opening.json()?,
        }));
    }
    if let Some(newest) = newest.filter(|_| !given_up.writes) {
        out.line(nothing_to_merge(newest.sequence, newest.lsn))?;
        return out.line(given_up.line(false));
    }
    let segments = many(log.count, "log segment", "log segments");
    let (snapshots, bytes) = (HumanBytes(merged), HumanBytes(log.bytes));
    out.line(format_args!(
        "{segments} ({bytes}) and {snapshots} of snapshots would become one full snapshot at LSN {lsn}"
    ))?;
    out.line(given_up.line(false))
}
