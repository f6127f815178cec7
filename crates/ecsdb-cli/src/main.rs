//! The command line of ecsdb.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool's own files are not the engine's")]

mod demo;
mod files;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use files::{Place, When};

#[derive(Parser)]
#[command(name = "ecsdb", version, about = "An embedded Entity-Component-System database")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay every 2013 flight out of New York into a digital twin, killing it on the way.
    Demo(demo::Options),
    /// The process that `demo` kills.
    #[command(hide = true)]
    DemoChild(demo::ChildOptions),
    /// Show what a database has. Opens it as a program would, so that a log that was not closed is recovered.
    Info {
        #[command(flatten)]
        place: Place,
    },
    /// Read and check every file of a database, and change nothing.
    Verify {
        #[command(flatten)]
        place: Place,
    },
    /// Take a snapshot; what it makes superfluous is archived and deleted as the settings say.
    Snapshot {
        #[command(flatten)]
        place: Place,
    },
    /// Merge log and snapshots into one full snapshot; what it covers is deleted as far as the settings do not keep it.
    Compact {
        #[command(flatten)]
        place: Place,
    },
    /// Write a database as it was at some moment (the last one unless said otherwise) into a new directory: a backup, too.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The new directory.
        to: PathBuf,
        #[command(flatten)]
        when: When,
    },
    /// Keep everything of a damaged database that verifies, set the rest aside, and list what is lost.
    Salvage {
        #[command(flatten)]
        place: Place,
    },
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error")),
        )
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::DemoChild(options) => demo::child(&options),
        Command::Info { place } => files::info(&place),
        Command::Verify { place } => files::verify(&place),
        Command::Snapshot { place } => files::snapshot(&place),
        Command::Compact { place } => files::compact(&place),
        Command::Restore { place, to, when } => files::restore(&place, &to, &when),
        Command::Salvage { place } => files::salvage(&place),
    }
}
