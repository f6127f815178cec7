//! Settings that a page changes: any but where files lie.

use ecsdb::{ErrorKind, PersistenceConfig};
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};

/// The settings, with those of `wanted`, an object of sections as in a configuration file, in their place.
pub(crate) fn with(current: &PersistenceConfig, wanted: Map<String, Json>) -> Result<PersistenceConfig> {
    let wrong = |e: serde_json::Error| Error { kind: ErrorKind::Config, message: e.to_string() };
    let mut all = serde_json::to_value(current).map_err(wrong)?;
    for (section, settings) in wanted {
        let (Json::Object(settings), Some(all)) = (settings, all.as_object_mut()) else {
            let message = format!("`{section}` is no section with settings");
            return Err(Error { kind: ErrorKind::Config, message });
        };
        let section = all.entry(section).or_insert_with(|| Json::Object(Map::new()));
        for (key, value) in settings {
            // Nothing leaves the directories that the application was started with.
            if key == "dir" {
                return Err(Error::call("directories are the application's to choose"));
            }
            if let Some(section) = section.as_object_mut() {
                section.insert(key, value);
            }
        }
    }
    let mut config: PersistenceConfig = serde_json::from_value(all).map_err(wrong)?;
    // Byte for byte, whatever characters are in them.
    config.dir.clone_from(&current.dir);
    config.wal.dir.clone_from(&current.wal.dir);
    config.snapshot.dir.clone_from(&current.snapshot.dir);
    config.archive.dir.clone_from(&current.archive.dir);
    Ok(config)
}
