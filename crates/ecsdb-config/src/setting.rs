//! One setting: what it is called, which values it takes, and how that is said.

use figment::value::Value;
use serde_json::{Value as Json, json};

use crate::text::{SIZE_MAX, parse_size, parse_time, show_size, show_time};

/// A setting.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Setting {
    /// As in the TOML file: `wal.flush_interval`.
    pub key: String,
    /// What it does.
    pub description: String,
    /// What its values are.
    pub unit: Unit,
    /// The default, as text.
    pub default: String,
    /// A value that it may have, as in the TOML file: the default, if there is one.
    pub example: String,
    /// When a change takes effect.
    pub applies: Applies,
    /// It may be left open, and is then as it was, or as others say.
    pub(crate) is_optional: bool,
    /// In bytes, nanoseconds, or as the number itself.
    minimum: f64,
    maximum: Option<f64>,
}

/// What the values of a setting are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// A directory.
    Path,
    /// Bytes: `"64 MiB"`, or a number.
    Size,
    /// Bytes a second.
    Rate,
    /// A duration: `"10ms"`.
    Time,
    /// A whole number.
    Number,
    /// A part of the whole, from 0 to 1.
    Fraction,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(Vec<String>),
}

/// When a change of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// While the database runs.
    Live,
    /// When it is opened the next time.
    NextOpening,
}

impl std::fmt::Display for Applies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Applies::Live => "live",
            Applies::NextOpening => "next opening",
        })
    }
}

impl Setting {
    /// Read off the schema of its type.
    pub(crate) fn new(key: String, schema: &Json) -> Self {
        let words = |words: &Vec<Json>| words.iter().filter_map(Json::as_str).map(String::from).collect();
        let unit = match (schema["x-unit"].as_str(), schema["type"].as_str(), schema["enum"].as_array()) {
            (_, _, Some(choices)) => Unit::Choice(words(choices)),
            (Some("path"), ..) => Unit::Path,
            (Some("size"), ..) => Unit::Size,
            (Some("size per second"), ..) => Unit::Rate,
            (Some("time"), ..) => Unit::Time,
            (_, Some("boolean"), _) => Unit::Flag,
            (_, Some("number"), _) => Unit::Fraction,
            _ => Unit::Number,
        };
        let limit = |name: &str| match unit {
            Unit::Time => {
                let time = schema[format!("x-{name}")].as_str().and_then(parse_time)?;
                Some(time.as_nanos() as f64)
            }
            _ => schema[name].as_f64(),
        };
        let (minimum, maximum) = (limit("minimum").unwrap_or(0.0), limit("maximum"));
        let default = match (&schema["x-default"], &schema["default"]) {
            (Json::String(text), _) | (_, Json::String(text)) => text.clone(),
            (_, value) => value.to_string(),
        };
        let example = match (&schema["x-example"], &schema["default"]) {
            (Json::String(text), _) if unit == Unit::Flag => text.clone(),
            (Json::Null, default) => default.to_string(),
            (example, _) => example.to_string(),
        };
        let applies = match schema["x-applies"].as_str() {
            Some("next opening") => Applies::NextOpening,
            _ => Applies::Live,
        };
        let description = schema["description"].as_str().unwrap_or_default().into();
        // Without a directory of its own there is no database.
        let is_optional = schema["default"].is_null() && key.contains('.');
        Setting { key, description, unit, default, example, applies, is_optional, minimum, maximum }
    }

