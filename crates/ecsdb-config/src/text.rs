//! Sizes, times and directories as they are written in a file, in the environment and in the schema.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A size of more than this is a slip of the pen: an exbibyte.
pub(crate) const SIZE_MAX: u64 = 1 << 60;

/// A size or a time in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// Bytes as text: with the largest unit that says it exactly.
pub(crate) fn show_size(size: u64) -> String {
    let units = [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units.iter().find(|(bits, _)| size != 0 && size.trailing_zeros() >= *bits);
    match exact {
        Some((bits, unit)) => format!("{} {unit}", size >> bits),
        None => format!("{size} B"),
    }
}

/// A size as text; one that is too large for a number gives the largest there is.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    text.trim().parse::<ByteSize>().ok().map(|size| size.0)
}

/// A time as text: "1h 30m".
pub(crate) fn show_time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A time as text; 0 needs no unit.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    match text.trim() {
        "0" => Some(Duration::ZERO),
        text => humantime::parse_duration(text).ok(),
    }
}

/// `#[serde(with = "size")]`.
pub(crate) mod size {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(size: &ByteSize, to: S) -> Result<S::Ok, S::Error> {
        if size.0 == 0 { to.serialize_u64(0) } else { to.serialize_str(&show_size(size.0)) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
        match Written::deserialize(from)? {
            Written::Number(bytes) => Ok(ByteSize(bytes)),
            Written::Text(text) => parse_size(&text)
                .map(ByteSize)
                .ok_or_else(|| D::Error::custom(format!("{text:?} is no size, such as \"64 MiB\""))),
        }
    }
}

/// `#[serde(with = "time")]`.
pub(crate) mod time {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        if time.is_zero() { to.serialize_u64(0) } else { to.serialize_str(&show_time(*time)) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        match Written::deserialize(from)? {
            Written::Number(0) => Ok(Duration::ZERO),
            Written::Number(n) => {
                Err(D::Error::custom(format!("{n} needs a unit, as in \"{n}s\" or \"{n}ms\"")))
            }
            Written::Text(text) => parse_time(&text)
                .ok_or_else(|| D::Error::custom(format!("{text:?} is no time, such as \"10ms\""))),
        }
    }
}

/// A path that is not UTF-8 is shown as far as it can be: what it is serialized for is looked at, and never opened.
pub(crate) fn path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    path.to_string_lossy().serialize(to)
}

/// As [`path`].
pub(crate) fn path_option<S: Serializer>(dir: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    dir.as_deref().map(Path::to_string_lossy).serialize(to)
}

/// The types of text in the schema: which unit, and how it is written.
macro_rules! written {
    ($($(#[$doc:meta])* $name:ident $unit:literal $schema:tt)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("x-unit".into(), $unit.into());
                schema
            }
        }
    )*};
}

written! {
    /// Bytes.
    Size "size" {
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+(\.[0-9]+)?\s*([KMGTPE]i?B?|[kmgtpe]i?b?|B|b)?$",
        "minimum": 0,
        "maximum": SIZE_MAX
    }
    /// Bytes a second.
    Rate "size per second" {
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+(\.[0-9]+)?\s*([KMGTPE]i?B?|[kmgtpe]i?b?|B|b)?$",
        "minimum": 0,
        "maximum": SIZE_MAX
    }
    /// A duration; as a number only 0.
    Time "time" {
        "type": ["string", "integer"],
        "pattern": r"^(0|([0-9]+\s*[a-zµ]+\s*)+)$",
        "minimum": 0,
        "maximum": 0
    }
    /// A directory.
    Directory "path" { "type": "string", "minLength": 1, "x-applies": "next opening" }
}
