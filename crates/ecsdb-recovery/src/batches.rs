//! Transactions on their way from the log to the world: read by one thread, in batches, and applied by another.

use ecsdb_core::World;
use ecsdb_io::sync::{help, mpsc::TryRecvError, mpsc::sync_channel, thread};
use ecsdb_wal::Lsn;

use crate::error::{Error, Result};
use crate::replay::{Follow, step};
use crate::report::{RecoveryReport, Step};

/// Bytes of transactions that are read ahead at a time, how many such batches, and how many bytes in all: where large transactions make it more,
/// as much is applied and gone before anything else is read (IO-1).
const BATCH_BYTES: usize = 1 << 20;
const BATCHES_AHEAD: usize = 8;
const BYTES_AHEAD: usize = 16 << 20;

/// So many transactions before its turn it is said which memory one needs.
const AHEAD: usize = 8;

/// Transactions, one after another in `bytes`.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// LSN, time of writing, end in `bytes`.
    transactions: Vec<(Lsn, u64, usize)>,
    /// Bytes of log read so far, and in all.
    progress: (u64, u64),
}

/// Takes a batch, and gives memory for the next one; `None` when no more are wanted.
type Take<'a> = &'a mut dyn FnMut(Batch) -> Option<Batch>;

/// What is read, put together to batches.
pub(crate) struct Batches<'a> {
    pub(crate) filling: Batch,
    take: Take<'a>,
    wanted: bool,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(take: Take<'a>) -> Batches<'a> {
        Batches { filling: Batch::default(), take, wanted: true }
    }

    /// The bytes that were appended are a whole transaction. Says whether more are wanted.
    pub(crate) fn whole(&mut self, lsn: Lsn, unix_ns: u64, progress: impl FnOnce() -> (u64, u64)) -> bool {
        self.filling.transactions.push((lsn, unix_ns, self.filling.bytes.len()));
        if self.filling.bytes.len() >= BATCH_BYTES {
            self.send(progress());
        }
        self.wanted
    }

    /// There are no more.
    pub(crate) fn end(mut self, progress: (u64, u64)) {
        if self.wanted {
            self.send(progress);
        }
    }

    fn send(&mut self, progress: (u64, u64)) {
        self.filling.progress = progress;
        let filled = std::mem::take(&mut self.filling);
        match (self.take)(filled) {
            Some(emptied) => self.filling = emptied,
            None => self.wanted = false,
        }
    }
}

impl Batch {
    /// The same memory, for others. What held a large transaction is not kept for small ones.
    fn emptied(mut self) -> Batch {
        self.bytes.clear();
        self.transactions.clear();
        self
    }

    fn trim(&mut self) {
        let needed = self.bytes.len().max(BATCH_BYTES);
        if self.bytes.capacity() > 2 * needed {
            self.bytes.shrink_to(needed);
        }
    }

    /// Gives the time of the last transaction, or `last_unix_ns` if there is none.
    fn apply(&self, world: &mut World, report: &mut RecoveryReport, mut last_unix_ns: u64) -> Result<u64> {
        let mut from = 0;
        for (i, &(lsn, unix_ns, end)) in self.transactions.iter().enumerate() {
            if let Some(&[(.., before), (.., behind)]) = self.transactions.get(i + AHEAD..i + AHEAD + 2) {
                world.prefetch(&self.bytes[before..behind]);
            }
            let applied = world
                .apply(lsn, &self.bytes[from..end])
                .map_err(|cause| Error::Apply { lsn: lsn.0, cause })?;
            report.transactions += 1;
            report.operations += applied.operations;
            report.skipped += applied.skipped;
            (from, last_unix_ns) = (end, unix_ns);
        }
        Ok(last_unix_ns)
    }
}

enum Message<T> {
    Batch(Batch),
    End(T),
}

/// Applies what `read` reads to the world, and gives what it gives, and the time of the last transaction (0 for none). With more than one thread
/// it reads ahead. Where something cannot be applied, or is not to go on, no more is wanted of it.
pub(crate) fn pipe<T: Send>(
    world: &mut World,
    threads: usize,
    report: &mut RecoveryReport,
    follow: Follow<'_>,
    read: impl Fn(Take<'_>) -> Result<T> + Sync,
) -> (Result<T>, Result<u64>) {
    (report.transactions, report.operations, report.skipped) = (0, 0, 0);
    let mut applied = Ok(0);
    // Says whether more are wanted.
    let mut apply = |batch: &Batch| {
        let (done, total) = batch.progress;
        applied = std::mem::replace(&mut applied, Ok(0))
            .and_then(|last_unix_ns| batch.apply(world, report, last_unix_ns))
            .and_then(|last_unix_ns| step(follow, &Step::Replay { done, total }).map(|()| last_unix_ns));
        applied.is_ok()
    };
    let helped = (threads > 1).then(|| {
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCHES_AHEAD);
            // As many as can be on their way: it is never waited for room.
            let (give_back, gone) = sync_channel::<Batch>(BATCHES_AHEAD + 2);
            let read = &read;
            help(scope, move || {
                let mut ahead = 0;
                let end = read(&mut |mut batch| {
                    batch.trim();
                    ahead += batch.bytes.len();
                    sender.send(Message::Batch(batch)).ok()?;
                    let mut next = Batch::default();
                    loop {
                        let batch = match ahead > BYTES_AHEAD {
                            true => gone.recv().ok()?,
                            false => match gone.try_recv() {
                                Ok(batch) => batch,
                                Err(TryRecvError::Empty) => return Some(next),
                                Err(TryRecvError::Disconnected) => return None,
                            },
                        };
                        ahead -= batch.bytes.len();
                        next = batch.emptied();
                    }
                });
                // Whoever applies waits for this.
                drop(sender.send(Message::End(end)));
            });
            let mut give_back = Some(give_back);
            // Without a thread that reads ahead nothing comes.
            receiver.into_iter().find_map(|message| match message {
                Message::End(end) => Some(end),
                Message::Batch(batch) => {
                    match apply(&batch) {
                        // A reader that is at its end needs no memory any more.
                        true => drop(give_back.as_ref().map(|give_back| give_back.send(batch))),
                        false => give_back = None,
                    }
                    None
                }
            })
        })
    });
    let end = match helped.flatten() {
        Some(end) => end,
        None => read(&mut |batch| apply(&batch).then(|| batch.emptied())),
    };
    (end, applied)
}
