//! `cargo xtask simulate`: one seed after another, and a smaller case for each that fails.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use crate::life::{self, Ran};
use crate::machine::SHOWN;
use crate::plan::{Part, Plan};
use crate::run::under;
use crate::scheduler::Seeded;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many seeds.
    #[arg(long, default_value_t = u64::MAX)]
    seeds: u64,
    /// For so many seconds, at most.
    #[arg(long, default_value_t = 50)]
    seconds: u64,
    /// Where the figures go, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Threads of the machine, each with seeds of its own.
    #[arg(long)]
    jobs: Option<usize>,
    /// Show what each seed stands for.
    #[arg(long)]
    plan: bool,
}

/// Smaller cases that are tried for a failure.
const TRIES: u64 = 400;
/// Schedules that are tried for each.
const SCHEDULES: u64 = 3;
const FAILURES_MAX: usize = 5;

#[derive(Serialize, Default)]
struct Figures {
    first_seed: u64,
    seeds: u64,
    seconds: f64,
    seeds_per_second: f64,
    operations: u64,
    openings: u64,
    faults: u64,
    crashes: u64,
    damages: u64,
    salvaged: u64,
    refused: u64,
    /// The sum of all runs' hashes: equal for equal seeds, whatever thread of the machine ran them.
    trace: u64,
    failures: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    seed: u64,
    why: String,
}

/// Lives through a plan under the schedule of `schedule`.
pub(crate) fn lived(plan: &Plan, schedule: u64) -> Result<Ran, String> {
    let plan = plan.clone();
    under(Seeded::new(schedule), move || life::through(&plan))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    the_same_seed_gives_the_same_run(args.seed)?;
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds);
    let next = AtomicU64::new(0);
    let figures = Mutex::new(Figures { first_seed: args.seed, ..Figures::default() });
    let lock = || figures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || {
        while Instant::now() < until && lock().failures.len() < FAILURES_MAX {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= args.seeds {
                return;
            }
            let seed = args.seed.wrapping_add(n);
            let plan = Plan::new(seed);
            if args.plan {
                println!("seed {seed}: {plan}");
            }
            match lived(&plan, seed) {
                Ok(ran) => lock().add(ran),
                Err(why) => {
                    println!("seed {seed} fails: {why}\n");
                    lock().failures.push(Failed { seed, why });
                }
            }
            lock().seeds += 1;
        }
    };
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let mut figures = figures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    figures.seconds = began.elapsed().as_secs_f64();
    figures.seeds_per_second = figures.seeds as f64 / figures.seconds.max(0.001);
    figures.print();
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    if let Some(failed) = figures.failures.first() {
        shrink(failed.seed);
    }
    ensure!(figures.failures.is_empty(), "{} seeds fail", figures.failures.len());
    Ok(())
}

/// Bit for bit, whatever ran before and beside it.
fn the_same_seed_gives_the_same_run(seed: u64) -> anyhow::Result<()> {
    for seed in seed..seed.saturating_add(5) {
        let plan = Plan::new(seed);
        let (first, other, second) =
            (lived(&plan, seed), lived(&Plan::new(!seed), !seed), lived(&plan, seed));
        drop(other);
        ensure!(first == second, "seed {seed} gave {first:?} and then {second:?}");
    }
    println!("the same seed gives the same run: 5 seeds, each run twice, have equal traces");
    Ok(())
}

/// Leaves out what the failure does not need, and shows the rest.
fn shrink(seed: u64) {
    let mut plan = Plan::new(seed);
    let mut found = (seed, lived(&plan, seed).err().unwrap_or_default());
    let mut tries = 0;
    let mut fails = |plan: &Plan| {
        (0..SCHEDULES).find_map(|n| {
            tries += 1;
            let schedule = seed.wrapping_add(n);
            lived(plan, schedule).err().map(|why| (schedule, why))
        })
    };
    let mut size = plan.parts().len().div_ceil(2);
    let mut rounds = 0;
    while size > 0 && rounds < TRIES {
        let parts = plan.parts();
        let smaller = parts.chunks(size).find_map(|gone: &[Part]| {
            rounds += 1;
            let smaller = plan.without(gone);
            (rounds < TRIES).then(|| fails(&smaller)).flatten().map(|failure| (smaller, failure))
        });
        match smaller {
            Some((smaller, failure)) => (plan, found) = (smaller, failure),
            None => size /= 2,
        }
        size = size.min(plan.parts().len());
    }
    println!("the smallest case found in {tries} runs (schedule {}): {}\n{plan}", found.0, found.1);
    println!("what happens in it:");
    SHOWN.store(true, Ordering::Relaxed);
    drop(lived(&plan, found.0));
    SHOWN.store(false, Ordering::Relaxed);
}

impl Figures {
    fn add(&mut self, ran: Ran) {
        self.operations += ran.operations;
        self.openings += ran.openings;
        self.faults += ran.faults;
        self.crashes += ran.crashes;
        self.damages += ran.damages;
        self.salvaged += ran.salvaged;
        self.refused += ran.refused;
        self.trace = self.trace.wrapping_add(ran.trace);
    }

    fn print(&self) {
        println!(
            "{} seeds from {} in {:.1} s: {:.1} seeds/s; {} operations, {} openings, {} faults, {} crashes, {} damages \
             ({} salvaged, {} refused); trace {:016x}; {} failures",
            self.seeds,
            self.first_seed,
            self.seconds,
            self.seeds_per_second,
            self.operations,
            self.openings,
            self.faults,
            self.crashes,
            self.damages,
            self.salvaged,
            self.refused,
            self.trace,
            self.failures.len()
        );
    }
}
