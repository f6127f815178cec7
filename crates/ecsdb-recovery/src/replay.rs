//! Building the world: the newest snapshot that loads, and the log above it.

use std::ops::ControlFlow;

use ecsdb_core::World;
use ecsdb_io::{FileKind, Layout, Vfs};
use ecsdb_snapshot::{LoadOptions, Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::{LogScan, Lsn, Replay, Transaction};

use crate::batches::{Batches, pipe};
use crate::error::{Error, Result};
use crate::policy::{Options, Policy};
use crate::report::{LoadedSnapshot, RecoveryReport, Rejected, Step};

/// How far the log is replayed: up to and with the last transaction that is not beyond either.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    pub(crate) lsn: Lsn,
    pub(crate) unix_ns: u64,
}

impl Until {
    pub(crate) const END: Until = Until { lsn: Lsn(u64::MAX), unix_ns: u64::MAX };
}

/// Follows the world being built, and may stop it.
pub(crate) type Follow<'a> = &'a mut dyn FnMut(&Step) -> ControlFlow<()>;

/// A step, unless it is the last one.
pub(crate) fn step(follow: Follow<'_>, step: &Step) -> Result<()> {
    if follow(step).is_break() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Loads the newest of `entries` (oldest first) that validates; an empty world when there is none (REC-8).
pub(crate) fn load(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    entries: &[SnapshotEntry],
    options: &mut Options,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
) -> Result<World> {
    report.snapshot = None;
    for entry in entries.iter().rev() {
        let path = layout.file(FileKind::Snapshot, entry.sequence);
        step(follow, &Step::Snapshot { sequence: entry.sequence, bytes: entry.bytes })?;
        let load = |register| {
            let snapshot = Snapshot::open(vfs, &path)?;
            snapshot.expect(manifest.database, entry)?;
            snapshot.load(vfs, LoadOptions { threads: options.threads, register })
        };
        let mut loaded = load(options.register);
        if options.register
            && let Err(ecsdb_snapshot::Error::World { cause: ecsdb_core::Error::Codec { .. }, .. }) = &loaded
        {
            // The file is whole; it is the program's type that refuses a value. With the bytes as they are it loads.
            options.register = false;
            loaded = load(false);
        }
        match loaded {
            Ok(loaded) => {
                let (sequence, lsn) = (entry.sequence, Lsn(entry.lsn));
                report.snapshot = Some(LoadedSnapshot { sequence, lsn });
                return Ok(loaded.world);
            }
            Err(e) if e.is_damage() => {
                tracing::warn!(error = %e, "a snapshot cannot be used; trying the one before");
                if options.policy == Policy::Strict {
                    return Err(Error::Strict { what: e.to_string() });
                }
                let rejected = Rejected { path, reason: e.to_string(), away: e.is_away() };
                if !report.rejected.contains(&rejected) {
                    report.rejected.push(rejected);
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(World::new())
}

/// Applies the log above the world's LSN, up to `until`, and gives the time of the last transaction (0 for none). On a transaction that
/// cannot be applied the world is spoiled, and the transaction's LSN is in the error.
pub(crate) fn apply(
    vfs: &dyn Vfs,
    world: &mut World,
    scan: &LogScan,
    until: Until,
    threads: usize,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
) -> Result<u64> {
    let after = world.lsn();
    if let Some(first) = scan.whole().first()
        && first.header.previous.last_lsn > after
        && until.lsn > after
    {
        // What the world was built from is not what the log was looked at for.
        let (snapshot, log_begins) = (after.0, first.header.previous.last_lsn.0);
        return Err(Error::Gap {
            snapshot,
            log_begins,
            looked: "A newer snapshot did not load again".into(),
        });
    }
    let (read, applied) =
        pipe(world, threads, report, follow, |take| read(vfs, scan, after, until, Batches::new(take)));
    let last_unix_ns = applied?;
    read.map(|()| last_unix_ns)
}

/// Reads the transactions above `after`, until no more are wanted.
fn read(vfs: &dyn Vfs, scan: &LogScan, after: Lsn, until: Until, mut batches: Batches<'_>) -> Result<()> {
    let mut replay = Replay::new(vfs, scan, after, until.lsn);
    while let Some(Transaction { lsn, unix_ns }) = replay.next(&mut batches.filling.bytes)?
        && unix_ns <= until.unix_ns
        && batches.whole(lsn, unix_ns, || replay.progress())
    {}
    batches.end(replay.progress());
    Ok(())
}

/// Applies the log above the world's LSN while it is verified, so that it is read once: the log is what `scan` finds, given what to do with its
/// transactions. Whatever was applied means something only when the scan finds the log whole, and nothing failed.
pub(crate) fn apply_while_verifying<T: Send>(
    world: &mut World,
    bytes: u64,
    threads: usize,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
    scan: impl Fn(&mut dyn FnMut(Lsn, &[u8], bool)) -> Result<T> + Sync,
) -> (Result<T>, Result<()>) {
    let after = world.lsn();
    let (scan, applied) = pipe(world, threads, report, follow, |take| {
        let mut batches = Batches::new(take);
        let (mut done, mut wanted) = (0, true);
        let scan = scan(&mut |lsn, part, is_last| {
            // Of what is packed, less is in the files.
            done = bytes.min(done + part.len() as u64);
            if lsn > after && wanted {
                batches.filling.bytes.extend_from_slice(part);
                wanted = !is_last || batches.whole(lsn, 0, || (done, bytes));
            }
        });
        batches.end((bytes, bytes));
        scan
    });
    (scan, applied.map(drop))
}
