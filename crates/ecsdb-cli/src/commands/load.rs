//! `ecsdb load`: a database from what `dump` wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::{ComponentDef, ComponentId, Description, Entity, Lsn, StorageKind, View};
use ecsdb_core::World;
use ecsdb_core::describe::Values;
use ecsdb_core::parts::{Allocators, WorldBuilder};
use ecsdb_query::{from_hex, from_json, unknown};
use ecsdb_snapshot::Kept;
use serde_json::{Map, Value as Json, json};

use super::copy;
use super::dump::FORMAT;
use crate::failure::Failure;
use crate::output::{self, Output, many};
use crate::place::Place;
use crate::target;

/// Options of `load`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// What `ecsdb dump` wrote; standard input for `-`.
    file: PathBuf,
    /// Read and check all of it, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let dir = &options.place.dir;
    target::for_copy(None, dir)?;
    let settled = options.place.settle_new()?;
    let layout = settled.layout()?;
    target::for_copy_elsewhere(&layout)?;
    let dumped = if options.file == Path::new("-") {
        read(&mut io::stdin().lock()).context("standard input")?
    } else {
        let name = || options.file.display().to_string();
        let file = match File::open(&options.file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::Missing(format!("there is no file {}", name())).into());
            }
            file => file.with_context(name)?,
        };
        read(&mut BufReader::new(file)).with_context(name)?
    };
    let (view, same) = (dumped.view, dumped.same);
    let info = match options.dry_run {
        true => None,
        false => Some(copy::write(view.clone(), &layout, &settled.config, Kept::default())?),
    };
    if out.is_json() {
        return out.json(&json!({
            "to": output::path(dir), "entities": view.len(), "lsn": view.lsn().0, "as_dumped": same,
            "written": info.is_some(),
        }));
    }
    let (n, dir) = (many(view.len() as u64, "entity", "entities"), dir.display());
    let same = if same { "as it was dumped" } else { "not as it was dumped: the dump was edited" };
    match info {
        Some(_) => out.line(format_args!("{dir} has {n}; the digest is {same}")),
        None => out.line(format_args!("{dir} would have {n}; the digest would be {same}")),
    }
}

/// Slots of which a dump that was edited may say nothing: each takes memory as long as the database is open.
const GAPS_MAX: usize = 1 << 20;

/// What a dump holds.
struct Loaded {
    view: View,
    /// The digest is that which the dump ends with.
    same: bool,
}

/// Rows of one archetype that are no chunk yet.
#[derive(Default)]
struct Rows {
    ids: Vec<u8>,
    columns: Vec<Vec<u8>>,
    rows: usize,
}

struct Load {
    builder: WorldBuilder,
    components: HashMap<String, ComponentDef>,
    archetypes: BTreeMap<Vec<ComponentId>, Rows>,
    next_chunk: u64,
    lsn: u64,
    allocators: Allocators,
    entities: BTreeSet<u32>,
    /// Components that are given values are all known by then.
    defined: bool,
}

fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(Failure::Usage(what.into()).into())
}

fn read(from: &mut dyn BufRead) -> Result<Loaded> {
    let mut load: Option<Load> = None;
    let mut end = None;
    let mut text = String::new();
    let mut number = 0;
    loop {
        crate::interrupt::check()?;
        text.clear();
        number += 1;
        let read = from.read_line(&mut text).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => anyhow::Error::from(Failure::Usage(format!(
                "line {number} is no text: it is no dump of ecsdb"
            ))),
            io::ErrorKind::IsADirectory => {
                Failure::Usage("it is a directory, and no dump of ecsdb".into()).into()
            }
            _ => e.into(),
        })?;
        if read == 0 {
            break;
        }
        if text.trim().is_empty() {
            continue;
        }
        let at = |e: &dyn std::fmt::Display| Failure::Usage(format!("line {number}: {e}"));
        let line: Json =
            serde_json::from_str(text.trim_end()).map_err(|e| match e.is_eof() && !text.ends_with('\n') {
                true => at(&"the dump ends too early, in the middle of this line"),
                // It counts lines of its own.
                false => at(&e.to_string().replace(" at line 1 column ", " at character ")),
            })?;
        if end.is_some() {
            return Err(at(&"there is more after the end").into());
        }
        match &mut load {
            None if line["ecsdb_dump"].as_u64().is_some_and(|format| format != FORMAT) => {
                let other = &line["ecsdb_dump"];
                let text =
                    format!("line {number}: it is a dump of format {other}, and this program reads {FORMAT}");
                return Err(Failure::Version(text).into());
            }
            None => load = Some(Load::begin(&line).map_err(|e| at(&e))?),
            Some(_) if line.get("end").is_some() => end = Some(line["end"].clone()),
            Some(load) => load.line(&line).map_err(|e| at(&e))?,
        }
    }
    let Some(load) = load else { return wrong("it is empty, and no dump of ecsdb") };
    let Some(end) = end else { return wrong("it ends too early: its last line is missing") };
    // What is wrong with all of it together is wrong with the dump, too.
    let view = load.finish().map_err(|e| Failure::Usage(e.to_string()))?;
    let digest = view.digest()?.to_string();
    Ok(Loaded { same: end["digest"] == *digest, view })
}

