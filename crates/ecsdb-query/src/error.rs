//! What is wrong with a question, or with a value as JSON.

use ecsdb::{ErrorKind, WorldError};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with a question.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing of this name.
    #[error("there is no {what} {}{}{}", shown(.name), within(.of.as_deref()), hint(.near.as_deref()))]
    Unknown {
        /// A component, a field or a variant.
        what: &'static str,
        /// What has none of this name, where it is something in particular.
        of: Option<String>,
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
    /// More is asked at once than a question may.
    #[error("the question has more than {max} {what}, which is the most that it may have")]
    Limit {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// It is not written as conditions are.
    #[error("`{text}` is no condition: at character {character} {what}")]
    NoCondition {
        /// All of it.
        text: String,
        /// Where it goes wrong, from 1 on.
        character: usize,
        /// What is there, and what was expected.
        what: String,
    },
    /// A value of another type than the part that it is compared with.
    #[error("{path} is {of} and cannot be compared with `{word}` so: write {wanted}")]
    Misfit {
        /// What is compared.
        path: String,
        /// Its type.
        of: String,
        /// The value.
        word: String,
        /// What can be written.
        wanted: String,
    },
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
    /// The same, with what has nothing of the name.
    pub(crate) fn within(mut self, place: &str) -> Error {
        if let Error::Unknown { of, .. } = &mut self {
            *of = Some(place.into());
        }
        self
    }

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

fn within(of: Option<&str>) -> String {
    of.map_or_else(String::new, |of| format!(" in {of}"))
}

fn hint(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(": did you mean {near}?"))
}

/// There is nothing of this name; the nearest of what is known is suggested. What is known is looked at one by one, and not at all where the name is
/// longer than any: a comparison takes time and memory for each pair of characters.
pub fn unknown<S: AsRef<str>>(what: &'static str, name: &str, known: impl Iterator<Item = S>) -> Error {
    let near = if name.len() <= NAME_BYTES { nearest(name, known) } else { None };
    Error::Unknown { what, of: None, name: shortened(name, NAME_BYTES), near }
}

fn nearest<S: AsRef<str>>(name: &str, known: impl Iterator<Item = S>) -> Option<String> {
    let length = name.chars().count();
    // Of names of which one is twice as long, half of the longer one differs.
    let is_near_in_length = |known: usize| length < 2 * known && known < 2 * length;
    let known = known.filter(|known| is_near_in_length(known.as_ref().chars().count()));
    let near = known.map(|known| (strsim::normalized_damerau_levenshtein(known.as_ref(), name), known));
    let near = near.filter(|(likeness, _)| *likeness > 0.5).max_by(|a, b| a.0.total_cmp(&b.0));
    near.map(|(_, near)| near.as_ref().into())
}

/// Bytes of a name that are shown, and up to which it is compared with what there is: as many as one may have.
const NAME_BYTES: usize = 255;

/// Refuses what is more than a question may have.
pub(crate) fn refuse_more(what: &'static str, found: usize, max: usize) -> Result<()> {
    if found <= max { Ok(()) } else { Err(Error::Limit { what, max }) }
}

/// As much of a text as helps, in so many bytes and an ellipsis.
pub fn shortened(text: &str, bytes: usize) -> String {
    let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
    match ends.take_while(|end| *end <= bytes).last().unwrap_or(0) {
        end if end == text.len() => text.into(),
        end => format!("{}…", &text[..end]),
    }
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
