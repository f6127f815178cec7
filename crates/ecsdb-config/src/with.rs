//! Settings that a program gets from somebody as values, over those that there are.

use figment::Figment;
use figment::providers::Serialized;
use figment::value::Value;
use serde::Serialize;

use crate::check::check_layer;
use crate::error::{Error, Origin, Problem, Result};
use crate::settings::PersistenceConfig;

impl PersistenceConfig {
    /// These settings, and over them those of `said`: sections with settings, written as in a configuration file. Nothing (`None`, `null` in JSON) takes
    /// back one that may be left open: `archive.enabled`, and the directories in a section.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use ecsdb_config::PersistenceConfig;
    ///
    /// let said = |interval| BTreeMap::from([("snapshot", BTreeMap::from([("interval", interval)]))]);
    /// let config = PersistenceConfig::new("world").with(said("1h"))?;
    /// assert_eq!(config.snapshot.interval.as_secs(), 3600);
    ///
    /// let refused = config.with(said("often")).unwrap_err().to_string();
    /// assert!(refused.starts_with("snapshot.interval is \"often\", but has to be a time"));
    /// # Ok::<(), ecsdb_config::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`], with everything that is wrong, each with its setting.
    pub fn with(&self, said: impl Serialize) -> Result<Self> {
        let refused =
            |text: String| Error::Invalid(vec![Problem { key: "".into(), origin: Origin::Given, text }]);
        let said = Value::serialize(said).map_err(|e| refused(format!("this cannot be read: {}", e.kind)))?;
        let values = said.as_dict().ok_or_else(|| refused("sections with settings were expected".into()))?;
        let mut problems = Vec::new();
        let said = check_layer(values, None, &mut problems);
        let is_said = |key: &str| said.right.iter().any(|(said, _)| *said == key);
        let mut figment = Figment::from(Serialized::defaults(self));
        for (key, value) in &said.right {
            figment = figment.merge(Serialized::default(key, value));
        }
        // Every value has been looked at: this is for what is missed there.
        let mut config: PersistenceConfig = match figment.extract() {
            Ok(config) => config,
            Err(e) => {
                problems.extend(
                    e.into_iter()
                        .map(|e| Problem::of((e.path.join("."), Origin::Given), &e.kind.to_string())),
                );
                return Err(Error::Invalid(problems));
            }
        };
        // Byte for byte, whatever characters are in them.
        for (key, to, from) in [
            ("wal.dir", &mut config.wal.dir, &self.wal.dir),
            ("snapshot.dir", &mut config.snapshot.dir, &self.snapshot.dir),
            ("archive.dir", &mut config.archive.dir, &self.archive.dir),
        ] {
            if !is_said(key) {
                to.clone_from(from);
            }
        }
        if !is_said("dir") {
            config.dir.clone_from(&self.dir);
        }
        config.written = self.written.clone();
        let is_wrong = |key: &str| {
            said.wrong.iter().any(|wrong| wrong == key || key.split('.').next() == Some(&**wrong))
        };
        let origin = |key: &str| if is_said(key) { (key.into(), Origin::Given) } else { config.origin(key) };
        config.check_rules(&|key| (!is_wrong(key)).then(|| origin(key)), &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(Error::Invalid(problems)) }
    }
}
