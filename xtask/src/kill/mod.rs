//! `cargo xtask kill`: processes that write real files and are killed, at random moments and at the n-th system call of each kind, or
//! whose n-th system call fails. A journal outside says what had been acknowledged.

mod strike;
mod summary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use ecsdb_witness::{Claims, History, judge};
use strike::{Ended, Strike, Strikes};
use summary::Summary;

/// Lives on one directory, each of which finds what the one before left.
const LIVES: u64 = 40;
const ROUNDS: usize = 8;
/// Tries for a smaller case.
const SHRINKING: u64 = 40;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long at most.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Stop after so many processes that were killed or struck by an error.
    #[arg(long, default_value_t = u64::MAX)]
    kills: u64,
    /// For the same choices again; how the threads take turns is not repeated.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the databases are made; a file system in memory is as good here, since its files outlive a process, and is faster.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Write the figures into this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let scratch = tempfile::Builder::new().prefix("kill-").tempdir_in(&args.dir)?;
    let mut random = fastrand::Rng::with_seed(args.seed);
    let strikes = Strikes::find(scratch.path(), ROUNDS)?;
    if strikes.without_strace() {
        println!("SKIPPED: no strace on this machine (apt-get install strace): kills at random moments only");
    }
    let mut summary = Summary::new(args.seed);
    let bar = ProgressBar::new(args.seconds as u64);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}")?);
    let started = Instant::now();
    let time = Duration::from_secs_f64(args.seconds);
    let mut failed = None;
    'directories: for number in 0.. {
        let mut place = Place::new(scratch.path().join(number.to_string()), random.u64(..))?;
        for _ in 0..LIVES {
            if started.elapsed() >= time || summary.struck() >= args.kills {
                break 'directories;
            }
            let (strike, seed) = (strikes.choose(&mut random), random.u64(..));
            bar.set_position(started.elapsed().as_secs());
            bar.set_message(format!("{} processes, {} struck", summary.lives, summary.struck()));
            if let Err(e) = place.life(&strike, seed, ROUNDS, &mut summary) {
                failed = Some((place, strike, seed, e));
                break 'directories;
            }
        }
        std::fs::remove_dir_all(&place.base)?;
    }
    bar.finish_and_clear();
    summary.seconds = started.elapsed().as_secs_f64();
    if let Some((place, strike, seed, e)) = &failed {
        summary.failure =
            Some(format!("{strike}, in life {} on its directory (seed {seed}): {e:#}", place.lives));
        summary.smallest = smaller(scratch.path(), strike, *seed);
    }
    summary.print();
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&summary)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some((place, ..)) = failed {
        let scratch = scratch.keep();
        let name = place.base.file_name().unwrap_or_default();
        anyhow::bail!("seed {}; what the process left is in {}", args.seed, scratch.join(name).display());
    }
    Ok(())
}

/// A directory, what was claimed of it, and its history.
struct Place {
    base: PathBuf,
    claims: Claims,
    seed: u64,
    history: History,
    lives: u64,
}

impl Place {
    fn new(base: PathBuf, seed: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&base)?;
        Ok(Place { base, claims: Claims::default(), seed, history: History::new(seed), lives: 0 })
    }

    /// A process from its start to its end, and the judgement. A copy is judged, so that the next process finds what this one left.
    fn life(
        &mut self,
        strike: &Strike,
        seed: u64,
        rounds: usize,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        self.lives += 1;
        self.claims.new_life();
        let arguments = strike::arguments(&self.base, self.seed, seed, rounds);
        let ended = strike.run(&arguments, &mut self.claims, &mut self.history)?;
        summary.count(strike, &ended, &self.claims);
        if let Ended::Wrongly(why) = ended {
            anyhow::bail!("{why}");
        }
        let copy = self.base.with_extension("judged");
        copy_dir(&self.base, &copy)?;
        judge(&copy, &self.claims, &mut self.history)?;
        std::fs::remove_dir_all(copy)?;
        let copies = self.base.join("copies");
        if copies.exists() {
            std::fs::remove_dir_all(copies)?;
        }
        self.claims.forget_copies();
        Ok(())
    }
}

/// Looks for the same on an empty directory, with fewer rounds and earlier calls.
fn smaller(scratch: &Path, strike: &Strike, seed: u64) -> Option<String> {
    let mut smallest = None;
    for n in 0..SHRINKING {
        let (strike, rounds) = (strike.earlier(n), 1 + (n as usize * ROUNDS / SHRINKING as usize));
        let mut place = Place::new(scratch.join("smaller"), seed).ok()?;
        let life = place.life(&strike, seed, rounds, &mut Summary::new(seed));
        std::fs::remove_dir_all(&place.base).ok()?;
        if let Err(e) = life {
            smallest = Some(format!("a new directory, {rounds} rounds, {strike} (seed {seed}): {e:#}"));
            break;
        }
    }
    smallest
}

fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
