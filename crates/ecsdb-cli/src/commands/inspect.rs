//! `ecsdb inspect`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use ecsdb::{ComponentId, Entity, StorageKind};
use ecsdb_query::{Components, Reader};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Map, Value as Json, json};

use super::stored::{of_entity, of_resources};
use crate::failure::Failure;
use crate::output::{Output, many};
use crate::place::{Place, Seen, When};

/// Options of `inspect`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// An entity, such as 12v3: all its values.
    entity: Option<Entity>,
    #[command(flatten)]
    when: When,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let seen = options.place.settle()?.see(options.when.moment())?;
    match options.entity {
        Some(entity) => one(&seen, entity, out),
        None => all(&seen, out),
    }
}

fn one(seen: &Seen, entity: Entity, out: &mut Output) -> Result<()> {
    let components = Components::of(&seen.view);
    let Some(values) = of_entity(&seen.view, entity)? else {
        let state = seen.line();
        return Err(Failure::Missing(format!("there is no entity {entity}, {state}")).into());
    };
    let read = values.into_iter().filter_map(|(id, bytes)| {
        let def = components.get(id)?;
        let reader = Reader::of(def);
        let stored = reader.stored(bytes);
        Some((def.name.to_string(), reader.json(&stored)))
    });
    let values: Vec<(String, Json)> = read.collect();
    if out.is_json() {
        let components: Map<String, Json> = values.into_iter().collect();
        let entity = entity.to_string();
        return out.json(&json!({ "state": seen.json(), "entity": entity, "components": components }));
    }
    out.line(format_args!("entity {entity}, {}", seen.line()))?;
    out.table(
        &["component", "value"],
        values.into_iter().map(|(name, value)| vec![name, value.to_string()]).collect(),
    )
}

/// What one component takes.
#[derive(Default, Clone, Copy)]
struct Use {
    entities: u64,
    bytes: u64,
}

pub(crate) fn kind(kind: StorageKind) -> &'static str {
    match kind {
        StorageKind::Plain => "plain",
        StorageKind::Archived => "archived",
        StorageKind::Transient => "transient",
    }
}

fn all(seen: &Seen, out: &mut Output) -> Result<()> {
    let view = &seen.view;
    let components = Components::of(view);
    let mut archetypes: BTreeMap<Vec<ComponentId>, u64> = BTreeMap::new();
    let mut uses: BTreeMap<ComponentId, Use> = BTreeMap::new();
    let mut bytes = Vec::new();
    for chunk in view.chunks() {
        *archetypes.entry(chunk.components().collect()).or_default() += chunk.rows() as u64;
        for column in chunk.columns() {
            let Some(id) = column.component else { continue };
            bytes.clear();
            column.encode(&mut bytes)?;
            let of = uses.entry(id).or_default();
            of.entities += chunk.rows() as u64;
            of.bytes += bytes.len() as u64;
        }
    }
    let resources: Vec<(String, Json)> = of_resources(view)?
        .into_iter()
        .filter_map(|(id, bytes)| {
            let reader = Reader::of(components.get(id)?);
            let stored = reader.stored(bytes);
            Some((reader.def.name.to_string(), reader.json(&stored)))
        })
        .collect();
    let names = |ids: &[ComponentId]| ids.iter().map(|&id| components.name(id)).collect::<Vec<_>>();
    if out.is_json() {
        let archetypes: Vec<Json> = archetypes
            .iter()
            .map(|(ids, entities)| json!({ "components": names(ids), "entities": entities }))
            .collect();
        let components: Vec<Json> = components
            .all()
            .map(|def| {
                let of = uses.get(&def.id).copied().unwrap_or_default();
                json!({
                    "name": &*def.name, "kind": kind(def.kind), "version": def.version,
                    "type": def.description.to_string(),
                    "fingerprint": format!("{:016x}", def.description.fingerprint()),
                    "entities": of.entities, "bytes": of.bytes,
                })
            })
            .collect();
        let resources: Map<String, Json> = resources.into_iter().collect();
        return out.json(&json!({
            "state": seen.json(), "entities": view.len(), "archetypes": archetypes, "components": components,
            "resources": resources,
        }));
    }
    out.line(format_args!("{}, {}", many(view.len() as u64, "entity", "entities"), seen.line()))?;
    let rows = archetypes.iter().map(|(ids, n)| vec![HumanCount(*n).to_string(), names(ids).join(", ")]);
    out.table(&["entities", "archetype"], rows.collect())?;
    let rows = components.all().map(|def| {
        let of = uses.get(&def.id).copied().unwrap_or_default();
        vec![
            def.name.to_string(),
            kind(def.kind).to_string(),
            HumanCount(of.entities).to_string(),
            HumanBytes(of.bytes).to_string(),
            def.description.to_string(),
        ]
    });
    out.table(&["component", "kind", "entities", "bytes", "type"], rows.collect())?;
    let rows = resources.into_iter().map(|(name, value)| vec![name, value.to_string()]);
    out.table(&["resource", "value"], rows.collect())
}
