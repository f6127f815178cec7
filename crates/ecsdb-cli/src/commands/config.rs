//! `ecsdb config`

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::output::Output;
use crate::place::Place;

/// Options of `config`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The settings that hold for a database: defaults, its file, and the environment over them.
    ///
    ///   $ ecsdb config show world
    #[command(verbatim_doc_comment)]
    Show {
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let What::Show { place } = &options.what;
    let (config, _) = place.config()?;
    let config = serde_json::to_value(&config)?;
    if out.is_json() {
        return out.json(&json!({ "config": config }));
    }
    let mut rows = Vec::new();
    flat("", &config, &mut rows);
    out.table(&["setting", "value"], rows)
}

/// Settings by their full names.
fn flat(name: &str, value: &Json, rows: &mut Vec<Vec<String>>) {
    match value {
        Json::Object(section) => {
            for (key, value) in section {
                flat(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, rows);
            }
        }
        Json::String(text) => rows.push(vec![name.into(), text.clone()]),
        Json::Null => rows.push(vec![name.into(), String::new()]),
        other => rows.push(vec![name.into(), other.to_string()]),
    }
}
