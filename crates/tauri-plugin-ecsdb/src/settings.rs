//! Settings that a page changes: any but where files lie.

use ecsdb::PersistenceConfig;
use ecsdb::config::{Unit, settings};
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};

/// The settings, with those of `wanted`, an object of sections as in a configuration file, in their place.
pub(crate) fn with(current: &PersistenceConfig, wanted: Map<String, Json>) -> Result<PersistenceConfig> {
    let is_said = |key: &str| match key.split_once('.') {
        Some((section, name)) => wanted.get(section).is_some_and(|section| section.get(name).is_some()),
        None => wanted.contains_key(key),
    };
    // Nothing leaves the directories that the application was started with.
    if let Some(path) = settings().iter().find(|setting| setting.unit == Unit::Path && is_said(&setting.key))
    {
        let refused = Error::call("directories are the application's to choose: leave it out");
        return Err(refused.of(&path.key).of("settings"));
    }
    Ok(current.with(wanted).map_err(ecsdb::Error::from)?)
}
