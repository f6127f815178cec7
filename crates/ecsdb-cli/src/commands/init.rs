//! `ecsdb init`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ecsdb::{Database, RecoveryError};
use ecsdb_io::{Disk, Layout};
use ecsdb_recovery::look;
use serde_json::json;

use crate::output::Output;
use crate::target;

/// Options of `init`.
#[derive(Args)]
pub(crate) struct Options {
    /// The new database's directory, which is made where it is not there.
    dir: PathBuf,
    /// Say whether it could be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let dir = &options.dir;
    target::refuse(None, dir)?;
    if options.dry_run {
        match look(&Disk, &Layout::new(dir)) {
            Ok(_) => return Err(RecoveryError::DatabaseExists { dir: dir.clone() }.into()),
            Err(RecoveryError::NoDatabase { .. }) => {}
            Err(RecoveryError::Io(e)) if e.is_not_found() => {}
            Err(other) => return Err(other.into()),
        }
    } else {
        Database::create_new(dir)?.close()?;
    }
    if out.is_json() {
        return out.json(&json!({ "dir": dir, "made": !options.dry_run }));
    }
    let made = if options.dry_run { "would be made" } else { "was made" };
    out.line(format_args!("an empty database {made} in {}", dir.display()))
}
