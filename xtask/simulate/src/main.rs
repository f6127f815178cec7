//! The whole engine from one seed: simulated disk, simulated clock, scheduled threads. Started by `cargo xtask simulate` and
//! `cargo xtask shuttle`, which set `--cfg ecsdb_simulated`.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "a tool stands beside the engine: its own files are not its files"
)]

#[cfg(ecsdb_simulated)]
mod campaign;
#[cfg(ecsdb_simulated)]
mod checks;
#[cfg(ecsdb_simulated)]
mod damage;
#[cfg(ecsdb_simulated)]
mod history;
#[cfg(ecsdb_simulated)]
mod life;
#[cfg(ecsdb_simulated)]
mod machine;
#[cfg(ecsdb_simulated)]
mod plan;
#[cfg(ecsdb_simulated)]
mod run;
#[cfg(ecsdb_simulated)]
mod scheduler;
#[cfg(ecsdb_simulated)]
mod worlds;

#[cfg(ecsdb_simulated)]
fn main() -> anyhow::Result<()> {
    use clap::Parser;
    /// The whole engine under a seeded scheduler.
    #[derive(Parser)]
    enum Cli {
        /// Whole lives of databases, with faults, crashes and damage.
        Simulate(campaign::Args),
        /// Small checks of what threads do to one another.
        Shuttle(checks::Args),
    }
    match Cli::parse() {
        Cli::Simulate(args) => campaign::run(&args),
        Cli::Shuttle(args) => checks::run(&args),
    }
}

#[cfg(not(ecsdb_simulated))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("this is started by `cargo xtask simulate`, which builds the engine over simulated threads")
}
