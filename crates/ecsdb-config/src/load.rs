//! Where settings come from.

use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};

use crate::error::{Error, Result};
use crate::settings::PersistenceConfig;

/// What the names of environment variables begin with: `ECDB_SNAPSHOT_DIR` sets `snapshot.dir`, and `ECDB_DIR`
/// sets `dir`.
pub const ENVIRONMENT_PREFIX: &str = "ECDB_";

impl PersistenceConfig {
    /// The settings of a TOML file, and over them those of the environment. `dir` is the file's own directory unless set.
    ///
    /// # Errors
    /// When the file does not exist, a setting is unknown, of the wrong type or out of range.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // figment would take a missing file for an empty one.
        #[expect(clippy::disallowed_methods, reason = "a configuration is read before there is a database")]
        std::fs::File::open(path).map_err(|_| Error::NoFile(path.into()))?;
        // A file in the database's own directory need not name it.
        let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::extract(Figment::from(Serialized::default("dir", beside)).merge(Toml::file_exact(path)))
    }

    /// The defaults for a database in `dir`, and over them the environment's settings.
    ///
    /// # Errors
    /// When a variable names no setting, or its value is of the wrong type or out of range.
    pub fn from_env(dir: impl AsRef<Path>) -> Result<Self> {
        Self::extract(Figment::from(Serialized::default("dir", dir.as_ref())))
    }

    fn extract(figment: Figment) -> Result<Self> {
        // Only the first underscore parts section from setting: the settings' own names have more.
        let environment =
            Env::prefixed(ENVIRONMENT_PREFIX).map(|key| key.as_str().replacen('_', ".", 1).into());
        let config: PersistenceConfig = figment.merge(environment.lowercase(true)).extract()?;
        config.validate()?;
        Ok(config)
    }
}