impl Load {
    fn begin(line: &Json) -> Result<Load> {
        match line.get("ecsdb_dump").and_then(Json::as_u64) {
            Some(_) => {}
            None => return wrong("it is no dump of ecsdb"),
        }
        let number = |name: &str, most: u64| match line.get(name) {
            None | Some(Json::Null) => Ok(0),
            Some(n) => n.as_u64().filter(|n| *n <= most).ok_or_else(|| {
                Failure::Usage(format!("{name} is {n}, but has to be a whole number of at most {most}"))
            }),
        };
        let u32_of = |name: &str| Ok::<_, Failure>(number(name, u32::MAX.into())? as u32);
        let lsn = number("lsn", u64::MAX)?.max(1);
        if !Lsn(lsn).is_reachable() {
            return wrong(format!("lsn is {lsn}, which no database comes to"));
        }
        let free = line.get("free").and_then(Json::as_array).map(Vec::as_slice).unwrap_or(&[]);
        let mut allocators =
            Allocators { slots: u32_of("slots")?, floor: u32_of("floor")?, ..Allocators::default() };
        for id in free {
            let id: Entity = id.as_str().unwrap_or_default().parse()?;
            allocators.free.push((id.index(), id.generation()));
        }
        Ok(Load {
            builder: WorldBuilder::new(),
            components: HashMap::new(),
            archetypes: BTreeMap::new(),
            next_chunk: 0,
            lsn,
            allocators,
            entities: BTreeSet::new(),
            defined: false,
        })
    }

    fn line(&mut self, line: &Json) -> Result<()> {
        let object = line.as_object().map_or_else(Map::new, Clone::clone);
        if let Some(name) = object.get("component").and_then(Json::as_str) {
            return self.define(name, &object);
        }
        self.defined = true;
        if let Some(name) = object.get("resource").and_then(Json::as_str) {
            let id = self.component(name)?.id;
            let mut bytes = Vec::new();
            put_value(
                &mut bytes,
                &self.stored(name, object.get("value"), object.get("stored"))?,
                self.component(name)?,
            );
            return Ok(self.builder.resource(id, self.lsn, &bytes)?);
        }
        let Some(id) = object.get("entity").and_then(Json::as_str) else {
            return wrong("it is neither component, resource, entity nor end");
        };
        let entity: Entity = id.parse()?;
        self.entity(entity, &object)
    }

    fn define(&mut self, name: &str, line: &Map<String, Json>) -> Result<()> {
        if self.defined {
            return wrong(format!("component {name} is defined after the first value"));
        }
        let text = |key: &str| line.get(key).and_then(Json::as_str).unwrap_or_default();
        let number = |key: &str| line.get(key).and_then(Json::as_u64).and_then(|n| u32::try_from(n).ok());
        let Some(description) = from_hex(text("description")) else {
            return wrong(format!("component {name} has no description"));
        };
        let kind = match text("kind") {
            "plain" => StorageKind::Plain,
            "archived" => StorageKind::Archived,
            other => return wrong(format!("component {name} is of no kind `{other}`")),
        };
        let def = ComponentDef {
            id: ComponentId(self.components.len() as u32),
            name: name.into(),
            version: number("version").unwrap_or(0),
            kind,
            size: number("size").unwrap_or(0),
            description: Arc::new(Description::from_bytes(&description)?),
        };
        self.builder.define(def.clone())?;
        self.components.insert(name.into(), def);
        Ok(())
    }

    fn component(&self, name: &str) -> Result<&ComponentDef> {
        let found = self.components.get(name);
        Ok(found.ok_or_else(|| unknown("component", name, self.components.keys().map(String::as_str)))?)
    }

    /// The stored bytes of a value: those given, or those of what is written for people.
    fn stored(&self, name: &str, value: Option<&Json>, stored: Option<&Json>) -> Result<Vec<u8>> {
        let def = self.component(name)?;
        if let Some(stored) = stored {
            let bytes = stored.as_str().and_then(from_hex);
            let Some(bytes) = bytes else {
                return wrong(format!("{name}: the stored bytes are not hexadecimal"));
            };
            return Ok(bytes);
        }
        let value = from_json(&def.description, value.unwrap_or(&Json::Null));
        let value = value.map_err(|e| Failure::Usage(format!("{name}: {e}")))?;
        let values = Values::of(&def.description);
        let bytes = values.and_then(|values| values.write(&value));
        bytes.map_err(|e| Failure::Usage(format!("{name}: {e}")).into())
    }