    /// Section and name.
    pub(crate) fn split(&self) -> (Option<&str>, &str) {
        match self.key.split_once('.') {
            Some((section, name)) => (Some(section), name),
            None => (None, &self.key),
        }
    }

    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("{}{}", crate::ENVIRONMENT_PREFIX, self.key.replace('.', "_").to_uppercase())
    }

    /// Whether it may have this value.
    pub(crate) fn takes(&self, value: &Value) -> bool {
        self.normal(value).is_some()
    }

    /// The value as its type reads it, if it may have it: a whole number is one however it is written (`1e6`), as the schema has it.
    pub(crate) fn normal(&self, value: &Value) -> Option<Value> {
        let value = match value.to_f64() {
            Some(n) if self.unit != Unit::Fraction && n.fract() == 0.0 && n.abs() < i64::MAX as f64 => {
                Value::from(n as i64)
            }
            _ => value.clone(),
        };
        let number = || match (value.to_u128(), value.to_i128()) {
            (Some(n), _) => Some(at_least(n)),
            (_, n) => n.map(|n| u128::try_from(n).map_or(n as f64, at_least)),
        };
        let is_taken = match &self.unit {
            // No system has a name with it.
            Unit::Path => value.as_str().is_some_and(|text| !text.contains('\0')),
            Unit::Flag => value.to_bool().is_some(),
            Unit::Choice(words) => value.as_str().is_some_and(|value| words.iter().any(|word| word == value)),
            Unit::Size | Unit::Rate => self.bounds(match value.as_str() {
                Some(text) => parse_size(text).map(|size| at_least(size.into())),
                None => number(),
            }),
            Unit::Time => self.bounds(match value.as_str() {
                Some(text) => parse_time(text).map(|time| at_least(time.as_nanos())),
                None => number().filter(|n| *n == 0.0),
            }),
            Unit::Number => self.bounds(number()),
            Unit::Fraction => self.bounds(value.to_f64().or_else(number)),
        };
        is_taken.then_some(value)
    }

    fn bounds(&self, measure: Option<f64>) -> bool {
        measure.is_some_and(|n| n >= self.minimum && self.maximum.is_none_or(|max| n <= max))
    }

    fn show(&self, limit: f64) -> String {
        match self.unit {
            Unit::Size | Unit::Rate => show_size(limit as u64),
            Unit::Time => show_time(std::time::Duration::from_nanos(limit as u64)),
            _ => limit.to_string(),
        }
    }

    /// "a size from 64 KiB to 64 GiB, such as \"64 MiB\"".
    pub(crate) fn allowed(&self) -> String {
        let (what, such_as) = match &self.unit {
            Unit::Path => return format!("a directory as text, such as {}, without NUL", self.example),
            Unit::Flag => return "true or false".into(),
            Unit::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| json!(word).to_string()).collect();
                return format!("one of {}", words.join(", "));
            }
            Unit::Size => ("a size", "\"64 MiB\""),
            Unit::Rate => ("a size per second", "\"64 MiB\""),
            Unit::Time => ("a time", "\"10ms\""),
            Unit::Number => ("a whole number", "4"),
            Unit::Fraction => ("a part", "0.5"),
        };
        let limits = match (self.minimum > 0.0, self.maximum) {
            (false, None) if self.unit != Unit::Number => String::new(),
            (false, None) => " of at least 0".into(),
            (true, None) => format!(" of at least {}", self.show(self.minimum)),
            (false, Some(max)) if self.unit != Unit::Number && self.unit != Unit::Fraction => {
                format!(" of at most {}", self.show(max))
            }
            (_, Some(max)) => format!(" from {} to {}", self.show(self.minimum), self.show(max)),
        };
        format!("{what}{limits}, such as {such_as}")
    }

    /// For the documentation: "size, from 64 KiB to 64 GiB".
    pub(crate) fn unit_and_limits(&self) -> String {
        let unit = match &self.unit {
            Unit::Path => "path",
            Unit::Size => "size",
            Unit::Rate => "size per second",
            Unit::Time => "time",
            Unit::Number => "number",
            Unit::Fraction => "part",
            Unit::Flag => "true or false",
            Unit::Choice(words) => {
                return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            }
        };
        let max = self.maximum.filter(|max| *max < SIZE_MAX as f64);
        match (self.minimum > 0.0, max) {
            (false, None) => unit.into(),
            (true, None) => format!("{unit}, from {}", self.show(self.minimum)),
            (_, Some(max)) => format!("{unit}, {} to {}", self.show(self.minimum), self.show(max)),
        }
    }
}

/// The number, or the next one that there is: what is above a limit does not become the limit.
fn at_least(n: u128) -> f64 {
    let near = n as f64;
    if (near as u128) < n { near.next_up() } else { near }
}
