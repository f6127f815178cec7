//! Where settings come from.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};

use crate::error::{Error, Result};
use crate::settings::PersistenceConfig;

/// What the names of environment variables begin with: `ECDB_SNAPSHOT_DIR` sets `snapshot.dir`, and `ECDB_DIR`
/// sets `dir`.
pub const ENVIRONMENT_PREFIX: &str = "ECDB_";

impl PersistenceConfig {
    /// The settings of a TOML file, and over them those of the environment. `dir` is the file's own directory unless set; relative
    /// directories in the file are within that of the file.
    ///
    /// # Errors
    /// When the file does not exist, a setting is unknown, of the wrong type or out of range.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // figment would take a missing file for an empty one.
        #[expect(clippy::disallowed_methods, reason = "a configuration is read before there is a database")]
        std::fs::File::open(path).map_err(|_| Error::NoFile(path.into()))?;
        // A file in the database's own directory need not name it.
        let beside = path.parent().unwrap_or(Path::new(""));
        let here = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
        let figment = Figment::from(Serialized::default("dir", here)).merge(Toml::file_exact(path));
        Self::extract(figment, Some(beside))
    }

    /// The defaults for a database in `dir`, and over them the environment's settings.
    ///
    /// # Errors
    /// When a variable names no setting, or its value is of the wrong type or out of range.
    pub fn from_env(dir: impl AsRef<Path>) -> Result<Self> {
        Self::extract(Figment::from(Serialized::default("dir", dir.as_ref())), None)
    }

    /// `beside` is where the file lies that was merged.
    fn extract(figment: Figment, beside: Option<&Path>) -> Result<Self> {
        // Only the first underscore parts section from setting: the settings' own names have more.
        let environment =
            Env::prefixed(ENVIRONMENT_PREFIX).map(|key| key.as_str().replacen('_', ".", 1).into());
        let figment = figment.merge(environment.lowercase(true));
        let mut config: PersistenceConfig = figment.extract()?;
        if let Some(beside) = beside {
            let of_file = |key: &str, dir: &mut PathBuf| {
                let source = figment.find_metadata(key).and_then(|metadata| metadata.source.as_ref());
                // An empty one stays what it is, and is refused.
                if source.is_some_and(|source| source.file_path().is_some()) && !dir.as_os_str().is_empty() {
                    *dir = beside.join(&*dir);
                }
            };
            of_file("dir", &mut config.dir);
            let sections = [
                ("log.dir", &mut config.log.dir),
                ("snapshot.dir", &mut config.snapshot.dir),
                ("archive.dir", &mut config.archive.dir),
            ];
            for (key, dir) in sections {
                dir.as_mut().map(|dir| of_file(key, dir)).unwrap_or_default();
            }
        }
        config.validate()?;
        Ok(config)
    }
}
