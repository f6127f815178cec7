//! Which settings there are, read off the schema of their types: for the checks, for error texts, and for the documentation.

use std::fmt::Write as _;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

use crate::check::shown;
use crate::setting::{Applies, Setting};
use crate::settings::PersistenceConfig;

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

/// A configuration file with every setting, its text and its default. All of it is commented out: as it is, it says nothing, and so gives
/// nothing up.
pub fn example() -> String {
    let mut text = String::from(
        "# Every setting of ecsdb, commented out, with its default, or an example where there is none that could be written down.\n\
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
        _ = writeln!(text, "# {name} = {}", setting.example);
    }
    text
}

impl PersistenceConfig {
    /// The settings as a configuration file, in the order of the documentation. Directories stand there as they are named; what has no
    /// value of its own (a directory that is not set, say) does not, and neither does a retention that is not: used as a file, it says what
    /// these settings say.
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
            if section == Some("retention") && !self.retention.is_said() {
                continue;
            }
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
