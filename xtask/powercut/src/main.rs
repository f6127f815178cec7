//! `cargo xtask powercut`: a process writes a known history on a file system that records all it does. The power is cut at thousands of points of
//! the record; what was not synced survives in part or not at all, and what is left must open with all that was acknowledged before.
//!
//! The directories are mounted with FUSE, so that the process and the engine in it are what they are anywhere else.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tools stand beside the engine: their own files are not its files"
)]

mod cuts;
mod disk;
mod fuse;
mod summary;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use cuts::{CONTROLS, Generation, Place};
use disk::Class;
use summary::Summary;

/// Processes one after another, each on what a cut left of the one before.
const GENERATIONS: usize = 5;
/// Cuts of each process's record.
const CUTS: usize = 80;
const CONTROL_CUTS: usize = 12;

#[derive(Parser)]
#[command(
    name = "cargo xtask powercut",
    about = "Power cuts, on a file system that loses what was not synced"
)]
struct Cli {
    #[command(subcommand)]
    process: Option<Process>,
    #[command(flatten)]
    args: Args,
}

#[derive(clap::Subcommand)]
enum Process {
    /// The process that writes a known history.
    #[command(hide = true)]
    Witness(ecsdb_witness::Args),
}

#[derive(clap::Args)]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// For the same choices again; how the threads take turns is not repeated.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where it mounts, and where what is left is judged; a file system in memory is as good, and faster.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Write the figures into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Succeed where there is no FUSE.
    #[arg(long)]
    skip_if_missing: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.process {
        Some(Process::Witness(args)) => ecsdb_witness::run(args),
        None => run(&cli.args),
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let scratch = tempfile::Builder::new().prefix("powercut-").tempdir_in(&args.dir)?;
    if let Err(e) = cuts::try_mount(scratch.path()) {
        let why = format!(
            "no file system can be mounted here (it needs /dev/fuse, and fuse3 unless run by root): {e}"
        );
        anyhow::ensure!(args.skip_if_missing, "{why}");
        println!("SKIPPED: {why}");
        return Ok(());
    }
    let bar = ProgressBar::new(args.seconds as u64);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}")?);
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut summary = Summary::new(args.seed);
    let (started, time) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    let mut failed = None;
    'histories: while started.elapsed() < time {
        let mut place = Place::new(scratch.path(), random.u64(..));
        for _ in 0..GENERATIONS {
            bar.set_position(started.elapsed().as_secs());
            bar.set_message(format!("{} processes, {} cuts", summary.processes, summary.cuts));
            let generation = place.record(&mut random)?;
            summary.processes += 1;
            for class in CONTROLS {
                control(&place, &generation, class, &mut random, &mut summary)?;
            }
            match place.cuts(&generation, None, CUTS, &mut random, &mut summary) {
                Ok(()) => {}
                Err(e) => {
                    failed = Some(e);
                    break 'histories;
                }
            }
            if started.elapsed() >= time {
                break 'histories;
            }
            place.go_on(&generation, &mut random)?;
        }
    }
    bar.finish_and_clear();
    summary.seconds = started.elapsed().as_secs_f64();
    summary.failure = failed.as_ref().map(|e| format!("{e:#}"));
    summary.print();
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&summary)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if failed.is_some() {
        anyhow::bail!(
            "seed {}; what the smallest cut left is in {}",
            args.seed,
            scratch.keep().join(cuts::LEFT).display()
        );
    }
    summary.verdict()
}

/// A disk that lies about one class of syncs must be caught.
fn control(
    place: &Place,
    generation: &Generation,
    class: Class,
    random: &mut fastrand::Rng,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut own = Summary::new(0);
    let caught = place.clone_claims().cuts(generation, Some(class), CONTROL_CUTS, random, &mut own).is_err();
    summary.control(class, caught);
    Ok(())
}
