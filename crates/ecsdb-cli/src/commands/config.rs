//! `ecsdb config`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use ecsdb::{ByteSize, PersistenceConfig, RecoveryError, RetentionSettings, config};
use ecsdb_io::Disk;
use ecsdb_recovery::look;
use ecsdb_snapshot::Kept;
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::place::{Place, SETTINGS, Settled, check_dir, settings_in};

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
        Some(file) if path.is_dir() => PersistenceConfig::check_file_for(file, path)?,
        Some(file) => PersistenceConfig::check_file(file)?,
        None => PersistenceConfig::check_env(path)?,
    };
    if path.is_dir() {
        check_dir(&config, file.as_deref(), path)?;
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
    let Settled { mut config, .. } = place.settle()?;
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
    let noted = match look(&Disk, &layout) {
        Ok(manifest) => Ok(Noted(manifest.kept)),
        Err(RecoveryError::NoDatabase { .. }) => Ok(Noted(Kept::default())),
        Err(e) => Err(e),
    };
    if out.is_json() {
        let noted = noted.ok().map(|noted| noted.json());
        return out.json(&json!({ "config": serde_json::to_value(&config)?, "noted": noted }));
    }
    // Nobody has said it: as a setting it would hold for commands that give nothing up unless somebody says so.
    if config.archive.enabled.is_none() || !config.retention.is_said() {
        out.line(match noted {
            Ok(noted) => noted.comment(),
            Err(e) => format!("# What is noted of archive.enabled and retention cannot be read: {e}")
                .replace('\n', " "),
        })?;
    }
    Ok(out.raw().write_all(config.to_toml().as_bytes())?)
}

/// What a database has noted of archive and retention.
struct Noted(Kept);

impl Noted {
    fn limits(&self) -> RetentionSettings {
        let Kept { snapshots_max, age_max_ns, bytes_max, .. } = self.0;
        let mut limits = RetentionSettings::default();
        limits.unlimited = snapshots_max == u64::MAX;
        if !limits.unlimited {
            limits.snapshots_max = usize::try_from(snapshots_max).unwrap_or(usize::MAX);
            limits.age_max = Duration::from_nanos(age_max_ns);
            limits.bytes_max = ByteSize(bytes_max);
        }
        limits
    }

    fn json(&self) -> Json {
        let enabled = (self.0 != Kept::default()).then_some(self.0.archive != 0);
        json!({ "archive": { "enabled": enabled }, "retention": self.limits() })
    }

    fn comment(&self) -> String {
        if self.0 == Kept::default() {
            return "# Nothing was ever said of archive.enabled and retention: programs keep what recovery needs, and ecsdb's commands keep all."
                .into();
        }
        let mut said = vec![format!("archive.enabled = {}", self.0.archive != 0)];
        // Text is quoted in JSON as it is in TOML.
        if let Json::Object(limits) = json!(self.limits()) {
            let set =
                limits.iter().filter(|(_, limit)| !limit.is_boolean() && **limit != 0 || **limit == true);
            said.extend(set.map(|(name, limit)| format!("retention.{name} = {limit}")));
        }
        format!(
            "# Noted in the database, and for programs what holds where nothing is said: {}. ecsdb's commands keep all then.",
            said.join(", ")
        )
    }
}
