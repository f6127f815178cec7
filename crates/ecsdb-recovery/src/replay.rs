//! Building the world: the newest snapshot that loads, and the log above it.

use std::ops::ControlFlow;

use ecsdb_core::World;
use ecsdb_io::sync::{help, mpsc::sync_channel, thread};
use ecsdb_io::{FileKind, Layout, Vfs};
use ecsdb_snapshot::{LoadOptions, Manifest, Snapshot, SnapshotEntry};
use ecsdb_wal::{LogScan, Lsn, Replay, Transaction};

use crate::error::{Error, Result};
use crate::policy::{Options, Policy};
use crate::report::{LoadedSnapshot, RecoveryReport, Rejected, Step};

/// Bytes of transactions that are read ahead at a time, and how many such batches. One that is larger, since it has a large
/// transaction, is applied and gone before anything else is read (IO-1).
const BATCH_BYTES: usize = 1 << 20;
const BATCHES_AHEAD: usize = 8;

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

/// Transactions read from the log, one after another in `bytes`.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// LSN, time of writing, end in `bytes`.
    transactions: Vec<(Lsn, u64, usize)>,
    /// Bytes of log read so far, and in all.
    progress: (u64, u64),
}

impl Batch {
    fn is_large(&self) -> bool {
        self.bytes.len() > 2 * BATCH_BYTES
    }
}

/// Applies the log above the world's LSN, up to `until`, and gives the time of the last transaction (0 for none). With more
/// than one thread the log is read ahead of what is applied. On a transaction that cannot be applied the world is spoiled,
/// and the transaction's LSN is in the error.
pub(crate) fn apply(
    vfs: &dyn Vfs,
    world: &mut World,
    scan: &LogScan,
    until: Until,
    threads: usize,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
) -> Result<u64> {
    (report.transactions, report.operations, report.skipped) = (0, 0, 0);
    let mut last_unix_ns = 0;
    let after = world.lsn();
    let mut apply = |batch: &Batch| -> Result<()> {
        let mut from = 0;
        for &(lsn, unix_ns, end) in &batch.transactions {
            let applied = world
                .apply(lsn, &batch.bytes[from..end])
                .map_err(|cause| Error::Apply { lsn: lsn.0, cause })?;
            report.transactions += 1;
            report.operations += applied.operations;
            report.skipped += applied.skipped;
            (from, last_unix_ns) = (end, unix_ns);
        }
        let (done, total) = batch.progress;
        step(follow, &Step::Replay { done, total })
    };
    let is_helped = threads > 1
        && thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCHES_AHEAD);
            let (applied, is_applied) = sync_channel(1);
            let is_helped = help(scope, move || {
                // A receiver that is gone has failed, and has told so itself.
                let sent = read(vfs, scan, after, until, |batch: Batch| {
                    let waits = batch.is_large();
                    Ok(sender.send(Ok(batch)).is_ok() && (!waits || is_applied.recv().is_ok()))
                });
                if let Err(e) = sent {
                    drop(sender.send(Err(e)));
                }
            });
            // Without a thread that reads ahead nothing comes.
            receiver.into_iter().try_for_each(|batch: Result<Batch>| {
                let batch = batch?;
                apply(&batch)?;
                let waits = batch.is_large();
                drop(batch);
                // A reader that is gone waits for nothing any more.
                let _: bool = !waits || applied.send(()).is_ok();
                Ok::<(), Error>(())
            })?;
            Ok::<_, Error>(is_helped)
        })?;
    if !is_helped {
        read(vfs, scan, after, until, |batch| apply(&batch).map(|()| true))?;
    }
    Ok(last_unix_ns)
}

/// Reads the transactions above `after` in batches, until `take` wants no more.
fn read(
    vfs: &dyn Vfs,
    scan: &LogScan,
    after: Lsn,
    until: Until,
    mut take: impl FnMut(Batch) -> Result<bool>,
) -> Result<()> {
    let mut replay = Replay::new(vfs, scan, after, until.lsn);
    let mut batch = Batch::default();
    loop {
        let transaction = replay.next(&mut batch.bytes)?;
        let transaction = transaction.filter(|t| t.unix_ns <= until.unix_ns);
        let at_end = transaction.is_none();
        if let Some(Transaction { lsn, unix_ns }) = transaction {
            batch.transactions.push((lsn, unix_ns, batch.bytes.len()));
        }
        if at_end || batch.bytes.len() >= BATCH_BYTES {
            batch.progress = replay.progress();
            if !take(std::mem::take(&mut batch))? || at_end {
                return Ok(());
            }
        }
    }
}
