//! Reading the values of a view, whatever their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecsdb::{ComponentDef, ComponentId, View, WorldError};
use ecsdb_core::describe::{Description, Value, Values};
use ecsdb_core::parts::ColumnPart;
use serde_json::{Value as Json, json};

use crate::error::{Result, unknown};
use crate::hex::hex;
use crate::json::to_json;
use crate::shape::ROOT;

/// The components of a view.
#[derive(Debug)]
pub struct Components(pub(crate) BTreeMap<ComponentId, ComponentDef>);

impl Components {
    /// Those that it knows of, whether or not an entity has them.
    pub fn of(view: &View) -> Components {
        Components(view.components().map(|def| (def.id, def.clone())).collect())
    }

    /// All of them, by their ids.
    pub fn all(&self) -> impl Iterator<Item = &ComponentDef> {
        self.0.values()
    }

    /// The component with this id.
    pub fn get(&self, id: ComponentId) -> Option<&ComponentDef> {
        self.0.get(&id)
    }

    /// The name of the component with this id.
    pub fn name(&self, id: ComponentId) -> String {
        self.get(id).map_or_else(|| format!("component {}", id.0), |def| def.name.to_string())
    }

    /// The component of this name.
    ///
    /// # Errors
    /// When there is none: the error suggests the nearest one.
    pub fn named(&self, name: &str) -> Result<&ComponentDef> {
        let found = self.all().find(|def| &*def.name == name);
        found.ok_or_else(|| unknown("component", name, self.all().map(|def| &*def.name)))
    }
}

/// What reads the values of one component.
#[derive(Debug)]
pub struct Reader<'d> {
    /// The component.
    pub def: &'d ComponentDef,
    values: Result<Values<'d>, String>,
}

/// A value, as far as it can be read.
#[derive(Debug)]
pub struct Stored {
    /// As it is stored.
    pub bytes: Vec<u8>,
    /// The value, or why it cannot be read.
    pub value: Result<Value, String>,
}

impl<'d> Reader<'d> {
    /// What reads the component's values.
    pub fn of(def: &'d ComponentDef) -> Reader<'d> {
        Reader { def, values: Values::of(&def.description).map_err(|e| e.to_string()) }
    }

    /// What the component says of its type.
    pub fn description(&self) -> &'d Arc<Description> {
        &self.def.description
    }

    /// What reads and writes its values; `None` where the description cannot be followed.
    pub fn values(&self) -> Option<&Values<'d>> {
        self.values.as_ref().ok()
    }

    /// The value of a row.
    ///
    /// # Errors
    /// When there is no such row, or the value in it cannot be encoded.
    pub fn row(&self, column: &ColumnPart, row: usize) -> Result<Stored, WorldError> {
        let mut bytes = Vec::new();
        column.encode_row(row, &mut bytes)?;
        Ok(self.stored(bytes))
    }

    /// The value that the stored bytes are.
    pub fn stored(&self, bytes: Vec<u8>) -> Stored {
        let value = match &self.values {
            Ok(values) => values.read(&bytes).map_err(|e| e.to_string()),
            Err(e) => Err(e.clone()),
        };
        Stored { bytes, value }
    }

    /// A value as JSON; one that cannot be read as its stored bytes.
    pub fn json(&self, stored: &Stored) -> Json {
        match &stored.value {
            Ok(value) => to_json(&self.def.description, ROOT, value),
            Err(_) => json!({ "stored": hex(&stored.bytes) }),
        }
    }
}
