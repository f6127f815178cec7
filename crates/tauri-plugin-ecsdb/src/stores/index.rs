//! Which entity has which key of which store. It is made of the world when that is opened, and changed with each commit.

use std::collections::BTreeMap;

use ecsdb::prelude::*;
use serde_json::{Map, Value as Json};

use super::name::StoreName;
use crate::error::Result;

/// That there is a store of this name, empty or not.
#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "tauri.store", archived)]
pub(super) struct Known {
    pub(super) name: String,
}

/// A value, as JSON text.
#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "tauri.store.entry", archived)]
pub(super) struct Entry {
    pub(super) store: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// One store.
#[derive(Default)]
pub(super) struct Held {
    /// It is in the database, so that an older file was looked at.
    pub(super) is_known: bool,
    pub(super) keys: BTreeMap<String, Entity>,
    /// What `reset` goes back to, once the store was loaded in this process.
    pub(super) defaults: Option<Map<String, Json>>,
    /// LSN of that.
    pub(super) loaded: Lsn,
}

/// All stores.
#[derive(Default)]
pub(super) struct Index(BTreeMap<StoreName, Held>);

impl Index {
    pub(super) fn of(view: &View) -> Result<Index> {
        let mut index = Index::default();
        for known in view.query::<&Known>()? {
            index.of_store(&StoreName::new(&known.name)?).is_known = true;
        }
        for (entity, entry) in view.query::<(Entity, &Entry)>()? {
            index.of_store(&StoreName::new(&entry.store)?).keys.insert(entry.key.clone(), entity);
        }
        Ok(index)
    }

    pub(super) fn of_store(&mut self, name: &StoreName) -> &mut Held {
        self.0.entry(name.clone()).or_default()
    }

    pub(super) fn get(&self, name: &StoreName) -> Option<&Held> {
        self.0.get(name)
    }
}
