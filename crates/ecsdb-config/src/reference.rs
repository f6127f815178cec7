//! Which settings there are, read off the schema of their types: for the checks, for error texts, and for the documentation.

use std::fmt::Write as _;
use std::sync::LazyLock;

use figment::value::Value;
use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

use crate::check::shown;
use crate::settings::PersistenceConfig;
use crate::text::{parse_size, parse_time, show_size, show_time};

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
    /// There is a default that can be written down.
    has_default: bool,
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

/// All settings, section by section, in the order of their declaration.
pub fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| read_off(&json_schema()));
    &SETTINGS
}

/// The sections: each one's name and description.
pub(crate) fn sections() -> &'static [(String, String)] {
    static SECTIONS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let schema = json_schema();
        let properties = schema["properties"].as_object().into_iter().flatten();
        let sections = properties.filter(|(_, property)| property["properties"].is_object());
        sections.map(|(name, section)| (name.clone(), text_of(section))).collect()
    });
    &SECTIONS
}

/// The setting of this name.
pub(crate) fn setting(key: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| setting.key == key)
}

pub(crate) fn is_section(name: &str) -> bool {
    sections().iter().any(|(section, _)| section == name)
}

/// The JSON Schema of `ecsdb.toml`, as text: for editors, and for whoever writes such a file by a program. Besides what JSON Schema itself
/// says, a setting has `x-unit`, `x-applies` (`live` or `next opening`), and limits of times as `x-minimum` and `x-maximum`.
pub fn schema() -> String {
    format!("{:#}\n", json_schema())
}

/// A configuration file with every setting, its text and its default.
pub fn example() -> String {
    let mut text = String::from(
        "# Every setting of ecsdb, with its default. What is commented out has none that could be written down.\n\
         # Sizes are written as \"64 MiB\" or as a number of bytes, times as \"10ms\", \"2s\", \"1h 30m\", or 0.\n",
    );
    let mut under = None;
    for setting in settings() {
        let (section, name) = setting.split();
        if section != under {
            under = section;
            let section = sections().iter().find(|(name, _)| Some(&**name) == section);
            let (name, description) = section.cloned().unwrap_or_default();
            write_comment(&mut text, &format!("\n# {description}"), &format!("[{name}]"));
        }
        write_comment(
            &mut text,
            &format!("\n# {}", setting.description),
            &format!(
                "# {}; default: {}; applies: {}.",
                setting.unit_and_limits(),
                setting.default,
                setting.applies
            ),
        );
        let out = if setting.has_default { "" } else { "# " };
        _ = writeln!(text, "{out}{name} = {}", setting.example);
    }
    text
}

impl PersistenceConfig {
    /// The settings as a configuration file, in the order of the documentation. Directories stand there as they are named; what has no
    /// value of its own (a directory that is not set, say) does not.
    ///
    /// ```
    /// # use ecsdb_config::PersistenceConfig;
    /// let text = PersistenceConfig::new("world").to_toml();
    /// assert!(text.starts_with("dir = \"world\"\n\n[wal]\nsegment_bytes_first = \"256 KiB\"\n"));
    /// ```
    pub fn to_toml(&self) -> String {
        let values = self.values();
        let (mut text, mut under) = (String::new(), None);
        for setting in settings() {
            let Some(value) = values.find_ref(&setting.key) else { continue };
            let (section, name) = setting.split();
            if let Some(section) = section.filter(|section| Some(*section) != under) {
                _ = writeln!(text, "\n[{section}]");
                under = Some(section);
            }
            // Text is quoted in JSON as it is in TOML.
            let value = value.as_str().map_or_else(|| shown(value), |text| json!(text).to_string());
            _ = writeln!(text, "{name} = {value}");
        }
        text
    }
}

/// The table of all settings, in Markdown.
pub fn table() -> String {
    let mut text =
        String::from("| setting | unit and limits | default | applies | meaning |\n|---|---|---|---|---|\n");
    for setting in settings() {
        let Setting { key, description, default, applies, .. } = setting;
        _ = writeln!(
            text,
            "| `{key}` | {} | {default} | {applies} | {description} |",
            setting.unit_and_limits()
        );
    }
    text
}

