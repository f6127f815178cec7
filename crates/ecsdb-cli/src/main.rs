//! The command line of ecsdb.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool's own files are not the engine's")]

mod demo;

use clap::{Parser, Subcommand};

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
    }
}
