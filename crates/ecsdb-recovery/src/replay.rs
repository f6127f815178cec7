//! Building the world: the newest snapshot that loads, and the log above it.

use ecsdb_core::World;
use ecsdb_io::{FileKind, Layout, Vfs};
use ecsdb_snapshot::{LoadOptions, Manifest, Snapshot};
use ecsdb_wal::{LogScan, Lsn, Replay};

use crate::error::{Error, Result};
use crate::policy::{Options, Policy};
use crate::report::{RecoveryReport, Rejected, Step};

/// Bytes of log between two progress reports.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Loads the newest snapshot that validates; an empty world when there is none (REC-8).
pub(crate) fn load(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    options: Options,
    report: &mut RecoveryReport,
    progress: &mut dyn FnMut(&Step),
) -> Result<World> {
    report.snapshot = None;
    for entry in manifest.snapshots.iter().rev() {
        let path = layout.file(FileKind::Snapshot, entry.sequence);
        progress(&Step::Snapshot { sequence: entry.sequence, bytes: entry.bytes });
        let load_options = LoadOptions { threads: options.threads, register: options.register };
        let loaded = Snapshot::open(vfs, &path).and_then(|snapshot| {
            snapshot.expect(manifest.database, entry.sequence, entry.lsn)?;
            snapshot.load(vfs, load_options)
        });
        match loaded {
            Ok(loaded) => {
                report.snapshot = Some((entry.sequence, entry.lsn));
                return Ok(loaded.world);
            }
            Err(e) if e.is_damage() => {
                tracing::warn!(error = %e, "a snapshot cannot be used; trying the one before");
                if options.policy == Policy::Strict {
                    return Err(Error::Strict { what: e.to_string() });
                }
                let rejected = Rejected { path, reason: e.to_string() };
                if !report.rejected.contains(&rejected) {
                    report.rejected.push(rejected);
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(World::new())
}

/// Applies the log above the world's LSN, up to `until`. On a transaction that cannot be applied the world is spoiled, and the
/// transaction's LSN is in the error.
pub(crate) fn apply(
    vfs: &dyn Vfs,
    world: &mut World,
    scan: &LogScan,
    until: Lsn,
    report: &mut RecoveryReport,
    progress: &mut dyn FnMut(&Step),
) -> Result<()> {
    (report.transactions, report.operations, report.skipped) = (0, 0, 0);
    let mut replay = Replay::new(vfs, scan, Lsn(world.lsn()));
    let mut reported = 0;
    loop {
        let (done, total) = replay.progress();
        if done >= reported + PROGRESS_BYTES {
            reported = done;
            progress(&Step::Replay { done, total });
        }
        let Some(transaction) = replay.next()? else { return Ok(()) };
        let lsn = transaction.lsn;
        if lsn > until {
            return Ok(());
        }
        let applied =
            world.apply(lsn.0, transaction.payload).map_err(|source| Error::Apply { lsn: lsn.0, source })?;
        report.transactions += 1;
        report.operations += applied.operations;
        report.skipped += applied.skipped;
    }
}
