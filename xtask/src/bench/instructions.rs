//! `cargo xtask bench instructions`: the hot paths under callgrind, with bounds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

/// The version that the package of the benchmarks names.
const RUNNER: &str = "gungraun-runner@0.20.0";

pub(super) fn run() -> anyhow::Result<()> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no valgrind on this machine");
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&cargo)
        .args(["bench", "--quiet", "--package", "ecsdb-bench-instructions"])
        .env("GUNGRAUN_RUNNER", runner()?)
        .status()
        .context("cargo bench")?;
    ensure!(status.success(), "a path takes more instructions than its bound allows, or none was counted");
    Ok(())
}

fn runner() -> anyhow::Result<PathBuf> {
    let own = std::env::current_dir()?.join("target/tools/bin/gungraun-runner");
    if !own.is_file() {
        println!("installing {RUNNER} below target/tools");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["install", RUNNER, "--locked", "--root", "target/tools"])
            .status()
            .context("cargo install")?;
        ensure!(status.success(), "{RUNNER} cannot be installed");
    }
    Ok(own)
}
