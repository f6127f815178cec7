//! The stored bytes of entities and resources, and whether two are the same.

use anyhow::Result;
use ecsdb::{ComponentId, Entity, View};
use ecsdb_query::Reader;

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
