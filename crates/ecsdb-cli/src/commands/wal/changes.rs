//! What a transaction changed, for people and programs.

use std::collections::BTreeMap;

use ecsdb::{ComponentId, Entity};
use ecsdb_core::Change;
use serde_json::{Value as Json, json};

use crate::output::many;

/// Names of components, by their numbers.
pub(super) type Names = BTreeMap<ComponentId, String>;

pub(super) fn define(names: &mut Names, changes: &[Change]) {
    for change in changes {
        if let Change::Define(def) = change {
            names.insert(def.id, def.name.to_string());
        }
    }
}

/// Entities that are named one by one, for people.
const NAMED_MAX: usize = 3;

pub(super) fn show(change: &Change, names: &Names) -> (Json, String) {
    let name = |id: &ComponentId| names.get(id).cloned().unwrap_or_else(|| format!("component {}", id.0));
    let all = |ids: &[ComponentId]| ids.iter().map(name).collect::<Vec<_>>();
    let ids = |entities: &[Entity]| entities.iter().map(ToString::to_string).collect::<Vec<_>>();
    let some = |entities: &[Entity]| match entities.len() {
        n if n > NAMED_MAX => {
            format!("{} ({} to {})", many(n as u64, "entity", "entities"), entities[0], entities[n - 1])
        }
        _ => ids(entities).join(", "),
    };
    let of = |what: &str, entities: &[Entity], components: &[ComponentId]| {
        let list = all(components).join(", ");
        let json = json!({ "op": what, "entities": ids(entities), "components": all(components) });
        (json, format!("{what} {} {list}", some(entities)).trim_end().to_string())
    };
    match change {
        Change::Define(def) => (
            json!({ "op": "define", "component": &*def.name, "type": def.description.to_string() }),
            format!("define {}: {}", def.name, def.description),
        ),
        Change::Spawn { entities, components } => of("spawn", entities, components),
        Change::Despawn { entities } => of("despawn", entities, &[]),
        Change::Put { entities, components } => of("put", entities, components),
        Change::Remove { entities, components } => of("remove", entities, components),
        Change::PutResource(id) => {
            (json!({ "op": "put_resource", "component": name(id) }), format!("put resource {}", name(id)))
        }
        Change::RemoveResource(id) => (
            json!({ "op": "remove_resource", "component": name(id) }),
            format!("remove resource {}", name(id)),
        ),
        Change::Floor(floor) => {
            (json!({ "op": "floor", "generation": floor }), format!("new ids from generation {floor} on"))
        }
    }
}
