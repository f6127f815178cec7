//! `cargo xtask bench peers`: durable stores for Rust beside one another, with the same values and the same promise, in one run.

#![allow(
    clippy::disallowed_methods,
    reason = "tools stand beside the engine: their own files are not its files"
)]

#[path = "../../src/font.rs"]
mod font;
mod page;
mod rows;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rows::ROWS;
use store::Kind;

#[derive(Parser)]
#[command(name = "cargo xtask bench peers")]
struct Args {
    /// Where Markdown, JSON and plot are written.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Measure only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of all stores; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Values in each store.
    #[arg(long, default_value_t = 1_000_000)]
    values: u64,
    /// Seconds that a rate is measured for.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Commit until killed: what a child process of this one does.
    #[arg(long, hide = true, requires = "home")]
    child: Option<Kind>,
    #[arg(long, hide = true)]
    home: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(kind), Some(home)) = (args.child, &args.home) {
        return rows::commit_until_killed(kind, home, args.values);
    }
    // On the disk of the build directory, which is a real one where /tmp may not be.
    std::fs::create_dir_all("target")?;
    let dir = tempfile::Builder::new().prefix("bench-peers-").tempdir_in("target")?;
    eprintln!("loading {} values into each …", args.values);
    for kind in Kind::ALL {
        rows::load(kind, dir.path(), args.values)?;
    }
    let time = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let mut measured = Vec::new();
    for row in ROWS.iter().filter(|row| row.name.contains(&args.only)) {
        eprintln!("{} …", row.name);
        let mut rounds = vec![Vec::new(); Kind::ALL.len()];
        for _ in 0..args.rounds.max(1) {
            for (kind, seen) in Kind::ALL.into_iter().zip(&mut rounds) {
                seen.push(row.measure(kind, dir.path(), args.values, time)?);
            }
        }
        measured.push(page::Measured::new(row, rounds));
    }
    page::print(&measured);
    if let Some(output) = &args.output {
        page::write(output, &measured, args.values, args.rounds)?;
    }
    Ok(())
}
