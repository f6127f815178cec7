//! `ecsdb init`

use anyhow::Result;
use clap::Args;
use ecsdb::RecoveryError;
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
    let (settled, layout) = target::for_database(&options.place)?;
    // What another attempt has left unfinished is for that to go on with.
    if target::is_unfinished(&layout) {
        return Err(RecoveryError::Unfinished { dir: dir.clone() }.into());
    }
    if !options.dry_run {
        // It is too short to be interrupted: whole, or not begun.
        interrupt::hold();
        let made = target::missing_of(&layout);
        settled.create().or_else(|e| target::give_up(&layout, &made, e))?;
    }
    if out.is_json() {
        return out.json(&json!({ "dir": output::path(dir), "made": !options.dry_run }));
    }
    let made = if options.dry_run { "would be made" } else { "was made" };
    out.line(format_args!("an empty database {made} in {}", dir.display()))
}
