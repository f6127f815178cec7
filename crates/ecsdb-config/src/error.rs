//! Settings that are wrong: which, where they stand, what was found, and what would do.

use std::path::PathBuf;

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings that are wrong: all that were found.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
    /// The configuration file does not exist.
    #[error("there is no configuration file {}", .0.display())]
    NoFile(PathBuf),
    /// What is there can be no file of settings.
    #[error("{} {what}, where a file of settings was expected", path.display())]
    NoSettings {
        /// What was to be read.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The configuration file cannot be read, or the working directory, which a relative one is taken from, is gone.
    #[error(transparent)]
    Io(#[from] ecsdb_io::IoError),
}

/// One thing that is wrong. Its text says where it stands, what was found, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}{text}")]
#[non_exhaustive]
pub struct Problem {
    /// The setting as it was written: `wal.flush_interval`, or the name of the variable.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// What was found, and what is allowed.
    pub text: String,
}

impl Problem {
    /// What is wrong with a setting, which was written under a name and somewhere.
    pub(crate) fn of((key, origin): (String, Origin), what: &str) -> Problem {
        Problem { text: format!("{key} {what}"), key, origin }
    }
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
    },
    /// In the environment.
    Environment,
    /// Among what [`with`](crate::PersistenceConfig::with) was given.
    Given,
    /// By the program, or nowhere: it is a default.
    Program,
}

/// What a problem's text begins with; nothing for what the program did itself.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display()),
            Origin::Environment => f.write_str("environment variable "),
            Origin::Given | Origin::Program => Ok(()),
        }
    }
}

fn listed(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("\n")
}
