//! Settings that a page changes: any but where files lie.

use ecsdb::PersistenceConfig;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};

/// The settings, with those of `wanted`, an object of sections as in a configuration file, in their place.
pub(crate) fn with(current: &PersistenceConfig, wanted: Map<String, Json>) -> Result<PersistenceConfig> {
    // Nothing leaves the directories that the application was started with.
    let of_sections = wanted.iter().filter(|(_, section)| section.get("dir").is_some());
    let dirs = of_sections.map(|(section, _)| format!("{section}.dir"));
    if let Some(key) = dirs.chain(wanted.contains_key("dir").then(|| "dir".into())).next() {
        return Err(Error::call(format!("settings: {key}: directories are the application's to choose")));
    }
    Ok(current.with(wanted).map_err(ecsdb::Error::from)?)
}
