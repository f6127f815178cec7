//! A setting that cannot be: which one, where it came from, and what would do.

use std::path::PathBuf;

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source could not be read, or has a value of the wrong type; the text names the setting and the source.
    #[error("{0}")]
    Source(#[source] Box<figment::Error>),
    /// The configuration file does not exist.
    #[error("there is no configuration file {}", .0.display())]
    NoFile(PathBuf),
    /// The working directory, which a relative one is taken from, is gone.
    #[error(transparent)]
    Io(#[from] ecsdb_io::IoError),
    /// A setting was to be changed that holds for as long as a database is open.
    #[error(
        "setting {setting} cannot change while the database runs: close it, and open it with the new value"
    )]
    Fixed {
        /// The setting or the section.
        setting: &'static str,
    },
    /// A value is out of range.
    #[error("setting {setting} is {value}, but {rule}")]
    OutOfRange {
        /// The setting's path, as in the TOML file.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What holds for it.
        rule: &'static str,
    },
}

impl From<figment::Error> for Error {
    fn from(e: figment::Error) -> Self {
        Error::Source(Box::new(e))
    }
}