    fn entity(&mut self, entity: Entity, line: &Map<String, Json>) -> Result<()> {
        if !self.entities.insert(entity.index()) {
            return wrong(format!("there are two entities with the index of {entity}"));
        }
        let none = Map::new();
        let map = |key: &str| line.get(key).and_then(Json::as_object).unwrap_or(&none);
        let (values, bytes) = (map("components"), map("stored"));
        let mut columns: BTreeMap<ComponentId, Vec<u8>> = BTreeMap::new();
        for name in values.keys().chain(bytes.keys()) {
            let def = self.component(name)?;
            if columns.contains_key(&def.id) {
                continue;
            }
            let stored = self.stored(name, values.get(name), bytes.get(name))?;
            let mut value = Vec::new();
            put_value(&mut value, &stored, def);
            columns.insert(def.id, value);
        }
        let ids: Vec<ComponentId> = columns.keys().copied().collect();
        let rows_log2 = self.rows_log2(&ids);
        let rows = self.archetypes.entry(ids.clone()).or_default();
        rows.columns.resize(ids.len(), Vec::new());
        rows.ids.extend(entity.to_bits().to_le_bytes());
        rows.rows += 1;
        for (column, value) in rows.columns.iter_mut().zip(columns.into_values()) {
            column.extend(value);
        }
        if rows.rows == 1 << rows_log2 {
            let rows = std::mem::take(rows);
            self.chunk(&ids, rows)?;
        }
        Ok(())
    }

    /// Rows of a chunk, as a power of two: so many that the widest column has about 32 KiB.
    fn rows_log2(&self, ids: &[ComponentId]) -> u32 {
        let sizes = self.components.values().filter(|def| ids.contains(&def.id)).map(|def| def.size);
        let widest = sizes.max().unwrap_or(0).max(16);
        (32 * 1024 / widest).max(1).ilog2().clamp(6, 12)
    }

    fn chunk(&mut self, ids: &[ComponentId], rows: Rows) -> Result<()> {
        let loader = self.builder.columns();
        let mut columns = vec![loader.load(None, rows.rows, self.lsn, &rows.ids)?];
        for (&id, bytes) in ids.iter().zip(&rows.columns) {
            columns.push(loader.load(Some(id), rows.rows, self.lsn, bytes)?);
        }
        let rows_log2 = self.rows_log2(ids);
        self.builder.chunk(self.next_chunk, rows_log2, ids, columns)?;
        self.next_chunk += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<View> {
        for (ids, rows) in std::mem::take(&mut self.archetypes) {
            if rows.rows > 0 {
                self.chunk(&ids, rows)?;
            }
        }
        let mut allocators = std::mem::take(&mut self.allocators);
        allocators.next_chunk = self.next_chunk;
        let above = self.entities.last().map_or(0, |last| last.saturating_add(1));
        allocators.slots = allocators.slots.max(above);
        // A slot that an edited dump has given to an entity is free no more, and one that it took an entity from is.
        allocators.free.retain(|(index, _)| !self.entities.contains(index));
        let listed: BTreeSet<u32> = allocators.free.iter().map(|(index, _)| *index).collect();
        if listed.len() < allocators.free.len() {
            return wrong("a slot is listed as free twice");
        }
        let known = self.entities.len() + listed.len();
        if allocators.slots as usize > known + GAPS_MAX {
            let (slots, last) = (allocators.slots, self.entities.last().copied().unwrap_or(0));
            return wrong(format!(
                "it has {slots} slots, and says of {known} what is in them: ids are given out in order, and one of index {last} is too far away"
            ));
        }
        let floor = allocators.floor.max(1);
        let gaps =
            (0..allocators.slots).filter(|index| !listed.contains(index) && !self.entities.contains(index));
        allocators.free.extend(gaps.map(|index| (index, floor)).collect::<Vec<_>>());
        let world: World = self.builder.finish(Lsn(self.lsn), &allocators.to_bytes())?;
        Ok(world.view())
    }
}

/// A value as it stands in a column: one that is no memory has its length before it.
fn put_value(out: &mut Vec<u8>, stored: &[u8], def: &ComponentDef) {
    if def.kind == StorageKind::Archived {
        let mut len = stored.len() as u64;
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
    }
    out.extend_from_slice(stored);
}
