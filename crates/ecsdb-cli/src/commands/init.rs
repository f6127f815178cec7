//! `ecsdb init`

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use ecsdb::RecoveryError;
use ecsdb_compactor::Claim;
use ecsdb_io::Disk;
use serde_json::json;

use crate::output::{self, Output};
use crate::place::{Place, Settled};
use crate::target::Taken;
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
    // It is too short to be interrupted: whole, or not begun.
    interrupt::hold();
    if options.dry_run {
        let dry = settled.dry()?;
        make(&dry, &Claim::take(dry.files(), &layout, &layout.unfinished_file())?)?;
    } else {
        let taken = Taken::of_database(Arc::new(Disk), &layout)?;
        make(&settled, &taken.claim).or_else(|e| taken.give_up(e))?;
    }
    if out.is_json() {
        return out.json(&json!({ "dir": output::path(dir), "made": !options.dry_run }));
    }
    let made = if options.dry_run { "would be made" } else { "was made" };
    out.line(format_args!("an empty database {made} in {}", dir.display()))
}

fn make(settled: &Settled, claim: &Claim<'_>) -> Result<()> {
    // What another attempt has left unfinished is for that to go on with.
    if claim.unfinished {
        return Err(RecoveryError::Unfinished { dir: settled.config.dir.clone() }.into());
    }
    settled.create(claim)
}
