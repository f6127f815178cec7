//! `ecsdb config`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use ecsdb::{PersistenceConfig, config};
use serde_json::{Value as Json, json};

use crate::output::Output;
use crate::place::{Place, SETTINGS, settings_in};

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
    /// Look for mistakes in a configuration file (or that of a database, or of none) and in the environment, strays included.
    ///
    ///   $ ecsdb config check world
    #[command(verbatim_doc_comment)]
    Check {
        /// A file, or the directory of a database.
        path: PathBuf,
    },
    /// The JSON Schema of the configuration file, for editors.
    ///
    ///   $ ecsdb config schema
    #[command(verbatim_doc_comment)]
    Schema,
    /// A configuration file with every setting, its meaning and its default.
    ///
    ///   $ ecsdb config example
    #[command(verbatim_doc_comment)]
    Example,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    match &options.what {
        What::Show { place } => show(place, out),
        What::Check { path } => check(path, out),
        What::Schema if out.is_json() => out.json(&serde_json::from_str(&config::schema())?),
        What::Schema => Ok(out.raw().write_all(config::schema().as_bytes())?),
        What::Example if out.is_json() => out.json(&json!({ "example": config::example() })),
        What::Example => Ok(out.raw().write_all(config::example().as_bytes())?),
    }
}

fn check(path: &Path, out: &mut Output) -> Result<()> {
    let file = if path.is_dir() { settings_in(path) } else { Some(path.into()) };
    match &file {
        Some(file) => PersistenceConfig::check_file(file)?,
        None => PersistenceConfig::check_env(path)?,
    };
    if out.is_json() {
        return out.json(&json!({ "file": file }));
    }
    match file {
        Some(file) => out.line(format_args!("no mistakes in {} and the environment", file.display())),
        None => out.line(format_args!(
            "no mistakes in the environment; there is no {}",
            path.join(SETTINGS).display()
        )),
    }
}

fn show(place: &Place, out: &mut Output) -> Result<()> {
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
