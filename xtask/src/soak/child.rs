//! The process under load: legs of mixed load, each ended by closing in order or by a fault of the disk, and a new opening. It goes on until
//! its input ends or says so, or until it is killed.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use ecsdb::{Around, ByteSize, Database, Digest, Event, Events, Lsn, PersistenceConfig, Task};

use super::check::Notes;
use super::faults::{Fault, Switch};
use super::lines::{Journal, Line, Stats};
use super::load::{self, Worker};

const SAMPLE: Duration = Duration::from_secs(1);
const NOTE_EVERY: Duration = Duration::from_secs(4);
const READ_EVERY: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct Args {
    dir: PathBuf,
    /// For copies.
    scratch: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    entities: usize,
    #[arg(long)]
    duty: f64,
    #[arg(long)]
    leg: f64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    std::thread::spawn(move || {
        // The end of the input says it, too: then the parent is gone.
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        asked.store(true, Ordering::SeqCst);
    });
    let random = fastrand::Rng::with_seed(args.seed);
    let mut life = Life { args, stop, random, vfs: Arc::new(Switch::disk()), notes: Notes::default() };
    let done = life.run();
    if let Err(e) = &done {
        Journal.say(&Line::Failed { why: format!("{e:#}") })?;
    }
    Journal.say(&Line::Done)
}

struct Life<'a> {
    args: &'a Args,
    stop: Arc<AtomicBool>,
    random: fastrand::Rng,
    vfs: Arc<Around<Switch>>,
    notes: Notes,
}

/// What an opening has to find.
enum Before {
    Unknown,
    Closed(Lsn, Digest),
}

impl Life<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut before = Before::Unknown;
        while !self.stop.load(Ordering::SeqCst) {
            let db = self.open(&before)?;
            let target = (self.args.entities / load::THREADS).max(1000);
            let mut workers = Worker::all(&db, target, &mut self.random)?;
            let fault = match self.random.u32(..5) {
                0 => Some(Fault::Full),
                1 => Some(Fault::Sync),
                _ => None,
            };
            self.leg(&db, &mut workers, fault)?;
            before = match fault {
                None => {
                    Journal.say(&Line::Restoring)?;
                    self.notes.there_and_back(&db, &mut self.random)?;
                    Journal.say(&Line::Restored)?;
                    let (lsn, digest) = self.notes.take(&db)?;
                    db.close().context("closing")?;
                    Journal.say(&Line::Closed)?;
                    Before::Closed(lsn, digest)
                }
                // That it fails is right; what became durable is known by the acknowledgments.
                Some(_) => {
                    let _ = db.close();
                    Before::Unknown
                }
            };
        }
        Ok(())
    }

    fn open(&mut self, before: &Before) -> anyhow::Result<Database> {
        let random = &mut self.random;
        let started = Instant::now();
        let db = Database::builder(&self.args.dir)
            .config(|config| {
                fixed_settings(config, random);
                settings(config, random);
            })
            .vfs(self.vfs.clone())
            .open()?;
        let seconds = started.elapsed().as_secs_f64();
        let view = db.view()?;
        let transactions = load::whole(&view)?;
        let report = db.recovery_report().context("no report of the recovery")?;
        anyhow::ensure!(report.data_loss != ecsdb::DataLoss::Acknowledged, "data loss: {report}");
        if let Before::Closed(lsn, digest) = before {
            let found = view.digest()?;
            anyhow::ensure!(
                report.data_loss == ecsdb::DataLoss::None && (db.lsn(), found) == (*lsn, *digest),
                "closed at LSN {lsn} as {digest}, opened at {} as {found}: {report}",
                db.lsn()
            );
        }
        self.notes.forget_after(db.lsn());
        let report = report.to_string();
        Journal.say(&Line::Opened { lsn: db.lsn().0, transactions, seconds, report })?;
        drop(view);
        Ok(db)
    }

    /// Load, readers, notes, restores, changes of settings and samples. With a fault, until that stopped the load.
    fn leg(&mut self, db: &Database, workers: &mut [Worker], fault: Option<Fault>) -> anyhow::Result<()> {
        let time = Duration::from_secs_f64(self.args.leg);
        let (ended, failing) = (AtomicBool::new(false), AtomicBool::new(false));
        let commits = AtomicU64::new(0);
        let mut sampler = Sampler { events: db.events(), totals: Stats::default() };
        let (args, stop, switch) = (self.args, &self.stop, self.vfs.hooks.clone());
        let (random, notes) = (&mut self.random, &mut self.notes);
        let grace = random.u64(..100);
        let mut beside = random.fork();
        let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let (ended, failing, commits) = (&ended, &failing, &commits);
            let mut threads: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(move || worker.run(db, args.duty, ended, commits, &Journal)))
                .collect();
            threads.push(scope.spawn(move || read(db, ended)));
            threads.push(
                scope.spawn(move || beside_the_load(db, &args.scratch, notes, &mut beside, time, ended)),
            );
            let began = Instant::now();
            let mut sampled = Instant::now();
            let mut failed = Ok(());
            loop {
                if failed.is_ok() {
                    failed = sampler.listen(failing.load(Ordering::SeqCst));
                }
                if sampled.elapsed() >= SAMPLE {
                    sampled += SAMPLE;
                    // When the log failed there are none.
                    let _ = sampler.sample(db, commits);
                }
                if began.elapsed() >= time
                    && let Some(fault) = fault
                    && !failing.swap(true, Ordering::SeqCst)
                {
                    switch.on(fault, grace);
                }
                let over = threads.iter().any(|thread| thread.is_finished());
                if over
                    || failed.is_err()
                    || stop.load(Ordering::SeqCst)
                    || (began.elapsed() >= time && fault.is_none())
                {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            ended.store(true, Ordering::SeqCst);
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))));
            std::iter::once(failed).chain(joined.collect::<Vec<_>>()).collect()
        });
        let met = switch.off();
        if let (Some(fault), true) = (fault, failing.load(Ordering::SeqCst)) {
            Journal.say(&Line::Fault { kind: format!("{fault:?}"), met })?;
            // What does not come of the fault would be no error of the engine's, and is judged all the same.
            return results
                .into_iter()
                .filter(|result| !result.as_ref().is_err_and(is_of_the_engine))
                .collect();
        }
        results.into_iter().collect()
    }
}

