//! A path for programs that read JSON, which has text alone.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Serialized, a path is its text; one that is no Unicode is `{"text":TEXT,"bytes":HEX}`, with what there is of text and all of its bytes. A
/// plain [`Path`] cannot be serialized then, which is found out when the work is done.
#[derive(Debug, Clone, Copy)]
pub struct PathText<'p>(pub &'p Path);

impl Serialize for PathText<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.0.to_str() {
            return to.serialize_str(text);
        }
        let mut hex = String::new();
        for byte in self.0.as_os_str().as_encoded_bytes() {
            // Into a string nothing fails.
            let _ = write!(hex, "{byte:02x}");
        }
        let mut both = to.serialize_struct("PathText", 2)?;
        both.serialize_field("text", &self.0.to_string_lossy())?;
        both.serialize_field("bytes", &hex)?;
        both.end()
    }
}

/// `#[serde(serialize_with = "one")]`
pub(crate) fn one<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    PathText(path).serialize(to)
}

/// `#[serde(serialize_with = "list")]`
pub(crate) fn list<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| PathText(path)))
}
