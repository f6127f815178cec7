//! `cargo xtask powercut` is a program of its own, so that nobody builds its file system who does not run it.

use crate::tools::cargo_run;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Flags: `--seconds S`, `--seed N`, `--json FILE`, `--dir DIR`, `--skip-if-missing`, `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cut = cargo_run("ecsdb-powercut").arg("--").args(&args.flags).status()?;
    anyhow::ensure!(cut.success(), "the power cuts failed");
    Ok(())
}
