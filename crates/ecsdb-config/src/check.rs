//! Checking what was written, value by value, and saying what is wrong with it.

use figment::value::{Dict, Value};

use crate::error::{Origin, Problem};
use crate::position::Text;
use crate::reference::{is_section, sections, setting, settings};
use crate::setting::Setting;

/// Checks everything that a source says: what is right of it, and under which names something is wrong. Where it has no `text`, a program
/// says it.
pub(crate) fn check_layer(values: &Dict, text: Option<&Text>, problems: &mut Vec<Problem>) -> Said {
    let mut said = Said::default();
    for (name, value) in values {
        match value {
            // In quotes: a setting that was written so would stand beside the same one in its section.
            _ if name.contains('.') => said.refuse_dotted(&[name], text, problems),
            Value::Dict(_, section)
                if is_section(name)
                    || (setting(name).is_none() && !section.is_empty() && may_be_meant(name)) =>
            {
                for (key, value) in section {
                    if key.contains('.') {
                        said.refuse_dotted(&[name, key], text, problems);
                        continue;
                    }
                    said.check_one(&format!("{name}.{key}"), value, text, problems);
                }
            }
            value => said.check_one(name, value, text, problems),
        }
    }
    said
}

/// Whether it is short enough for what somebody took for a section: what is wrong with each of its settings is told with its name.
fn may_be_meant(name: &str) -> bool {
    name.len() <= 255
}

/// What a source says.
#[derive(Default)]
pub(crate) struct Said {
    /// Settings with a value that they may have.
    pub(crate) right: Vec<(&'static str, Value)>,
    /// Settings and sections with another one.
    pub(crate) wrong: Vec<String>,
}

impl Said {
    fn refuse_dotted(&mut self, names: &[&str], text: Option<&Text>, problems: &mut Vec<Problem>) {
        let key = names.join(".");
        let setting = setting(&key).or_else(|| nearest(&key));
        let meant = setting.map_or_else(String::new, |setting| match setting.split() {
            (Some(section), name) => format!(": did you mean `{name}` in `[{section}]`?"),
            (None, name) => format!(": did you mean `{name}`?"),
        });
        let said =
            format!("{:?} is one name, with a dot in it, and no setting{meant}", names[names.len() - 1]);
        let origin = origin(text, |text| text.of_names(names.iter().copied()));
        problems.push(Problem { origin, text: said, key: key.clone() });
        self.wrong.push(key);
    }

    fn check_one(&mut self, key: &str, value: &Value, text: Option<&Text>, problems: &mut Vec<Problem>) {
        let setting = setting(key);
        // In a file there is nothing like it.
        let is_open =
            |setting: &Setting| setting.is_optional && text.is_none() && matches!(value, Value::Empty(..));
        let right = |setting: &Setting| {
            if is_open(setting) { Some(value.clone()) } else { setting.normal(value) }
        };
        if let Some((setting, value)) = setting.and_then(|setting| Some((setting, right(setting)?))) {
            self.right.push((&setting.key, value));
            return;
        }
        self.wrong.push(key.into());
        let (origin, what) = match setting {
            Some(setting) => (origin(text, |text| text.of_value(key)), wrong(setting, value)),
            None if is_section(key) => {
                let what = format!(
                    "is {}, but it is a section: write `[{key}]`, and its settings below",
                    shown(value)
                );
                (origin(text, |text| text.of_value(key)), what)
            }
            None => (origin(text, |text| text.of_name(key)), unknown(key)),
        };
        problems.push(Problem { key: key.into(), origin, text: format!("{key} {what}") });
    }
}

fn origin(text: Option<&Text>, of: impl FnOnce(&Text) -> Origin) -> Origin {
    text.map_or(Origin::Given, of)
}

/// What is wrong with a value.
pub(crate) fn wrong(setting: &Setting, found: &Value) -> String {
    format!("is {}, but has to be {}", shown(found), setting.allowed())
}

fn unknown(key: &str) -> String {
    if let Some(setting) = nearest(key) {
        return format!("is no setting: did you mean {}?", setting.key);
    }
    let (section, others): (&str, Vec<&str>) = match key.split_once('.') {
        Some((section, _)) if is_section(section) => (
            section,
            settings().iter().filter(|it| it.split().0 == Some(section)).map(|it| it.split().1).collect(),
        ),
        _ => ("", sections().iter().map(|(name, _)| &**name).collect()),
    };
    match section {
        "" => format!("is no setting and no section: there are {}", others.join(", ")),
        section => format!("is no setting: in `[{section}]` there are {}", others.join(", ")),
    }
}

/// The setting that was probably meant: of the same name in another section, or one of nearly that name.
pub(crate) fn nearest(key: &str) -> Option<&'static Setting> {
    let name = |key: &str| key.rsplit('.').next().map(String::from);
    let distance = |setting: &Setting| strsim::damerau_levenshtein(key, &setting.key);
    // What is twice as long is no slip of the pen, and could cost any time.
    let length = key.chars().count();
    let settings = || settings().iter().filter(|setting| length < 2 * setting.key.chars().count());
    let same = settings().filter(|setting| setting.key.contains('.') && name(&setting.key) == name(key));
    if let Some(setting) = same.min_by_key(|setting| distance(setting)) {
        return Some(setting);
    }
    let near = settings().min_by_key(|setting| distance(setting))?;
    (distance(near) <= length.max(6) / 3).then_some(near)
}

/// A value as it was written, or nearly.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "a list".into(),
        value => match (value.to_bool(), value.to_u128(), value.to_i128(), value.to_f64()) {
            (Some(flag), ..) => flag.to_string(),
            (_, Some(n), ..) => n.to_string(),
            (_, _, Some(n), _) => n.to_string(),
            // With a point, which an integer has not.
            (.., Some(n)) => format!("{n:?}"),
            _ => "nothing".into(),
        },
    }
}
