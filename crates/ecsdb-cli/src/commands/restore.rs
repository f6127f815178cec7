//! `ecsdb restore`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::Moment;
use indicatif::HumanBytes;

use super::copy;
use crate::output::Output;
use crate::place::{Place, When};
use crate::{failure, target};

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
    let settled = place.settle()?;
    let own = settled.layout()?;
    let layout = target::for_copy(Some(&own), to)?;
    let elsewhere = copy::elsewhere(&layout)?;
    let copying = || format!("copying {}", place.dir.display());
    let (seen, kept) =
        settled.look(|look| Ok((look.see(moment)?, look.manifest.kept))).with_context(copying)?;
    let info = copy::write(seen.view.clone(), &layout, &settled.config, kept, dry_run)?;
    elsewhere.iter().for_each(|other| failure::warn(other));
    if out.is_json() {
        return out.json(&copy::json(to, info.as_ref(), seen.json()));
    }
    let (to, state) = (to.display(), seen.line());
    match info {
        Some(info) => out.line(format_args!("{to} is the database {state} ({})", HumanBytes(info.bytes)))?,
        None => out.line(format_args!("{to} would be the database {state}"))?,
    }
    match &settled.file {
        Some(file) => out.line(format_args!("the settings in {} are no part of it", file.display())),
        None => Ok(()),
    }
}
