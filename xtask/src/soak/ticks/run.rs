//! The run: one thread ticks against a fixed schedule, others commit and read beside it, and each second is noted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use ecsdb::prelude::*;
use ecsdb::{ByteSize, Event, Events, PersistenceConfig, Ticket};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::super::sample::{self, Process};
use super::report::{Second, Totals};
use super::world::{WRITERS, World, whole};

pub(super) const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// A sleeping thread comes back late: the rest is waited for on the core, as a game does.
const SPIN: Duration = Duration::from_micros(200);
const COMMIT_EVERY: Duration = Duration::from_millis(10);
const READ_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const SAMPLE: Duration = Duration::from_secs(1);

/// Everything in the background, as often as an hour shows it many times.
pub(super) fn settings(config: &mut PersistenceConfig) {
    config.snapshot.interval = Duration::from_secs(30);
    config.archive.enabled = Some(true);
    config.retention.bytes_max = ByteSize::gib(4);
    config.compaction.interval = Duration::from_secs(300);
}

/// Nanoseconds.
pub(super) type Times = Histogram<u64>;

/// What the threads time, since this was asked last.
pub(super) struct Timed {
    /// From when a tick was due to when it was committed.
    pub(super) tick: Times,
    /// From when it was due to when it was seen on stable storage, in steps of [`LOOK_EVERY`].
    pub(super) durable: Times,
    /// From the beginning of a point commit to when it was on stable storage.
    pub(super) commit: Times,
}

impl Timed {
    pub(super) fn new() -> anyhow::Result<Self> {
        let times = || Times::new(3);
        Ok(Timed { tick: times()?, durable: times()?, commit: times()? })
    }

    pub(super) fn add(&mut self, other: &Timed) -> anyhow::Result<()> {
        self.tick.add(&other.tick)?;
        self.durable.add(&other.durable)?;
        Ok(self.commit.add(&other.commit)?)
    }
}

struct Shared<'a> {
    db: &'a Database,
    world: &'a World,
    ended: AtomicBool,
    timed: Mutex<Timed>,
    acknowledged: [AtomicU64; WRITERS],
    reads: AtomicU64,
}

pub(super) fn run(
    dir: &Path,
    db: &Database,
    world: &World,
    time: Duration,
) -> anyhow::Result<(Totals, Vec<Second>)> {
    let shared = Shared {
        db,
        world,
        ended: AtomicBool::new(false),
        timed: Mutex::new(Timed::new()?),
        acknowledged: Default::default(),
        reads: AtomicU64::new(0),
    };
    let (sender, tickets) = channel();
    let shared = &shared;
    std::thread::scope(|scope| {
        let mut threads = vec![
            scope.spawn(move || shared.tick(&sender)),
            scope.spawn(move || shared.see_durable(&tickets)),
        ];
        threads.extend((0..WRITERS).map(|writer| scope.spawn(move || shared.commit(writer))));
        threads.push(scope.spawn(|| shared.read()));
        let sampled = sample(dir, shared, time, &|| threads.iter().any(|thread| thread.is_finished()));
        shared.ended.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        let (mut totals, seconds) = sampled?;
        // What came after the last second was noted.
        totals.timed.add(&shared.timed.lock())?;
        Ok((totals, seconds))
    })
}

impl Shared<'_> {
    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    fn tick(&self, tickets: &Sender<(Instant, Ticket<()>)>) -> anyhow::Result<()> {
        let mut due = Instant::now();
        while self.goes_on() {
            due += PERIOD;
            std::thread::sleep(due.saturating_duration_since(Instant::now() + SPIN));
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let ticket = self.db.submit_with(Durability::Batched, |tx| self.world.tick(tx))?;
            self.timed.lock().tick.record(nanos(due))?;
            tickets.send((due, ticket)).context("nobody looks for durable ticks")?;
        }
        Ok(())
    }

    /// Notes when each tick is on stable storage, without asking for it, which would hasten it.
    fn see_durable(&self, tickets: &Receiver<(Instant, Ticket<()>)>) -> anyhow::Result<()> {
        loop {
            match tickets.recv_timeout(PERIOD * 10) {
                Ok((due, ticket)) => {
                    while self.goes_on() && !ticket.is_durable() {
                        std::thread::sleep(LOOK_EVERY);
                    }
                    if ticket.is_durable() {
                        self.timed.lock().durable.record(nanos(due))?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn commit(&self, writer: usize) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(writer as u64);
        while self.goes_on() {
            let started = Instant::now();
            self.db.write(|tx| self.world.commit(writer, &mut random, tx))?;
            self.timed.lock().commit.record(nanos(started))?;
            self.acknowledged[writer].fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(COMMIT_EVERY.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    fn read(&self) -> anyhow::Result<()> {
        while self.goes_on() {
            let acknowledged = self.acknowledged();
            let seen = whole(&self.db.view()?)?;
            for (writer, (seen, acknowledged)) in seen.transactions.into_iter().zip(acknowledged).enumerate()
            {
                anyhow::ensure!(
                    seen >= acknowledged,
                    "{acknowledged} commits of writer {writer} are acknowledged, {seen} are seen"
                );
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(READ_EVERY);
        }
        Ok(())
    }

    fn acknowledged(&self) -> [u64; WRITERS] {
        std::array::from_fn(|writer| self.acknowledged[writer].load(Ordering::SeqCst))
    }
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

/// Notes each second until the time is over or one of the threads is.
fn sample(
    dir: &Path,
    shared: &Shared<'_>,
    time: Duration,
    failed: &dyn Fn() -> bool,
) -> anyhow::Result<(Totals, Vec<Second>)> {
    let bar = ProgressBar::new(time.as_secs());
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}")?);
    let (mut totals, mut seconds) = (Totals::new()?, Vec::new());
    let mut events = shared.db.events();
    let (started, mut due) = (Instant::now(), Instant::now());
    while started.elapsed() < time && !failed() {
        due += SAMPLE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        listen(&mut events, &mut totals)?;
        let timed = std::mem::replace(&mut *shared.timed.lock(), Timed::new()?);
        let stats = shared.db.stats()?;
        let second = Second::new(
            started.elapsed().as_secs_f64(),
            &timed,
            &stats,
            Process::of(std::process::id()),
            sample::bytes_below(dir),
        );
        totals.timed.add(&timed)?;
        totals.segments_late = stats.log.map_or(0, |log| log.segments_late);
        totals.log_bytes = stats.log.map_or(0, |log| log.bytes_written);
        totals.reads = shared.reads.load(Ordering::Relaxed);
        bar.set_position(second.seconds as u64);
        bar.set_message(second.to_string());
        seconds.push(second);
    }
    bar.finish_and_clear();
    totals.seconds = started.elapsed().as_secs_f64();
    Ok((totals, seconds))
}

fn listen(events: &mut Events, totals: &mut Totals) -> anyhow::Result<()> {
    while let Some(event) = events.try_next() {
        match event {
            Event::SnapshotTaken(_) => totals.snapshots += 1,
            Event::Compacted(_) => totals.compactions += 1,
            Event::Archived { .. } => totals.archived += 1,
            Event::Failed { task, error, .. } => anyhow::bail!("the {task} failed: {error}"),
            _ => {}
        }
    }
    Ok(())
}
