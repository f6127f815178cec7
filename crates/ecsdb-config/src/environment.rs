//! The environment: which variables are settings, and what they say.

use std::ffi::OsString;

use figment::value::Value;

use crate::check::{nearest, wrong};
use crate::error::{Origin, Problem};
use crate::reference::settings;
use crate::setting::{Setting, Unit};

/// What the names of environment variables begin with: `ECDB_SNAPSHOT_DIR` sets `snapshot.dir`, and `ECDB_DIR` sets `dir`. There is no S in it:
/// that is how it was specified, and not a slip of the pen.
pub const ENVIRONMENT_PREFIX: &str = "ECDB_";

/// What everybody takes it for.
const MISTAKEN_PREFIX: &str = "ECSDB_";

/// A variable that names a setting.
pub(crate) struct Variable {
    pub(crate) setting: &'static Setting,
    pub(crate) name: String,
    pub(crate) text: OsString,
}

impl Variable {
    /// What it says, as the setting understands it; `None` for a path, which stays what it is.
    pub(crate) fn value(&self) -> Option<Value> {
        let text = self.text.to_string_lossy();
        let text = text.trim();
        let number = || text.parse::<u64>().map(Value::from).ok();
        let value = match self.setting.unit {
            Unit::Path => return None,
            Unit::Size | Unit::Rate | Unit::Time | Unit::Choice(_) => None,
            Unit::Number => number(),
            Unit::Fraction => text.parse::<f64>().map(Value::from).ok(),
            Unit::Flag => text.parse::<bool>().map(Value::from).ok(),
        };
        Some(value.unwrap_or_else(|| Value::from(text)))
    }
}

/// What the environment says.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<Variable>,
    /// Variables that name a setting and say nothing that it may be.
    pub(crate) refused: Vec<Problem>,
    /// The settings that those name.
    pub(crate) wrong: Vec<String>,
    /// Variables that begin as settings do, or nearly, and name none.
    pub(crate) warnings: Vec<Problem>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        Environment::of(std::env::vars_os())
    }

    pub(crate) fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Environment::default();
        let mut variables: Vec<_> = variables.into_iter().collect();
        // So that several mistakes are told in an order of their own.
        variables.sort();
        for (name, text) in variables {
            let name = name.to_string_lossy().into_owned();
            environment.take(name, text);
        }
        environment
    }

    fn take(&mut self, name: String, text: OsString) {
        let upper = name.to_uppercase();
        if let Some(rest) = upper.strip_prefix(MISTAKEN_PREFIX) {
            // Others may have variables that begin so.
            if let Some(setting) = named(rest) {
                let meant = setting.variable();
                self.warn(
                    name,
                    format!("names no setting: did you mean {meant}? There is no S in the prefix"),
                );
            }
            return;
        }
        let Some(rest) = upper.strip_prefix(ENVIRONMENT_PREFIX) else { return };
        let Some(setting) = named(rest) else {
            let near = nearest(&rest.to_lowercase().replace("__", ".").replacen('_', ".", 1));
            let meant =
                near.map_or_else(String::new, |setting| format!(": did you mean {}?", setting.variable()));
            return self.warn(name, format!("names no setting{meant}"));
        };
        if let Some(other) = self.variables.iter().find(|other| other.setting.key == setting.key) {
            if other.text != text {
                let other = &other.name;
                self.refuse(
                    setting,
                    name,
                    format!("and {other} are the same setting, and say different things: unset one"),
                );
            }
            return;
        }
        if text.is_empty() {
            let what = match setting.unit {
                Unit::Path => {
                    "is empty: unset it, or give it a directory (`.` is the working directory)".into()
                }
                _ => format!("is empty: unset it, or give it {}", setting.allowed()),
            };
            return self.refuse(setting, name, what);
        }
        let variable = Variable { setting, name, text };
        match variable.value() {
            Some(value) if !setting.takes(&value) => {
                let what = wrong(setting, &Value::from(variable.text.to_string_lossy().as_ref()));
                self.refuse(setting, variable.name, what);
            }
            _ => self.variables.push(variable),
        }
    }

    fn refuse(&mut self, setting: &Setting, name: String, what: String) {
        self.wrong.push(setting.key.clone());
        self.refused.push(problem(name, &what));
    }

    fn warn(&mut self, name: String, what: String) {
        self.warnings.push(problem(name, &what));
    }
}

fn problem(name: String, what: &str) -> Problem {
    Problem { text: format!("{name} {what}"), key: name, origin: Origin::Environment }
}

/// The setting that the rest of a variable's name means: with one underscore or with two between section and setting.
fn named(rest: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| {
        let (section, name) = setting.split();
        let name = name.to_uppercase();
        match section.map(str::to_uppercase) {
            None => rest == name,
            Some(section) => rest
                .strip_prefix(&section)
                .is_some_and(|rest| rest.strip_prefix("__").or(rest.strip_prefix('_')) == Some(&name)),
        }
    })
}
