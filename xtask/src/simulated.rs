//! `cargo xtask simulate` and `cargo xtask shuttle`: build the engine over simulated locks, threads and clock (`ecsdb_io::sync`), in a
//! directory of its own, and run what `xtask/simulate` does with it.

use anyhow::ensure;

use crate::tools::cargo_run;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on; `--help` shows what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(what: &str, args: &Args) -> anyhow::Result<()> {
    let mut command = cargo_run("ecsdb-simulate");
    command.args(["--", what]).args(&args.args);
    command.env("RUSTFLAGS", "--cfg ecsdb_simulated").env("CARGO_TARGET_DIR", "target/simulated");
    ensure!(command.status()?.success(), "`{what}` has found something");
    Ok(())
}

/// `cargo xtask model`, a program of its own so that nobody builds a model checker who does not use it.
pub(crate) fn model() -> anyhow::Result<()> {
    ensure!(
        cargo_run("ecsdb-models").status()?.success(),
        "the model does not hold, or a break of it is not noticed"
    );
    Ok(())
}
