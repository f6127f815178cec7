//! `cargo xtask bench instructions`: the hot paths under callgrind, with bounds.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::tools::{cargo, installed};

/// The version that the package of the benchmarks names.
const RUNNER: &str = "gungraun-runner@0.20.0";

pub(super) fn run() -> anyhow::Result<()> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no valgrind on this machine");
        return Ok(());
    }
    let status = cargo()
        .args(["bench", "--quiet", "--package", "ecsdb-bench-instructions"])
        .env("GUNGRAUN_RUNNER", installed(RUNNER)?)
        .status()
        .context("cargo bench")?;
    ensure!(status.success(), "a path takes more instructions than its bound allows, or none was counted");
    Ok(())
}
