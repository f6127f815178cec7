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

/// A size as text, as [`SIZE_PATTERN`] has it; one that is too large for a number gives the largest there is.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = Decimal::before(text)?;
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let prefix = unit.chars().next().and_then(|first| SIZE_PREFIXES.find(first));
    let (power, rest) = prefix.map_or((0, &*unit), |i| (i as u32 + 1, &unit[1..]));
    let base: u128 = match (rest, power) {
        ("" | "b", _) => 1000,
        ("i" | "ib", 1..) => 1024,
        _ => return None,
    };
    Some(u64::try_from(number.times(base.pow(power))).unwrap_or(u64::MAX))
}

/// A time as text: "1h 30m".
pub(crate) fn show_time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A time as text, as [`time_pattern`] has it; 0 needs no unit.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut nanos, mut rest) = (0u128, text);
    loop {
        let (number, after) = Decimal::before(rest)?;
        let after = after.trim_start_matches(' ');
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, of_unit) = TIME_UNITS.iter().find(|(names, _)| names.split('|').any(|name| name == unit))?;
        nanos = nanos.saturating_add(number.times(*of_unit));
        if after.is_empty() {
            let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
            return Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32));
        }
        rest = after.trim_start_matches(' ');
    }
}

/// What sizes are multiplied by, each a thousand times the one before, or 1024 times with an `i` behind.
const SIZE_PREFIXES: &str = "kmgtpe";

/// How a size is written.
const SIZE_PATTERN: &str = r"^[0-9]+(\.[0-9]+)? *([KkMmGgTtPpEe][Ii]?[Bb]?|[Bb])?$";

/// The units of time, in nanoseconds. There is no `M`: whoever writes it means minutes as often as months.
const TIME_UNITS: [(&str, u128); 10] = [
    ("ns|nsec", 1),
    ("us|usec|µs", 1_000),
    ("ms|msec", 1_000_000),
    ("s|sec|secs|second|seconds", SECOND),
    ("m|min|mins|minute|minutes", 60 * SECOND),
    ("h|hr|hrs|hour|hours", 3_600 * SECOND),
    ("d|day|days", 86_400 * SECOND),
    ("w|week|weeks", 7 * 86_400 * SECOND),
    ("month|months", 2_630_016 * SECOND),
    ("y|year|years", 31_557_600 * SECOND),
];
const SECOND: u128 = 1_000_000_000;

/// How a time is written.
fn time_pattern() -> String {
    let units = TIME_UNITS.map(|(names, _)| names).join("|");
    let part = format!(r"[0-9]+(\.[0-9]+)? *({units})");
    format!("^(0|{part}( *{part})*)$")
}

/// A number with what stands behind the point: `digits` / 10^`places`.
struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// The number that a text begins with, and what comes after it. Digits beyond what a number holds count as that.
    fn before(text: &str) -> Option<(Decimal, &str)> {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = text.split_at(digits(text));
        if whole.is_empty() {
            return None;
        }
        let (part, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("0", rest),
        };
        if part.is_empty() {
            return None;
        }
        // What is behind the ninth place changes nothing that a limit could tell.
        let part = &part[..part.len().min(9)];
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        let places = part.len() as u32;
        let digits = u128::from(number(whole)) * 10u128.pow(places) + u128::from(number(part));
        Some((Decimal { digits, places }, rest))
    }

    fn times(&self, unit: u128) -> u128 {
        self.digits.saturating_mul(unit) / 10u128.pow(self.places)
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
        "pattern": SIZE_PATTERN,
        "minimum": 0,
        "maximum": SIZE_MAX
    }
    /// Bytes a second.
    Rate "size per second" {
        "type": ["string", "integer"],
        "pattern": SIZE_PATTERN,
        "minimum": 0,
        "maximum": SIZE_MAX
    }
    /// A duration; as a number only 0.
    Time "time" {
        "type": ["string", "integer"],
        "pattern": time_pattern(),
        "minimum": 0,
        "maximum": 0
    }
    /// A duration that is not 0.
    TimeAboveZero "time" {
        "type": "string",
        "pattern": time_pattern()
    }
    /// A directory.
    Directory "path" { "type": "string", "minLength": 1, "pattern": "^[^\\x00]*$", "x-applies": "next opening" }
}
