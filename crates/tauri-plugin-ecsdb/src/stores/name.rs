//! The name of a store: a plain file name, since that of an older store's file is what it is.

use crate::error::{Error, Result};

/// What file systems take.
const BYTES_MAX: usize = 255;

/// The name of a store: `settings.json`, say. Nothing in it leads anywhere else than into one directory, on any system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(String);

impl StoreName {
    /// The name, if it is one.
    ///
    /// ```
    /// use tauri_plugin_ecsdb::StoreName;
    ///
    /// assert!(StoreName::new("settings.json").is_ok());
    /// assert!(StoreName::new("../settings.json").is_err());
    /// ```
    ///
    /// # Errors
    /// Of kind [`Call`](ecsdb::ErrorKind::Call), when it is no plain file name.
    pub fn new(name: impl Into<String>) -> Result<StoreName> {
        let name = name.into();
        let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
        if name.is_empty()
            || name.len() > BYTES_MAX
            || name.trim_matches('.').is_empty()
            || name.contains(is_odd)
        {
            return Err(Error::call(format!(
                "{name:?} is no name of a store: a plain file name is, such as settings.json"
            )));
        }
        Ok(StoreName(name))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
