//! `cargo xtask bench`: speed and size, each row with its reference measured in the same run.

mod commits;
mod growth;
mod instructions;
mod lifecycle;
mod memory;
mod reopen;
mod replay;
mod report;
mod tick;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use ecsdb::{Component, Database, PersistenceConfig};

use crate::tools::cargo_run;
use report::Report;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    options: Options,
    /// Rounds of reference and measurement; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Subcommand)]
enum What {
    /// Entity operations beside hecs and bevy_ecs, which are built for it. `--help` after it shows its flags.
    Ecs {
        /// Flags of the benchmark: `--json FILE`, `--only ROW`, `--rounds N`, `--scale X`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Durable commits, ticks, opening and bytes beside SQLite, redb, fjall and LMDB, which are built for it. `--help` after it shows its flags.
    Peers {
        /// Flags of the benchmark: `--output DIR`, `--only ROW`, `--rounds N`, `--values N`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// How many instructions the hot paths take, counted by callgrind, each with a bound.
    Instructions,
    /// Commit, capture, pauses and opening of worlds of ten thousand to ten million entities.
    Growth {
        #[command(flatten)]
        options: Options,
        /// Rounds; the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Also draw them into this file.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// Snapshots, compaction and loading of a world of a gigabyte, in about six minutes.
    Lifecycle {
        #[command(flatten)]
        options: Options,
        /// Rounds of reference and measurement; the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Size of the world as a part of 1 GiB of components: 0.01 for a smoke test.
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
    },
}

#[derive(clap::Args)]
struct Options {
    /// Also write the rows as JSON: a list of {name, value, unit, reference, ratio}.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "bench.position", plain)]
#[repr(C)]
pub(crate) struct Position {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "bench.velocity", plain)]
#[repr(C)]
pub(crate) struct Velocity {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "bench.health", plain)]
#[repr(C)]
pub(crate) struct Health {
    pub(crate) now: u32,
    pub(crate) full: u32,
}

/// Entities of the large world.
pub(crate) const MILLION: usize = 1_000_000;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // On the disk of the build directory, which is a real one where /tmp may not be.
    std::fs::create_dir_all("target")?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in("target")?;
    match &args.what {
        None => measure(&args.options, args.rounds, |report| {
            commits::run(report, dir.path())?;
            tick::run(report, dir.path())?;
            memory::run(report, dir.path())?;
            reopen::run(report, dir.path())?;
            replay::run(report, dir.path())
        }),
        Some(What::Ecs { flags }) => beside("ecsdb-bench-ecs", flags),
        Some(What::Peers { flags }) => beside("ecsdb-bench-peers", flags),
        Some(What::Instructions) => instructions::run(),
        Some(What::Growth { options, rounds, plot }) => {
            measure(options, *rounds, |report| growth::run(report, dir.path(), plot.as_deref()))
        }
        Some(What::Lifecycle { options, rounds, scale }) => {
            measure(options, *rounds, |report| lifecycle::run(report, dir.path(), *scale))
        }
    }
}

/// Runs a benchmark that is a package of its own.
fn beside(package: &str, flags: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(cargo_run(package).arg("--").args(flags).status()?.success(), "the benchmark failed");
    Ok(())
}

fn measure(
    options: &Options,
    rounds: usize,
    rows: impl FnOnce(&mut Report) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut report = Report::new(&options.only, rounds);
    let measured = rows(&mut report);
    // What was measured before a failure is shown, too.
    report.print();
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    measured
}

/// Opens a database in which nothing happens that was not asked for, so that only what is meant is measured.
pub(crate) fn open_quiet(path: &Path) -> anyhow::Result<Database> {
    Ok(Database::builder(path).config(PersistenceConfig::manual).open()?)
}

/// Runs `f` until `time` has passed and gives its rate per second.
pub(crate) fn rate(time: Duration, mut f: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut n = 0u64;
    while started.elapsed() < time {
        f()?;
        n += 1;
    }
    Ok(n as f64 / started.elapsed().as_secs_f64())
}
