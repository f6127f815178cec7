//! `ecsdb diff`

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use ecsdb::{ComponentDef, Entity, Lsn, Moment};
use ecsdb_query::{Components, Reader};
use serde_json::{Value as Json, json};

use super::stored::{is_same, of_entity, of_resources};
use crate::failure::Failure;
use crate::output::{Output, many};
use crate::place::{Place, Seen};
use crate::times;

/// Options of `diff`.
#[derive(Args)]
pub(crate) struct Options {
    /// A database, or a moment of one: DIR, DIR@LSN, DIR@snapshot:N, DIR@TIME.
    #[arg(value_parser = OsStringValueParser::new().try_map(Side::parse))]
    a: Side,
    /// Another.
    #[arg(value_parser = OsStringValueParser::new().try_map(Side::parse))]
    b: Side,
}

/// One of the two that are compared.
#[derive(Clone)]
struct Side {
    place: Place,
    moment: Moment,
}

impl Side {
    /// What follows the last `@` is a moment, unless the whole is a directory. A moment is text; a directory need not be.
    fn parse(word: OsString) -> Result<Side, String> {
        let whole = PathBuf::from(&word);
        let Some((dir, moment)) = split(&word).filter(|_| !whole.is_dir()) else {
            return Side::of(whole, Moment::Latest);
        };
        let moment = if let Ok(lsn) = moment.parse() {
            Moment::Lsn(Lsn(lsn))
        } else if let Some(number) = moment.strip_prefix("snapshot:") {
            Moment::Snapshot(number.parse().map_err(|_| format!("{number} is no number of a snapshot"))?)
        } else {
            Moment::Time(times::system_time(times::parse(&moment)?))
        };
        Side::of(dir.into(), moment)
    }

    fn of(dir: PathBuf, moment: Moment) -> Result<Side, String> {
        match dir.as_os_str().is_empty() {
            true => Err("the directory has no name".into()),
            false => Ok(Side { place: Place::of(dir), moment }),
        }
    }
}

#[cfg(unix)]
fn split(word: &OsStr) -> Option<(OsString, String)> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = word.as_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'@')?;
    let moment = OsStr::from_bytes(&bytes[at + 1..]).to_string_lossy().into_owned();
    Some((OsStr::from_bytes(&bytes[..at]).into(), moment))
}

#[cfg(not(unix))]
fn split(word: &OsStr) -> Option<(OsString, String)> {
    let (dir, moment) = word.to_str()?.rsplit_once('@')?;
    Some((dir.into(), moment.into()))
}

/// The values of an entity, or of all resources, by component.
type Values<'s> = BTreeMap<&'s str, (&'s ComponentDef, Vec<u8>)>;

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let [a, b] = [&options.a, &options.b];
    let (at_a, at_b) = (a.place.settle()?, b.place.settle()?);
    let (a, b) = (at_a.see(a.moment)?, at_b.see(b.moment)?);
    let (of_a, of_b) = (Components::of(&a.view), Components::of(&b.view));
    if out.is_json() {
        out.json(&json!({ "a": a.json(), "b": b.json() }))?;
    } else {
        out.line(format_args!("a: {}", a.line()))?;
        out.line(format_args!("b: {}", b.line()))?;
    }
    let mut differences = 0;
    for entity in entities(&a) {
        let old = values(&a, entity, &of_a)?;
        let new = values(&b, entity, &of_b)?;
        differences += compare(Some(entity), old.as_ref(), new.as_ref(), out)?;
    }
    for entity in entities(&b).filter(|&entity| !a.view.contains(entity)) {
        let new = values(&b, entity, &of_b)?;
        differences += compare(Some(entity), None, new.as_ref(), out)?;
    }
    let (old, new) = (resources(&a, &of_a)?, resources(&b, &of_b)?);
    differences += compare(None, Some(&old), Some(&new), out)?;
    if differences > 0 {
        if !out.is_json() {
            out.line(many(differences, "difference", "differences"))?;
        }
        return Err(Failure::Differs.into());
    }
    if out.is_json() { Ok(()) } else { out.line("the same") }
}

fn entities(seen: &Seen) -> impl Iterator<Item = Entity> {
    seen.view.chunks().flat_map(|chunk| {
        let ids = chunk.columns().next();
        ids.and_then(|ids| ids.entities().map(<[Entity]>::to_vec)).unwrap_or_default()
    })
}

fn values<'s>(seen: &Seen, entity: Entity, components: &'s Components) -> Result<Option<Values<'s>>> {
    let Some(values) = of_entity(&seen.view, entity)? else { return Ok(None) };
    let named = values.into_iter().filter_map(|(id, bytes)| {
        let def = components.get(id)?;
        Some((&*def.name, (def, bytes)))
    });
    Ok(Some(named.collect()))
}

fn resources<'s>(seen: &Seen, components: &'s Components) -> Result<Values<'s>> {
    let named = of_resources(&seen.view)?.into_iter().filter_map(|(id, bytes)| {
        let def = components.get(id)?;
        Some((&*def.name, (def, bytes)))
    });
    Ok(named.collect())
}

/// Says how two differ, and counts how often.
fn compare(
    entity: Option<Entity>,
    a: Option<&Values<'_>>,
    b: Option<&Values<'_>>,
    out: &mut Output,
) -> Result<u64> {
    let none = BTreeMap::new();
    let (old, new) = (a.unwrap_or(&none), b.unwrap_or(&none));
    let subject = entity.map_or("resource".to_string(), |entity| entity.to_string());
    let mut n = 0;
    let mut say = |what: &str, component: Option<&str>, a: Option<Json>, b: Option<Json>| -> Result<()> {
        n += 1;
        if out.is_json() {
            return out.json(&json!({
                "what": what, "entity": entity.map(|entity| entity.to_string()), "component": component, "a": a, "b": b,
            }));
        }
        let sign = match what {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let name = component.unwrap_or("(entity)");
        let values = match (a, b) {
            (Some(a), Some(b)) => format!(": {a} -> {b}"),
            (Some(one), None) | (None, Some(one)) => format!(": {one}"),
            (None, None) => String::new(),
        };
        out.line(format_args!("{sign} {subject} {name}{values}"))
    };
    match (a, b) {
        (None, Some(_)) => say("added", None, None, None)?,
        (Some(_), None) => say("removed", None, None, None)?,
        _ => {}
    }
    let json = |def: &ComponentDef, bytes: &[u8]| {
        let reader = Reader::of(def);
        reader.json(&reader.stored(bytes.to_vec()))
    };
    for (name, (def, bytes)) in old {
        match new.get(name) {
            None => say("removed", Some(name), Some(json(def, bytes)), None)?,
            Some((new_def, new_bytes)) => {
                let same = def.kind == new_def.kind
                    && def.description == new_def.description
                    && is_same(&Reader::of(def), bytes, new_bytes);
                if !same {
                    say("changed", Some(name), Some(json(def, bytes)), Some(json(new_def, new_bytes)))?;
                }
            }
        }
    }
    for (name, (def, bytes)) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        say("added", Some(name), None, Some(json(def, bytes)))?;
    }
    Ok(n)
}
