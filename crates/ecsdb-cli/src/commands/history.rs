//! `ecsdb history`

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Result;
use clap::Args;
use ecsdb::{ComponentId, Entity, Lsn, Moment, View};
use ecsdb_query::{Components, Reader};
use serde_json::{Value as Json, json};

use super::stored::{is_same, of_entity};
use crate::failure::Failure;
use crate::output::Output;
use crate::place::{Look, Place};
use crate::times;

/// Options of `history`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// The entity, such as 12v3.
    entity: Entity,
    /// Only this component.
    component: Option<String>,
}

/// What happened to an entity, or to one of its components, in one transaction.
struct Moved {
    lsn: u64,
    unix_ns: u64,
    what: &'static str,
    component: Option<String>,
    value: Json,
}

/// What was found of it up to the end, or to where the log has lost something, and from where on.
#[derive(Default)]
struct Found {
    first: u64,
    moved: Vec<Moved>,
}

/// The stored values of the entity; `None` while it is not there.
type Values = Option<BTreeMap<ComponentId, Vec<u8>>>;

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let mut found = Found::default();
    let followed = options.place.settle()?.look(|look| follow(look, options, &mut found));
    let Found { first, moved } = found;
    if moved.is_empty() {
        let components = followed?;
        if let Some(name) = &options.component {
            components.named(name)?;
        }
        let what = match &options.component {
            Some(component) => format!("entity {} with {component}", options.entity),
            None => format!("entity {}", options.entity),
        };
        return Err(Failure::Missing(format!(
            "the retained log, which goes back to LSN {first}, has no {what}"
        ))
        .into());
    }
    if out.is_json() {
        for moved in moved {
            out.json(&json!({
                "lsn": moved.lsn, "time": times::json(moved.unix_ns), "what": moved.what,
                "component": moved.component, "value": moved.value,
            }))?;
        }
        return followed.map(drop);
    }
    out.line(format_args!("entity {}, from LSN {first} on", options.entity))?;
    let rows = moved.into_iter().map(|moved| {
        let value = if moved.value.is_null() && moved.what != "value" {
            String::new()
        } else {
            moved.value.to_string()
        };
        let component = moved.component.unwrap_or_default();
        vec![moved.lsn.to_string(), times::local(moved.unix_ns), moved.what.into(), component, value]
    });
    out.table(&["LSN", "time", "what", "component", "value"], rows.collect())?;
    followed.map(drop)
}

fn values(view: &View, entity: Entity) -> Result<Values> {
    Ok(of_entity(view, entity)?.map(|values| values.into_iter().collect()))
}

/// Goes through the retained past from its first moment on, and gives the components that there are at its end.
fn follow(look: &Look<'_>, options: &Options, found: &mut Found) -> Result<Components> {
    *found = Found::default();
    let history = look.history()?;
    let Some(((first, first_ns), _)) = history.range() else {
        return Err(Failure::Missing("nothing was ever committed".into()).into());
    };
    let mut seen = look.see_by(&history, Moment::Lsn(first))?;
    found.first = first.0;
    let moved = &mut found.moved;
    let mut before = values(&seen.view, options.entity)?;
    note(&seen.view, &None, &before, (first.0, first_ns), "as of", options, moved)?;
    let mut failed = None;
    history.transactions(first, Lsn::MAX, |transaction, change_set| {
        let step =
            seen.world.apply(transaction.lsn, change_set).map_err(anyhow::Error::from).and_then(|_| {
                let view = seen.world.view();
                let after = values(&view, options.entity)?;
                let at = (transaction.lsn.0, transaction.unix_ns);
                note(&view, &before, &after, at, "spawned", options, moved)?;
                before = after;
                Ok(())
            });
        match step {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(e) => Err(e),
        None => Ok(Components::of(&seen.world.view())),
    }
}

/// Notes how two states of the entity differ.
fn note(
    view: &View,
    before: &Values,
    after: &Values,
    (lsn, unix_ns): (u64, u64),
    appeared: &'static str,
    options: &Options,
    moved: &mut Vec<Moved>,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let components = Components::of(view);
    let mut push = |what, component: Option<String>, value| {
        let wanted = match (&options.component, &component) {
            (Some(wanted), Some(component)) => wanted == component,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if wanted {
            moved.push(Moved { lsn, unix_ns, what, component, value });
        }
    };
    let none = BTreeMap::new();
    let (old, new) = (before.as_ref().unwrap_or(&none), after.as_ref().unwrap_or(&none));
    match (before, after) {
        (None, Some(_)) => push(appeared, None, Json::Null),
        // The values went with it.
        (Some(_), None) if options.component.is_none() => {
            push("despawned", None, Json::Null);
            return Ok(());
        }
        _ => {}
    }
    for &id in old.keys().filter(|id| !new.contains_key(id)) {
        push("removed", Some(components.name(id)), Json::Null);
    }
    for (&id, bytes) in new {
        let Some(def) = components.get(id) else { continue };
        let reader = Reader::of(def);
        let same = old.get(&id).is_some_and(|old| is_same(&reader, old, bytes));
        if !same {
            let stored = reader.stored(bytes.clone());
            push("value", Some(def.name.to_string()), reader.json(&stored));
        }
    }
    Ok(())
}
