//! What is wrong with a question, or with a value as JSON.

use ecsdb::{ErrorKind, WorldError};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with a question.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing of this name.
    #[error("there is no {what} {}{}", shown(.name), hint(.near.as_deref()))]
    Unknown {
        /// A component or a field.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is that is written much like it.
        near: Option<String>,
    },
    /// A path goes into what has no parts.
    #[error("{component} has no part {part}: it is {description}")]
    NoPart {
        /// The component.
        component: String,
        /// What was asked for.
        part: String,
        /// The component's type.
        description: String,
    },
    /// No comparison is in it.
    #[error(
        "`{0}` is no condition: write a component or a field, a comparison and a value, such as 'game.health.now < 10'"
    )]
    NoCondition(String),
    /// A quote begins, and does not end.
    #[error("{text} has no closing {quote}")]
    Unclosed {
        /// From the quote on.
        text: String,
        /// The quote.
        quote: char,
    },
    /// Nothing follows the comparison.
    #[error("a condition ends with the value that is compared with")]
    NoValue,
    /// A value that a condition asks for cannot be read.
    #[error("values of {component} cannot be read: {cause}")]
    Unreadable {
        /// The component.
        component: String,
        /// Why.
        cause: String,
    },
    /// A value in memory cannot be encoded.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl Error {
    /// What may be done now: correct the question, unless the world itself is at fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::World(e) => ErrorKind::of(e).unwrap_or(ErrorKind::Bug),
            _ => ErrorKind::Call,
        }
    }
}

fn shown(name: &str) -> &str {
    if name.is_empty() { "with the empty name" } else { name }
}

fn hint(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(": did you mean {near}?"))
}

/// There is nothing of this name; the nearest of what is known is suggested.
pub fn unknown<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let near = known.map(|known| (strsim::normalized_damerau_levenshtein(known, name), known));
    let near = near.filter(|(likeness, _)| *likeness > 0.5).max_by(|a, b| a.0.total_cmp(&b.0));
    Error::Unknown { what, name: name.into(), near: near.map(|(_, near)| near.into()) }
}

/// JSON that is no value of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", place(.at))]
pub struct Unfit {
    /// The fields on the way to it.
    pub at: Vec<String>,
    /// What was expected, and what was found.
    pub what: String,
}

fn place(at: &[String]) -> String {
    if at.is_empty() { String::new() } else { format!("{}: ", at.join(".")) }
}
