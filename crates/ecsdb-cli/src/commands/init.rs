//! `ecsdb init`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ecsdb::Database;
use serde_json::json;

use crate::output::{self, Output};
use crate::target;

/// Options of `init`.
#[derive(Args)]
pub(crate) struct Options {
    /// The new database's directory: not there yet, or empty.
    dir: PathBuf,
    /// Say whether it could be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let dir = &options.dir;
    target::directory(None, dir)?;
    if !options.dry_run {
        Database::create_new(dir)?.close()?;
    }
    if out.is_json() {
        return out.json(&json!({ "dir": output::path(dir), "made": !options.dry_run }));
    }
    let made = if options.dry_run { "would be made" } else { "was made" };
    out.line(format_args!("an empty database {made} in {}", dir.display()))
}
