//! Reading the values of a view, whatever their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use ecsdb::{ComponentDef, ComponentId, Entity, View};
use ecsdb_core::describe::{Description, Value, Values};
use ecsdb_core::parts::ColumnPart;
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::output::hex;
use crate::values::{ROOT, to_json};

/// The components of a view.
pub(crate) struct Components(BTreeMap<ComponentId, ComponentDef>);

impl Components {
    pub(crate) fn of(view: &View) -> Components {
        Components(view.components().map(|def| (def.id, def.clone())).collect())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ComponentDef> {
        self.0.values()
    }

    pub(crate) fn get(&self, id: ComponentId) -> Option<&ComponentDef> {
        self.0.get(&id)
    }

    pub(crate) fn name(&self, id: ComponentId) -> String {
        self.get(id).map_or_else(|| format!("component {}", id.0), |def| def.name.to_string())
    }

    /// The component of this name; an error that suggests the nearest one.
    pub(crate) fn named(&self, name: &str) -> Result<&ComponentDef> {
        let found = self.all().find(|def| &*def.name == name);
        found.ok_or_else(|| unknown("component", name, self.all().map(|def| &*def.name)))
    }
}

/// There is nothing of this name; the nearest is suggested.
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> anyhow::Error {
    let near = known.map(|known| (strsim::normalized_damerau_levenshtein(known, name), known));
    let near = near.filter(|(likeness, _)| *likeness > 0.5).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match near {
        Some((_, near)) => format!(": did you mean {near}?"),
        None => String::new(),
    };
    let name = if name.is_empty() { "with the empty name" } else { name };
    Failure::Usage(format!("there is no {what} {name}{hint}")).into()
}

/// What reads the values of one component.
pub(crate) struct Reader<'d> {
    pub(crate) def: &'d ComponentDef,
    values: Result<Values<'d>, String>,
}

/// A value, as far as it can be read.
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    /// Why it cannot be read, where it cannot.
    pub(crate) value: Result<Value, String>,
}

impl<'d> Reader<'d> {
    pub(crate) fn of(def: &'d ComponentDef) -> Reader<'d> {
        Reader { def, values: Values::of(&def.description).map_err(|e| e.to_string()) }
    }

    pub(crate) fn description(&self) -> &'d Arc<Description> {
        &self.def.description
    }

    pub(crate) fn values(&self) -> Option<&Values<'d>> {
        self.values.as_ref().ok()
    }

    /// The value of a row.
    pub(crate) fn row(&self, column: &ColumnPart, row: usize) -> Result<Stored> {
        let mut bytes = Vec::new();
        column.encode_row(row, &mut bytes)?;
        Ok(self.stored(bytes))
    }

    pub(crate) fn stored(&self, bytes: Vec<u8>) -> Stored {
        let value = match &self.values {
            Ok(values) => values.read(&bytes).map_err(|e| e.to_string()),
            Err(e) => Err(e.clone()),
        };
        Stored { bytes, value }
    }

    /// A value as JSON; one that cannot be read as its stored bytes.
    pub(crate) fn json(&self, stored: &Stored) -> Json {
        match &stored.value {
            Ok(value) => to_json(&self.def.description, ROOT, value),
            Err(_) => json!({ "stored": hex(&stored.bytes) }),
        }
    }
}

/// Stored bytes, by component.
pub(crate) type StoredValues = Vec<(ComponentId, Vec<u8>)>;

/// The stored bytes of all components of an entity; `None` when it is not there.
pub(crate) fn of_entity(view: &View, entity: Entity) -> Result<Option<StoredValues>> {
    let Some((chunk, row)) = view.find(entity) else { return Ok(None) };
    let mut all = Vec::new();
    for column in chunk.columns() {
        if let Some(id) = column.component {
            let mut bytes = Vec::new();
            column.encode_row(row, &mut bytes)?;
            all.push((id, bytes));
        }
    }
    Ok(Some(all))
}

/// The stored bytes of all resources.
pub(crate) fn of_resources(view: &View) -> Result<StoredValues> {
    let mut all = Vec::new();
    for column in view.resources() {
        if let Some(id) = column.component {
            let mut bytes = Vec::new();
            column.encode_row(0, &mut bytes)?;
            all.push((id, bytes));
        }
    }
    Ok(all)
}

/// Whether two stored values of a type are equal, whatever the order in their containers.
pub(crate) fn is_same(reader: &Reader<'_>, a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let Some(values) = reader.values() else { return false };
    let canonical = |bytes: &[u8]| {
        let mut out = Vec::new();
        values.canonical(bytes, &mut out).ok().map(|()| out)
    };
    matches!((canonical(a), canonical(b)), (Some(a), Some(b)) if a == b)
}
