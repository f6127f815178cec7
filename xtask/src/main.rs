//! What contributors run: `cargo xtask floors`, `cargo xtask bench`.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tools stand beside the engine: their own files are not its files"
)]

mod bench;
mod floors;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The tools of ecsdb's contributors")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check that every crate depends on lower floors only.
    Floors,
    /// Measure speed and size, each against a reference taken in the same run.
    Bench {
        /// Also write the rows as JSON: a list of {name, value, unit, reference, ratio}.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Measure only rows whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Rounds of reference and measurement; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floors => floors::check(),
        Command::Bench { json, only, rounds } => bench::run(json.as_deref(), &only, rounds),
    }
}
