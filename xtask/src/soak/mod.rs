//! `cargo xtask soak`: a process with a database under mixed load for hours, with all that happens in the background, closed, reopened,
//! restored, reconfigured, struck by faults of the disk, and killed now and then. Another process keeps what it acknowledged, and judges.

mod check;
mod child;
mod faults;
mod judge;
mod lines;
mod load;
mod plot;
mod run;
mod sample;
mod state;
mod summary;
mod ticks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

pub(crate) use child::{Args as ChildArgs, run as child};
use state::State;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long; with `--resume`, how much longer, or 0 to sum up only.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Where the database and the state of the run are kept, to be resumed; a directory below `target` that is removed after success unless set.
    #[arg(long, conflicts_with = "resume")]
    dir: Option<PathBuf>,
    /// Go on with the run in this directory.
    #[arg(long)]
    resume: Option<PathBuf>,
    /// For the same choices again; how the threads take turns is not repeated.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Entities, about; 100,000 unless set, with `--ticks` 1,000,000.
    #[arg(long)]
    entities: Option<usize>,
    /// Which part of each second the load runs at full speed, from 0 to 1.
    #[arg(long, default_value_t = 0.25)]
    duty: f64,
    /// One process without faults instead, whose world ticks 60 times a second: how long the ticks take.
    #[arg(long, conflicts_with_all = ["resume", "duty", "seed"])]
    ticks: bool,
    /// Entities that each tick moves.
    #[arg(long, default_value_t = 100_000, requires = "ticks")]
    moving: usize,
    /// Draw what was measured over time into this PNG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Write the summary and the samples into this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let some = args.minutes > 0.0 || (args.minutes == 0.0 && args.resume.is_some());
    anyhow::ensure!(some, "a soak takes some time: --minutes {}", args.minutes);
    anyhow::ensure!(args.duty > 0.0 && args.duty <= 1.0, "--duty is above 0 and at most 1");
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let mut own = None;
    if args.ticks {
        let options = ticks::Options {
            time,
            entities: args.entities.unwrap_or(1_000_000),
            moving: args.moving,
            plot: args.plot.as_deref(),
            json: args.json.as_deref(),
        };
        return ticks::run(&empty_dir(args.dir.as_deref(), &mut own)?, &options);
    }
    let (dir, state) = if let Some(dir) = &args.resume {
        (dir.clone(), State::load(dir).with_context(|| format!("nothing to resume in {}", dir.display()))?)
    } else {
        let dir = empty_dir(args.dir.as_deref(), &mut own)?;
        (dir, State::new(args.seed, args.entities.unwrap_or(100_000), args.duty))
    };
    let samples_before = sample::read(&dir)?;
    let (state, samples) = run::run(&dir, time, state, samples_before)?;
    let summary = summary::Summary::new(&state, &samples);
    if let Some(path) = &args.json {
        let text =
            serde_json::to_string_pretty(&serde_json::json!({ "summary": summary, "samples": samples }))?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&sample::PANELS, &samples, path).with_context(|| format!("drawing {}", path.display()))?;
    }
    summary.print();
    let verdict = summary.verdict();
    if verdict.is_err()
        && let Some(own) = own
    {
        println!("seed {}; what it left is in {}", state.seed, own.keep().display());
    }
    verdict
}

/// That one, or one of its own, which goes away with `own`.
fn empty_dir(dir: Option<&Path>, own: &mut Option<TempDir>) -> anyhow::Result<PathBuf> {
    let Some(dir) = dir else {
        std::fs::create_dir_all("target")?;
        let made = tempfile::Builder::new().prefix("soak-").tempdir_in("target")?;
        return Ok(own.insert(made).path().to_path_buf());
    };
    let empty = !dir.exists() || std::fs::read_dir(dir)?.next().is_none();
    anyhow::ensure!(empty, "{} is not empty; --resume goes on with a run", dir.display());
    Ok(dir.to_path_buf())
}
