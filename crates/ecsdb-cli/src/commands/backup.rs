//! `ecsdb backup`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ecsdb::Moment;

use super::restore::copy_of;
use crate::output::Output;
use crate::place::Place;

/// Options of `backup`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// The backup's directory: not there yet, or empty.
    to: PathBuf,
    /// Say which state it would be, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    copy_of(&options.place, &options.to, Moment::Latest, options.dry_run, out)
}
