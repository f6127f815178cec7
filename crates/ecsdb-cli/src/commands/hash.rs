//! `ecsdb hash`

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::output::Output;
use crate::place::{Place, When};

/// Options of `hash`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    when: When,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let seen = options.place.settle()?.see(options.when.moment())?;
    let digest = seen.view.digest()?.to_string();
    if out.is_json() {
        return out.json(&json!({ "state": seen.json(), "digest": digest }));
    }
    out.line(format_args!("{digest}  {}", seen.line()))
}
