//! What a command fails with: a kind to act by, and a text to show.

use ecsdb::ErrorKind;
use ecsdb_query::shortened;
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a page is told at most: it has what it sent itself, however much that was.
const MESSAGE_BYTES: usize = 16 << 10;

/// What a command fails with. A page gets it as `{ kind, message }`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What may be done now.
    pub kind: ErrorKind,
    /// Everything there is to say.
    pub message: String,
}

impl Error {
    pub(crate) fn call(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Call, message: message.into() }
    }

    /// The same, of an argument.
    pub(crate) fn of(self, argument: &str) -> Error {
        Error { message: format!("{argument}: {}", self.message), ..self }
    }

    /// The kind as pages get it: `already-exists`.
    pub fn kind_text(&self) -> String {
        let mut text = String::new();
        for c in format!("{:?}", self.kind).chars() {
            if c.is_uppercase() && !text.is_empty() {
                text.push('-');
            }
            text.extend(c.to_lowercase());
        }
        text
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Error", 2)?;
        fields.serialize_field("kind", &self.kind_text())?;
        fields.serialize_field("message", &shortened(&self.message, MESSAGE_BYTES))?;
        fields.end()
    }
}

impl From<ecsdb::Error> for Error {
    fn from(e: ecsdb::Error) -> Self {
        Error { kind: e.kind(), message: e.to_string() }
    }
}

impl From<ecsdb_query::Error> for Error {
    fn from(e: ecsdb_query::Error) -> Self {
        Error { kind: e.kind(), message: e.to_string() }
    }
}

impl From<ecsdb::WorldError> for Error {
    fn from(e: ecsdb::WorldError) -> Self {
        ecsdb::Error::from(e).into()
    }
}

/// Of a file that is read, not of the database's own.
impl From<ecsdb::IoError> for Error {
    fn from(e: ecsdb::IoError) -> Self {
        Error { kind: ErrorKind::Retry, message: e.to_string() }
    }
}
