//! `cargo xtask soak`: a database at full load for as long as is asked for, with all that happens in the background,
//! closed and reopened every minute. What it says about itself is checked against what was seen before.

mod check;
mod load;
mod plot;
mod run;
mod sample;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ecsdb::{ByteSize, PersistenceConfig};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Where the database is made; a directory below `target` that is removed again unless set. It must be empty.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For the same choices again; how the threads take turns is not repeated.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Entities, about.
    #[arg(long, default_value_t = 400_000)]
    entities: usize,
    /// Draw the disk use over time into this PNG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Write the samples of each second into this file: as CSV if its name ends so, else as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.minutes > 0.0, "a soak takes some time: --minutes {}", args.minutes);
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    std::fs::create_dir_all("target")?;
    // For the copies that are restored, and for the database unless it has a place of its own.
    let scratch = tempfile::Builder::new().prefix("soak-").tempdir_in("target")?;
    let dir = args.dir.clone().unwrap_or_else(|| scratch.path().join("database"));
    let empty = !dir.exists() || std::fs::read_dir(&dir)?.next().is_none();
    anyhow::ensure!(empty, "{} is not empty", dir.display());

    let outcome = run::run(&dir, scratch.path(), time, args.seed, args.entities)?;
    if let Some(path) = &args.json {
        sample::write(&outcome.samples, path).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&outcome.samples, path).with_context(|| format!("drawing {}", path.display()))?;
    }
    summary::print(&outcome);
    summary::verdict(&outcome)
}

/// Everything small and often, so that a run of minutes sees as much as days of a real database.
fn configure(config: &mut PersistenceConfig) {
    config.log.segment_bytes_first = ByteSize::mib(1);
    config.log.segment_bytes_max = ByteSize::mib(8);
    config.snapshot.after_log_bytes = ByteSize::mib(48);
    config.snapshot.interval = Duration::from_secs(10);
    config.snapshot.chain_max = 6;
    config.archive.enabled = Some(true);
    config.retention.bytes_max = ByteSize::mib(256);
    config.compaction.interval = Duration::from_secs(40);
    config.compaction.dead_fraction_max = 0.6;
}

fn builder(dir: &Path) -> ecsdb::Builder {
    ecsdb::Database::builder(dir).config(configure)
}
