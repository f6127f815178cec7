//! The run: legs of up to a minute between two openings, sampled each second.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecsdb::{Database, Event, Events, Task};
use indicatif::{ProgressBar, ProgressStyle};

use super::check::{self, Notes};
use super::load::{THREADS, Worker};
use super::sample::Sample;

const LEG: Duration = Duration::from_secs(60);
const SAMPLE: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) samples: Vec<Sample>,
    /// Time under load.
    pub(super) loaded: Duration,
    pub(super) commits: u64,
    pub(super) snapshots: u64,
    pub(super) compactions: u64,
    pub(super) archived: u64,
    pub(super) reopenings: Vec<Duration>,
    pub(super) restores: u64,
    pub(super) failures: Vec<String>,
}

pub(super) fn run(
    dir: &Path,
    scratch: &Path,
    time: Duration,
    seed: u64,
    entities: usize,
) -> anyhow::Result<Outcome> {
    let mut soak = Soak {
        started: Instant::now(),
        bar: bar(time)?,
        outcome: Outcome::default(),
        workers: (0..THREADS).map(|i| Worker::new(i, (entities / THREADS).max(1000), seed)).collect(),
        notes: Notes::default(),
        random: fastrand::Rng::with_seed(seed),
        commits: AtomicU64::new(0),
    };
    let mut db = super::builder(dir).open()?;
    for worker in &mut soak.workers {
        worker.populate(&db)?;
    }
    // Short runs reopen, too.
    let leg = LEG.min(time / 3);
    while soak.started.elapsed() + leg / 2 < time {
        let mut events = db.events();
        let alive = soak.leg(&db, scratch, leg, &mut events);
        soak.listen(&mut events);
        if !alive {
            break;
        }
        let count = soak.workers.iter().map(Worker::len).sum();
        let Soak { notes, outcome, .. } = &mut soak;
        match check::reopen(db, dir, notes, count, |why| outcome.failures.push(why)) {
            Ok((opened, time)) => {
                outcome.reopenings.push(time);
                db = opened;
            }
            Err(e) => {
                outcome.failures.push(format!("reopening: {e:#}"));
                break;
            }
        }
    }
    soak.bar.finish_and_clear();
    soak.outcome.commits = soak.commits.load(Ordering::Relaxed);
    Ok(soak.outcome)
}

fn bar(time: Duration) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(time.as_secs());
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}")?);
    Ok(bar)
}

struct Soak {
    started: Instant,
    bar: ProgressBar,
    outcome: Outcome,
    workers: Vec<Worker>,
    notes: Notes,
    random: fastrand::Rng,
    commits: AtomicU64,
}

impl Soak {
    /// Load, notes and samples for `time`. False when a thread failed, so that going on would prove nothing.
    fn leg(&mut self, db: &Database, scratch: &Path, time: Duration, events: &mut Events) -> bool {
        let began = Instant::now();
        let (stop, restores) = (AtomicBool::new(false), AtomicU64::new(0));
        let (mut workers, mut notes) = (std::mem::take(&mut self.workers), std::mem::take(&mut self.notes));
        let mut random = self.random.fork();
        let commits = std::mem::take(&mut self.commits);
        let failures: Vec<String> = std::thread::scope(|scope| {
            let load: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(|| worker.run(db, &stop, &commits).map_err(anyhow::Error::from)))
                .collect();
            let checks = scope.spawn(|| {
                check::beside_the_load(db, scratch, &mut notes, &mut random, time, (&stop, &restores))
            });
            let mut threads = load;
            threads.push(checks);
            while began.elapsed() < time && !threads.iter().any(|thread| thread.is_finished()) {
                self.sample(db, &commits);
                let until = Instant::now() + SAMPLE;
                while Instant::now() < until {
                    // Often, so that no event is lost.
                    self.listen(events);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            stop.store(true, Ordering::Relaxed);
            let ended = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => Err(anyhow::anyhow!("a thread panicked")),
            });
            ended.filter_map(|result| Some(format!("{:#}", result.err()?))).collect()
        });
        (self.workers, self.notes, self.commits) = (workers, notes, commits);
        self.outcome.loaded += began.elapsed();
        self.outcome.restores += restores.into_inner();
        let alive = failures.is_empty();
        self.outcome.failures.extend(failures);
        alive
    }

    fn sample(&mut self, db: &Database, commits: &AtomicU64) {
        let commits = commits.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let sample = match db.stats() {
            Ok(stats) => Sample::new(seconds, commits, &stats),
            Err(e) => return self.outcome.failures.push(format!("stats: {e}")),
        };
        let last = self.outcome.samples.last().map_or((0.0, 0), |last| (last.seconds, last.commits));
        let rate = (commits - last.1) as f64 / (seconds - last.0).max(0.001);
        self.bar.set_position(seconds as u64);
        self.bar.set_message(format!(
            "{rate:.0} commits/s, durable LSN {}, {:.0} MiB on disk",
            sample.durable_lsn,
            sample.total_bytes as f64 / (1 << 20) as f64
        ));
        self.outcome.samples.push(sample);
    }

    fn listen(&mut self, events: &mut Events) {
        while let Some(event) = events.try_next() {
            match event {
                Event::SnapshotTaken(_) => self.outcome.snapshots += 1,
                Event::Compacted(_) => self.outcome.compactions += 1,
                Event::Archived { .. } => self.outcome.archived += 1,
                // The only copies are those of the checks, which judge their failures themselves.
                Event::Failed { task: Task::Copy, .. } => {}
                Event::Failed { task, error, .. } => {
                    self.outcome.failures.push(format!("the {task} failed: {error}"));
                }
                _ => {}
            }
        }
    }
}
