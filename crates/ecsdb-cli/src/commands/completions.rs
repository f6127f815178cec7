//! `ecsdb completions`

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use crate::Cli;
use crate::output::Output;

/// Options of `completions`.
#[derive(Args)]
pub(crate) struct Options {
    /// For which shell.
    shell: Shell,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    // It is written by code that panics when it cannot be.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "ecsdb", &mut script);
    if out.is_json() {
        return out.json(&json!({ "script": String::from_utf8(script)? }));
    }
    std::io::Write::write_all(out.raw(), &script)?;
    Ok(())
}