/// Adds a comment in lines of a width that is read well.
fn write_comment(to: &mut String, comment: &str, last: &str) {
    const WIDTH: usize = 100;
    let mut width = 0;
    for word in comment.split(' ') {
        let len = word.chars().count();
        if width > 0 && width + 1 + len > WIDTH {
            to.push_str("\n#");
            width = 1;
        }
        if width > 0 {
            to.push(' ');
            width += 1;
        }
        to.push_str(word);
        width += len;
    }
    to.push('\n');
    if !last.is_empty() {
        to.push_str(last);
        to.push('\n');
    }
}

fn json_schema() -> Json {
    let generator = SchemaSettings::draft2020_12().with(|with| with.inline_subschemas = true);
    let made = generator.into_generator().into_root_schema_for::<PersistenceConfig>().to_value();
    // What it is comes first, for whoever reads it.
    let mut schema =
        json!({ "$schema": made["$schema"], "title": made["title"], "description": made["description"] });
    if let (Some(schema), Some(made)) = (schema.as_object_mut(), made.as_object()) {
        schema.extend(made.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) else { return schema };
    for property in properties.values_mut() {
        property.as_object_mut().map(|section| section.remove("default"));
        match property.get_mut("properties").and_then(Json::as_object_mut) {
            Some(settings) => settings.values_mut().for_each(complete),
            None => complete(property),
        }
    }
    // A file that does not name the directory lies in it.
    schema.as_object_mut().map(|schema| schema.remove("required"));
    schema
}

/// One paragraph of text, and when a change takes effect.
fn complete(setting: &mut Json) {
    setting["description"] = text_of(setting).into();
    if setting["x-applies"].is_null() {
        setting["x-applies"] = Applies::Live.to_string().into();
    }
    // Which integer of Rust's it is says nothing that the limits do not.
    setting.as_object_mut().map(|setting| setting.remove("format"));
}

fn text_of(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn read_off(schema: &Json) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        match property["properties"].as_object() {
            Some(section) => {
                settings.extend(
                    section.iter().map(|(key, schema)| Setting::new(format!("{name}.{key}"), schema)),
                );
            }
            None => settings.push(Setting::new(name.clone(), property)),
        }
    }
    settings
}

impl Setting {
    fn new(key: String, schema: &Json) -> Self {
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
        let has_default = !schema["default"].is_null();
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
        let description = text_of(schema);
        Setting { key, description, unit, default, example, applies, has_default, minimum, maximum }
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
        let number = || match (value.to_u128(), value.to_i128()) {
            (Some(n), _) => Some(n as f64),
            (_, n) => n.map(|n| n as f64),
        };
        let measure = match &self.unit {
            Unit::Path => return value.as_str().is_some(),
            Unit::Flag => return value.to_bool().is_some(),
            Unit::Choice(words) => {
                return value.as_str().is_some_and(|value| words.iter().any(|word| word == value));
            }
            Unit::Size | Unit::Rate => match value.as_str() {
                Some(text) => parse_size(text).map(|size| size as f64),
                None => number(),
            },
            Unit::Time => match value.as_str() {
                Some(text) => parse_time(text).map(|time| time.as_nanos() as f64),
                None => number().filter(|n| *n == 0.0),
            },
            Unit::Number => number(),
            Unit::Fraction => value.to_f64().or_else(number),
        };
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
            Unit::Path => return format!("a directory as text, such as {}", self.example),
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
    fn unit_and_limits(&self) -> String {
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
        let max = self.maximum.filter(|max| *max < crate::text::SIZE_MAX as f64);
        match (self.minimum > 0.0, max) {
            (false, None) => unit.into(),
            (true, None) => format!("{unit}, from {}", self.show(self.minimum)),
            (_, Some(max)) => format!("{unit}, {} to {}", self.show(self.minimum), self.show(max)),
        }
    }
}
