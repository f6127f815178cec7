//! What contributors run: `cargo xtask floors`, `bench`, and the attackers.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tools stand beside the engine: their own files are not its files"
)]

mod bench;
mod corrupt;
mod crashpoints;
mod floors;
mod font;
mod fuzz;
mod kill;
mod mutants;
mod powercut;
mod simulated;
mod soak;
mod tools;

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
    /// Give any bytes to every decoder, damage databases, try sequences of operations (libFuzzer; needs nightly).
    Fuzz(fuzz::Args),
    /// Measure speed and size, each against a reference taken in the same run.
    Bench(bench::Args),
    /// Damage databases in every way, bit by bit, and open them under every policy.
    Corrupt(corrupt::Args),
    /// Crash scripts after each storage operation, with every subset of what was un-synced.
    Crashpoints(crashpoints::Args),
    /// Break each rule on purpose, in a copy of the sources, and see that a test falls.
    Mutants(mutants::Args),
    /// The whole engine from one seed after another: simulated disk, clock and threads, with faults, crashes and damage.
    #[command(disable_help_flag = true)]
    Simulate(simulated::Args),
    /// A small model of manifest, truncation, archive and compaction, checked exhaustively, and with deliberate breaks.
    Model,
    /// Small checks of what threads do to one another, under many schedules.
    #[command(disable_help_flag = true)]
    Shuttle(simulated::Args),
    /// Run under mixed load for long, with kills, faults and reopenings, and check that nothing is lost and that nothing grows.
    Soak(soak::Args),
    /// Kill processes at random moments and at system calls, let system calls fail, and check that nothing acknowledged is lost.
    Kill(kill::Args),
    /// Cut the power at points of a record, lose what was not synced, and check that nothing acknowledged is lost.
    Powercut(powercut::Args),
    /// The process that `soak` watches and kills.
    #[command(hide = true)]
    SoakChild(soak::ChildArgs),
    /// The process that writes a known history.
    #[command(hide = true)]
    Witness(ecsdb_witness::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floors => floors::check(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Corrupt(args) => corrupt::run(&args),
        Command::Crashpoints(args) => crashpoints::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Model => simulated::model(),
        Command::Simulate(args) => simulated::run("simulate", &args),
        Command::Shuttle(args) => simulated::run("shuttle", &args),
        Command::Soak(args) => soak::run(&args),
        Command::SoakChild(args) => soak::child(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Powercut(args) => powercut::run(&args),
        Command::Witness(args) => ecsdb_witness::run(&args),
    }
}
