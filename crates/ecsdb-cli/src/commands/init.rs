//! `ecsdb init`

use anyhow::Result;
use clap::Args;
use ecsdb::RecoveryError;
use ecsdb_io::Disk;
use ecsdb_recovery::look;
use serde_json::json;

use crate::output::{self, Output};
use crate::place::Place;
use crate::{interrupt, target};

/// Options of `init`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Say whether it could be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let dir = &options.place.dir;
    target::refuse(None, dir)?;
    target::no_file(dir)?;
    let settled = options.place.settle_new()?;
    let layout = settled.layout()?;
    target::refuse_elsewhere(&layout)?;
    match look(&Disk, &layout) {
        Ok(_) => return Err(RecoveryError::DatabaseExists { dir: dir.clone() }.into()),
        Err(RecoveryError::NoDatabase { .. }) => {}
        Err(RecoveryError::Io(e)) if e.is_not_found() => {}
        Err(other) => return Err(other.into()),
    }
    target::for_database(dir)?;
    layout.data_dirs().into_iter().try_for_each(target::can_write)?;
    if !options.dry_run {
        // It is too short to be interrupted: whole, or not begun.
        interrupt::hold();
        settled.create()?;
    }
    if out.is_json() {
        return out.json(&json!({ "dir": output::path(dir), "made": !options.dry_run }));
    }
    let made = if options.dry_run { "would be made" } else { "was made" };
    out.line(format_args!("an empty database {made} in {}", dir.display()))
}
