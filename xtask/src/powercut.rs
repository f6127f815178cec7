//! `cargo xtask powercut` is a program of its own, so that nobody builds its file system who does not run it.

use std::process::Command;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Flags: `--seconds S`, `--seed N`, `--json FILE`, `--dir DIR`, `--skip-if-missing`, `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--quiet", "--package", "ecsdb-powercut", "--"]).args(&args.flags);
    anyhow::ensure!(command.status()?.success(), "the power cuts failed");
    Ok(())
}
