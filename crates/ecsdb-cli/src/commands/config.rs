//! `ecsdb config`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use ecsdb::{ByteSize, PersistenceConfig, RetentionSettings, config};
use ecsdb_io::Disk;
use ecsdb_recovery::look;
use ecsdb_snapshot::Kept;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::place::{Place, SETTINGS, check_dir, settings_in};

/// Options of `config`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the settings that hold for a database, as a configuration file: defaults, its file, and the environment over them.
    #[command(after_help = "Example:\n  $ ecsdb config show world")]
    Show {
        #[command(flatten)]
        place: Place,
    },
    /// Look for mistakes in a configuration file, or that of a database, and in the environment, strays included.
    #[command(after_help = "Example:\n  $ ecsdb config check world")]
    Check {
        /// A file, or the directory of a database, which need not have one.
        path: PathBuf,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    #[command(after_help = "Example:\n  $ ecsdb config schema")]
    Schema,
    /// Print a configuration file with every setting, its meaning and its default.
    #[command(after_help = "Example:\n  $ ecsdb config example")]
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
    let file = if path.is_dir() { settings_in(path)? } else { Some(path.into()) };
    let config = match &file {
        Some(file) => PersistenceConfig::check_file(file)?,
        None => PersistenceConfig::check_env(path)?,
    };
    if let Some(file) = file.as_deref().filter(|_| path.is_dir()) {
        check_dir(&config, file, path)?;
    }
    if out.is_json() {
        return out.json(&json!({ "file": file.as_deref().map(output::path) }));
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
    let (mut config, _) = place.config()?;
    let layout = config.layout_in(&Disk)?;
    // Where they are, not where they would be for somebody who stands elsewhere.
    config.dir = layout.root().into();
    config.wal.dir = Some(layout.log_dir().into());
    config.snapshot.dir = Some(layout.snapshot_dir().into());
    config.archive.dir = Some(layout.archive_dir().into());
    let dirs = [layout.root(), layout.log_dir(), layout.snapshot_dir(), layout.archive_dir()];
    if let Some(dir) = dirs.into_iter().find(|dir| dir.to_str().is_none()) {
        let dir = dir.display();
        return Err(
            Failure::Usage(format!("{dir} is no Unicode, and a file of settings cannot name it")).into()
        );
    }
    // What nobody says now is as it was said last. A directory without a database has no word of that.
    let noted = look(&Disk, &layout).map_or_else(|_| Kept::default(), |manifest| manifest.kept);
    config.archive.enabled.get_or_insert(noted.archive != 0);
    if config.retention == RetentionSettings::default() {
        config.retention.unlimited = noted.snapshots_max == u64::MAX;
        if !config.retention.unlimited {
            config.retention.snapshots_max = usize::try_from(noted.snapshots_max).unwrap_or(usize::MAX);
            config.retention.age_max = Duration::from_nanos(noted.age_max_ns);
            config.retention.bytes_max = ByteSize(noted.bytes_max);
        }
    }
    match out.is_json() {
        true => out.json(&json!({ "config": serde_json::to_value(&config)? })),
        false => Ok(out.raw().write_all(config.to_toml().as_bytes())?),
    }
}
