//! Other programs: cargo, packages of this workspace that are built by themselves, and what is installed below `target` where it is missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a package of this workspace that is not built with the others.
pub(crate) fn cargo_run(package: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--package", package]);
    command
}

/// The program of a package (with its version, or the newest one), below `target/tools`.
pub(crate) fn installed(package: &str) -> anyhow::Result<PathBuf> {
    let program = package.split('@').next().unwrap_or(package);
    let own = std::env::current_dir()?.join("target/tools/bin").join(program);
    if !own.is_file() {
        println!("installing {package} below target/tools");
        let installed = cargo().args(["install", package, "--locked", "--root", "target/tools"]).status();
        ensure!(installed.context("cargo install")?.success(), "{package} cannot be installed");
    }
    Ok(own)
}
