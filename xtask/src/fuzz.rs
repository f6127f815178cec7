//! `cargo xtask fuzz`: libFuzzer over every decoder, over damaged databases, and over sequences of operations, with the corpus of the
//! repository. Needs nightly Rust; `cargo-fuzz` is installed below `target` where it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::tools::installed;

/// Where the targets and their corpus lie.
const DIR: &str = "tests/fuzz";
const TARGETS: [&str; 5] = ["decoders", "change_set", "image", "operations", "config"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets.
    #[arg(long)]
    only: Vec<String>,
    /// Seconds, shared out evenly.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// For the same inputs again, as far as the corpus is the same.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Keep new inputs that reached new code in the repository's corpus.
    #[arg(long)]
    grow: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !Command::new("cargo")
        .args(["+nightly", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        println!("SKIPPED: no nightly toolchain on this machine (`rustup toolchain install nightly`)");
        return Ok(());
    }
    let tool = tool()?;
    for name in &args.only {
        ensure!(
            TARGETS.contains(&name.as_str()),
            "there is no target {name}; there are {}",
            TARGETS.join(", ")
        );
    }
    let chosen: Vec<&str> = TARGETS
        .into_iter()
        .filter(|target| args.only.is_empty() || args.only.iter().any(|only| only == target))
        .collect();
    let seconds = (args.seconds / chosen.len() as u64).max(1);
    let mut failed = Vec::new();
    for target in chosen {
        let corpus = Path::new(DIR).join("corpus").join(target);
        // The first directory gets what is new.
        let new = Path::new("target/fuzz/new").join(target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&new)?;
        let begun = Instant::now();
        let mut command = Command::new(&tool);
        command.args(["run", "--fuzz-dir", DIR, target]);
        match args.grow {
            true => command.arg(&corpus),
            false => command.arg(&new).arg(&corpus),
        };
        command.arg("--").args([
            format!("-max_total_time={seconds}"),
            format!("-seed={}", args.seed),
            format!("-artifact_prefix=target/fuzz/{target}-"),
            "-timeout=20".into(),
            "-rss_limit_mb=1024".into(),
            "-print_final_stats=1".into(),
        ]);
        command
            .env("CARGO_TARGET_DIR", std::env::current_dir()?.join("target/fuzz"))
            .env("RUSTUP_TOOLCHAIN", "nightly");
        let output = command.output().context("cargo fuzz")?;
        let text = String::from_utf8_lossy(&output.stderr);
        let stat = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
            line.map_or_else(|| "?".into(), |value| value.trim().to_string())
        };
        println!(
            "{target:<12} {:>10} inputs in {:>4.0} s, {} new, {} MiB at most",
            stat("number_of_executed_units"),
            begun.elapsed().as_secs_f64(),
            stat("new_units_added"),
            stat("peak_rss_mb"),
        );
        if !output.status.success() {
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("found something: {}; the input lies below target/fuzz", failed.join(", "));
    }
    Ok(())
}

/// `cargo-fuzz`, installed if need be.
fn tool() -> anyhow::Result<PathBuf> {
    let everywhere = PathBuf::from("cargo-fuzz");
    if Command::new(&everywhere).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(everywhere);
    }
    installed("cargo-fuzz")
}
