//! `ecsdb restore`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::Moment;
use indicatif::HumanBytes;

use super::copy;
use crate::output::Output;
use crate::place::{Place, When};
use crate::target;

/// Options of `restore`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// The new directory: not there yet, or empty.
    to: PathBuf,
    #[command(flatten)]
    when: When,
    /// Say which state it would be, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    copy_of(&options.place, &options.to, options.when.moment(), options.dry_run, out)
}

/// Writes the database as it was at a moment into a new directory.
pub(crate) fn copy_of(
    place: &Place,
    to: &Path,
    moment: Moment,
    dry_run: bool,
    out: &mut Output,
) -> Result<()> {
    let (config, _) = place.config()?;
    let own = config.layout_in(&ecsdb_io::Disk)?;
    target::for_copy(Some(&own), to)?;
    let seen = place.see(moment).with_context(|| format!("copying {}", place.dir.display()))?;
    let info = match dry_run {
        true => None,
        false => Some(copy::write(seen.view.clone(), Some(&own), &config, to)?),
    };
    if out.is_json() {
        return out.json(&copy::json(to, info.as_ref(), seen.json()));
    }
    let (to, state) = (to.display(), seen.line());
    match info {
        Some(info) => out.line(format_args!("{to} is the database {state} ({})", HumanBytes(info.bytes))),
        None => out.line(format_args!("{to} would be the database {state}")),
    }
}
