//! What a change of settings changes, and when.

use crate::reference::settings;
use crate::setting::Applies;
use crate::settings::PersistenceConfig;

/// Which settings a change is about, by when it takes effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "what is for the next opening has not taken effect"]
#[non_exhaustive]
pub struct Changes {
    /// These have taken effect.
    pub live: Vec<&'static str>,
    /// These differ from what the database was opened with, and take effect when it is opened with them.
    pub at_next_opening: Vec<&'static str>,
}

impl Changes {
    /// True when nothing changes.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.at_next_opening.is_empty()
    }
}

impl PersistenceConfig {
    /// What changes when `new` takes the place of these settings, those of an opening being `opened`.
    pub fn changes_to(&self, new: &PersistenceConfig, opened: &PersistenceConfig) -> Changes {
        let differ = |before: &PersistenceConfig, applies: Applies| {
            let (before_dirs, new_dirs) = (before.directories(), new.directories());
            let (before, new) = (before.values(), new.values());
            let of_this_time = settings().iter().filter(move |setting| setting.applies == applies);
            of_this_time
                .filter(move |setting| {
                    // Two names of one directory are no change.
                    let dir = before_dirs.iter().zip(&new_dirs).find(|((key, _), _)| *key == setting.key);
                    match dir {
                        Some(((_, before), (_, new))) => !crate::validate::is_same_dir(before, new),
                        None => before.find_ref(&setting.key) != new.find_ref(&setting.key),
                    }
                })
                .map(|setting| &*setting.key)
                .collect()
        };
        Changes { live: differ(self, Applies::Live), at_next_opening: differ(opened, Applies::NextOpening) }
    }
}
