//! `ecsdb compact`

use std::path::Path;

use anyhow::Result;
use clap::Args;
use ecsdb_compactor::Archiving;
use ecsdb_io::{FileKind, numbered_files};
use indicatif::HumanBytes;
use serde_json::json;

use super::past::Change;
use crate::interrupt;
use crate::output::Output;
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
    let mut settled = options.place.settle()?;
    if options.dry_run {
        settled = settled.dry()?;
    }
    interrupt::hold();
    let before = Taken::of(&settled)?;
    let (db, opening, change) = Change::begin(&settled, Settled::open)?;
    interrupt::check()?;
    let digest = db.view()?.digest()?;
    let info = follow(db.compact()?)?;
    anyhow::ensure!(db.view()?.digest()? == digest, "the digest has changed; this is a bug of ecsdb");
    let given_up = change.end(&settled, db)?;
    let after = Taken::of(&settled)?.bytes();
    let (writes, is_done) = (given_up.writes, !options.dry_run);
    if out.is_json() {
        let mut told = json!({
            "lsn": info.lsn.0, "bytes_before": before.bytes(), "bytes_after": after, "digest": digest.to_string(),
            "written": writes && is_done, "given_up": given_up.json(), "opening": opening.json()?,
        });
        if options.dry_run {
            let settings = settled.store_settings();
            let keeps_all = settings.retention.is_none() && settings.archive == Archiving::AsBefore;
            told["would_write"] = writes.into();
            told["snapshot_bytes"] = before.snapshots.into();
            told["log_bytes"] = before.log.into();
            told["keeps_all"] = keeps_all.into();
        }
        out.json(&told)?;
        return opening.end();
    }
    let (number, lsn, bytes) = (info.sequence, info.lsn, HumanBytes(before.bytes()));
    let what = match (writes, is_done) {
        (true, true) => format!("compacted at LSN {lsn}"),
        (true, false) => {
            let (log, snapshots) = (HumanBytes(before.log), HumanBytes(before.snapshots));
            format!("{log} of log and {snapshots} of snapshots would become one full snapshot at LSN {lsn}")
        }
        (false, _) => {
            format!("snapshot {number} lies in one file and has everything already, up to LSN {lsn}")
        }
    };
    out.line(format_args!("{what}: {bytes} before, {} after, digest {digest} as before", HumanBytes(after)))?;
    out.line(given_up.line(is_done))?;
    opening.end()
}

/// Bytes of what a closed database takes. While it is open it has segments with room for what is to come.
struct Taken {
    snapshots: u64,
    log: u64,
    archive: u64,
}

impl Taken {
    fn of(settled: &Settled) -> Result<Taken> {
        let layout = settled.layout()?;
        let bytes = |dir: &Path, kinds: &[FileKind]| match numbered_files(settled.vfs(), dir, kinds) {
            Ok(files) => Ok(files.iter().map(|file| file.bytes).sum()),
            Err(e) if e.is_not_found() => Ok(0),
            Err(e) => Err(e),
        };
        let segments = [FileKind::Segment, FileKind::CompressedSegment];
        Ok(Taken {
            snapshots: bytes(layout.snapshot_dir(), &[FileKind::Snapshot])?,
            log: bytes(layout.log_dir(), &segments)?,
            archive: bytes(layout.archive_dir(), &segments)?,
        })
    }

    fn bytes(&self) -> u64 {
        self.snapshots + self.log + self.archive
    }
}