/// Errors that a failing disk brings, unlike those of the checks.
fn is_of_the_engine(e: &anyhow::Error) -> bool {
    e.chain().any(|cause| cause.is::<ecsdb::Error>())
}

/// A reader sees whole transactions only.
fn read(db: &Database, ended: &AtomicBool) -> anyhow::Result<()> {
    while !ended.load(Ordering::SeqCst) {
        load::whole(&db.view()?)?;
        std::thread::sleep(READ_EVERY);
    }
    Ok(())
}

/// Notes moments, changes settings, and in the middle restores a moment into a copy.
fn beside_the_load(
    db: &Database,
    scratch: &Path,
    notes: &mut Notes,
    random: &mut fastrand::Rng,
    time: Duration,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut noted, mut restored) = (started, false);
    notes.take(db)?;
    while !ended.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
        if noted.elapsed() >= NOTE_EVERY {
            notes.take(db)?;
            ecsdb_tests::reconfigure(db, |config| settings(config, random))?;
            Journal.say(&Line::Configured)?;
            noted = Instant::now();
        }
        if !restored && started.elapsed() >= time / 2 {
            restored = true;
            notes.restore_copy(db, scratch, random)?;
            Journal.say(&Line::Copied)?;
        }
    }
    Ok(())
}

/// What is for the next opening while a database is open.
fn fixed_settings(config: &mut PersistenceConfig, random: &mut fastrand::Rng) {
    config.wal.segment_bytes_first = ByteSize::kib(256 << random.u32(..4));
    config.recovery.threads = random.usize(..3);
}

/// Everything small and often, so that a run of minutes sees as much as days of a real database.
fn settings(config: &mut PersistenceConfig, random: &mut fastrand::Rng) {
    config.wal.segment_bytes_max = ByteSize::mib(2 << random.u32(..3));
    config.wal.flush_interval = Duration::from_millis(random.u64(1..50));
    config.wal.queue_bytes_max = ByteSize::mib(1 << random.u32(..6));
    config.snapshot.after_log_bytes = ByteSize::mib(8 << random.u32(..3));
    config.snapshot.interval = Duration::from_secs(random.u64(5..30));
    config.snapshot.compression_level = random.i32(0..4);
    config.snapshot.chain_max = random.usize(1..7);
    config.snapshot.threads = random.usize(..3);
    config.archive.enabled = Some(true);
    config.archive.compression_level = random.i32(0..5);
    config.retention.bytes_max = ByteSize::mib(random.u64(96..160));
    config.compaction.interval = Duration::from_secs(random.u64(20..90));
    config.compaction.dead_fraction_max = 0.3 + 0.5 * random.f64();
    config.compaction.sparse_fraction_max = 0.1 + 0.5 * random.f64();
}

struct Sampler {
    events: Events,
    totals: Stats,
}

impl Sampler {
    fn listen(&mut self, failing: bool) -> anyhow::Result<()> {
        while let Some(event) = self.events.try_next() {
            match event {
                Event::SnapshotTaken(_) => self.totals.snapshots += 1,
                Event::Compacted(_) => self.totals.compactions += 1,
                Event::Archived { .. } => self.totals.archived += 1,
                // Copies and restores are the checks', which judge their failures themselves.
                Event::Failed { task: Task::Copy | Task::Restore, .. } => {}
                Event::Failed { .. } if failing => {}
                Event::Failed { task, error, .. } => anyhow::bail!("the {task} failed: {error}"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Says what happened since the last time, and what there is.
    fn sample(&mut self, db: &Database, commits: &AtomicU64) -> anyhow::Result<()> {
        let stats = db.stats()?;
        let store = stats.store.unwrap_or_default();
        let since = std::mem::take(&mut self.totals);
        Journal.say(&Line::Stats(Stats {
            commits: commits.swap(0, Ordering::SeqCst),
            entities: stats.entities,
            durable_lsn: stats.durable_lsn.0,
            memory_bytes: stats.memory_bytes,
            snapshot_bytes: store.snapshot_bytes,
            log_bytes: store.log_bytes,
            archive_bytes: store.archive_bytes,
            ..since
        }))
    }
}
