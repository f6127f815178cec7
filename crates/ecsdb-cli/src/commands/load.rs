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
use ecsdb_core::parts::{Allocators, RETIRED_SLOTS_MAX, WorldBuilder};
use ecsdb_query::{ROOT, Reader, Unfit, brief, from_hex, from_json, shortened, to_json, unknown};
use ecsdb_snapshot::Kept;
use serde_json::{Map, Value as Json, json};

use super::copy;
use super::dump::FORMAT;
use super::dumped::{Keys, Lines, wrong};
use crate::failure::Failure;
use crate::output::{self, Output, bar, many};
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
    let (settled, layout) = target::for_database(&options.place)?;
    let dumped = if options.file == Path::new("-") {
        read(&mut BufReader::new(io::stdin())).context("standard input")?
    } else {
        let name = || options.file.display().to_string();
        let file = match File::open(&options.file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::Missing(format!("there is no file {}", name())).into());
            }
            file => file.with_context(name)?,
        };
        let bar = bar()?;
        bar.set_length(file.metadata().map_or(0, |there| there.len()));
        bar.set_message("reading");
        let dumped = read(&mut BufReader::new(bar.wrap_read(file)));
        bar.finish_and_clear();
        dumped.with_context(name)?
    };
    let (view, same) = (dumped.view, dumped.same);
    let info = copy::write(view.clone(), &layout, &settled.config, Kept::default(), options.dry_run)?;
    if out.is_json() {
        return out.json(&json!({
            "to": output::path(dir), "entities": view.len(), "lsn": view.lsn().0, "as_dumped": same,
            "written": info.is_some(),
        }));
    }
    let (n, dir) = (many(view.len() as u64, "entity", "entities"), dir.display());
    let same = if same { "as they were dumped" } else { "not as they were dumped: the dump was edited" };
    match info {
        Some(_) => out.line(format_args!("{dir} has {n}; the values are {same}")),
        None => out.line(format_args!("{dir} would have {n}; the values would be {same}")),
    }
}

/// The floor of generations up to which a database can be written to for long: one that is rolled back raises it by 257, and from the greatest
/// number on there are no ids.
const FLOOR_MAX: u32 = u32::MAX - (1 << 16);

/// What a dump holds.
struct Loaded {
    view: View,
    /// The digest, which is of all values, is that which the dump ends with, and nothing shows that the rest was edited.
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
    /// Of each component's type, by its id.
    sizes: Vec<u32>,
    archetypes: BTreeMap<Vec<ComponentId>, Rows>,
    next_chunk: u64,
    lsn: u64,
    allocators: Allocators,
    entities: BTreeSet<u32>,
    /// Components that are given values are all known by then.
    defined: bool,
}

/// Bytes that are shown of a name: as many as one may have.
const NAME_BYTES: usize = 255;

/// Of the stack on which a line is read: what is as deep as a line may be passes, however it was compiled.
const STACK_BYTES: usize = 64 << 20;

fn read(from: &mut (dyn BufRead + Send)) -> Result<Loaded> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES);
        match reader.spawn_scoped(scope, || read_here(from))?.join() {
            Ok(read) => read,
            Err(_) => anyhow::bail!("reading the dump panicked; this is a bug of ecsdb"),
        }
    })
}

fn read_here(from: &mut dyn BufRead) -> Result<Loaded> {
    let lines = &mut Lines::new(from);
    let Some(first) = lines.next()? else { return wrong("it is empty, and no dump of ecsdb") };
    let mut load = Load::begin(&first).map_err(|e| match e.downcast_ref() {
        Some(Failure::Version(what)) => Failure::Version(lines.at(what).to_string()),
        _ => lines.at(e),
    })?;
    let end = loop {
        let Some(line) = lines.next()? else { return wrong("it ends too early: its last line is missing") };
        if line.get("end").is_some() {
            break line;
        }
        load.line(&line).map_err(|e| lines.at(e))?;
    };
    let end = End::of(&end).map_err(|e| lines.at(e))?;
    let found = load.entities.len() as u64;
    if end.entities != found {
        let said = many(end.entities, "entity", "entities");
        let what = format!(
            "the end of the dump says {said}, and it has {found}: some are missing, or it was edited, and has to say {found}"
        );
        return Err(lines.at(what).into());
    }
    if lines.next()?.is_some() {
        return Err(lines.at("there is more after the end").into());
    }
    // What is wrong with all of it together is wrong with the dump, too, and found at its end.
    let (view, fits) = load.finish().map_err(|e| lines.at(e))?;
    let digest = view.digest().map_err(|e| lines.at(e))?.to_string();
    Ok(Loaded { same: fits && end.digest.eq_ignore_ascii_case(&digest), view })
}

/// What the last line says.
struct End {
    entities: u64,
    digest: String,
}

impl End {
    fn of(line: &Json) -> Result<End> {
        let line = Keys::of("the last line", line, &["end"])?;
        let end = Keys::of("end", line.get("end").unwrap_or(&Json::Null), &["entities", "digest"])?;
        Ok(End {
            entities: end.number("entities", u32::MAX.into())?,
            digest: end.hexadecimal("digest")?.into(),
        })
    }
}

impl Load {
    fn begin(line: &Json) -> Result<Load> {
        match line.get("ecsdb_dump").and_then(Json::as_u64) {
            None => return wrong("it is no dump of ecsdb"),
            Some(FORMAT) => {}
            Some(other) => {
                let text = format!("it is a dump of format {other}, and this program reads {FORMAT}");
                return Err(Failure::Version(text).into());
            }
        }
        let known = ["ecsdb_dump", "database", "lsn", "time", "slots", "floor", "free"];
        let line = Keys::of("the first line", line, &known)?;
        line.hexadecimal("database")?;
        line.time("time")?;
        let lsn = line.number("lsn", u64::MAX)?.max(1);
        if !Lsn(lsn).is_reachable() {
            return wrong(format!("lsn is {lsn}, which no database comes to"));
        }
        let (slots, floor) = (line.u32("slots")?, line.u32("floor")?);
        if floor > FLOOR_MAX {
            return wrong(format!(
                "floor is {floor}, which leaves no ids for new entities: it is at most {FLOOR_MAX}"
            ));
        }
        let mut allocators = Allocators { slots, floor, ..Allocators::default() };
        let mut listed = BTreeSet::new();
        for id in line.list("free")? {
            let id: Entity = match id.as_str().and_then(|id| id.parse().ok()) {
                Some(id) => id,
                None => {
                    return wrong(format!("free has {}, which is no entity id such as \"12v3\"", brief(id)));
                }
            };
            if id.index() >= slots {
                return wrong(format!("free has {id}, which is none of {slots} slots"));
            }
            if !listed.insert(id.index()) {
                return wrong(format!("free has the slot of {id} twice"));
            }
            allocators.free.push((id.index(), id.generation()));
        }
        Ok(Load {
            builder: WorldBuilder::new(),
            components: HashMap::new(),
            sizes: Vec::new(),
            archetypes: BTreeMap::new(),
            next_chunk: 0,
            lsn,
            allocators,
            entities: BTreeSet::new(),
            defined: false,
        })
    }

    fn line(&mut self, line: &Json) -> Result<()> {
        if line.get("component").is_some() {
            return self.define(line);
        }
        self.defined = true;
        if line.get("resource").is_some() {
            let line = Keys::of("a resource", line, &["resource", "value", "stored"])?;
            let name = line.text("resource")?;
            let (id, value) = self.value(name, line.get("value"), line.get("stored"))?;
            return Ok(self.builder.resource(id, self.lsn, &value)?);
        }
        if line.get("entity").is_some() {
            let line = Keys::of("an entity", line, &["entity", "components", "stored"])?;
            let id = line.text("entity")?;
            let Ok(id) = id.parse() else {
                let id = shortened(id, NAME_BYTES);
                return wrong(format!("entity is {id:?}, which is no entity id such as \"12v3\""));
            };
            return self.entity(id, line);
        }
        let key = line.as_object().and_then(|object| object.keys().next());
        let near = key.map(|key| unknown("key", key, ["component", "resource", "entity", "end"].into_iter()));
        let near = near.map_or_else(String::new, |near| format!(": {near}"));
        wrong(format!("it is neither component, resource, entity nor end{near}"))
    }

    fn define(&mut self, line: &Json) -> Result<()> {
        let known = ["component", "kind", "version", "size", "type", "description"];
        let line = Keys::of("a component", line, &known)?;
        let name = line.text("component")?;
        let shown = shortened(name, NAME_BYTES);
        if self.defined {
            return wrong(format!("component {shown} is defined after the first value"));
        }
        line.text("type")?;
        let Some(description) = from_hex(line.text("description")?) else {
            return wrong(format!("component {shown}: its description is not hexadecimal"));
        };
        let kind = match line.text("kind")? {
            "plain" => StorageKind::Plain,
            "archived" => StorageKind::Archived,
            other => {
                let other = shortened(other, NAME_BYTES);
                return wrong(format!(
                    "component {shown}: kind is {other:?}, but has to be \"plain\" or \"archived\""
                ));
            }
        };
        let def = ComponentDef {
            id: ComponentId(self.components.len() as u32),
            name: name.into(),
            version: line.u32("version")?,
            kind,
            size: line.u32("size")?,
            description: Arc::new(Description::from_bytes(&description)?),
        };
        self.builder.define(def.clone())?;
        self.sizes.push(def.size);
        self.components.insert(name.into(), def);
        Ok(())
    }

    fn component(&self, name: &str) -> Result<&ComponentDef> {
        let found = self.components.get(name);
        Ok(found.ok_or_else(|| unknown("component", name, self.components.keys().map(String::as_str)))?)
    }

    /// A value as it stands in a column: the bytes that are given, or those of what is written for people. It is what reading a column takes, by itself.
    fn value(
        &self,
        name: &str,
        value: Option<&Json>,
        stored: Option<&Json>,
    ) -> Result<(ComponentId, Vec<u8>)> {
        let def = self.component(name)?;
        let stored = match (stored, value) {
            (Some(Json::String(text)), value) => match from_hex(text) {
                Some(bytes) => {
                    as_stored(def, bytes, value).map_err(|e| Failure::Usage(format!("{name}: {e}")))?
                }
                None => return wrong(format!("{name}: the stored bytes are not hexadecimal")),
            },
            (Some(other), _) => {
                return wrong(format!("{name}: stored is {}, but has to be hexadecimal text", brief(other)));
            }
            (None, None) => return wrong(format!("{name}: it has neither value nor stored")),
            (None, Some(value)) => {
                let value = from_json(&def.description, value);
                let value = value.map_err(|e| Failure::Usage(format!("{name}: {e}")))?;
                let bytes = Values::of(&def.description).and_then(|values| values.write(&value));
                bytes.map_err(|e| Failure::Usage(format!("{name}: {e}")))?
            }
        };
        let mut out = Vec::new();
        put_value(&mut out, &stored, def);
        self.builder.columns().load(Some(def.id), 1, self.lsn, &out)?;
        Ok((def.id, out))
    }

    fn entity(&mut self, entity: Entity, line: Keys<'_>) -> Result<()> {
        if !self.entities.insert(entity.index()) {
            return wrong(format!("there are two entities with the index of {entity}"));
        }
        line.needed("components")?;
        let none = Map::new();
        let map = |key: &str| Ok::<_, anyhow::Error>(line.object(key)?.unwrap_or(&none));
        let (values, bytes) = (map("components")?, map("stored")?);
        let mut columns: BTreeMap<ComponentId, Vec<u8>> = BTreeMap::new();
        for name in values.keys().chain(bytes.keys()) {
            if self.components.get(name).is_none_or(|def| !columns.contains_key(&def.id)) {
                let (id, value) = self.value(name, values.get(name), bytes.get(name))?;
                columns.insert(id, value);
            }
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
        let sizes = ids.iter().filter_map(|id| self.sizes.get(id.0 as usize)).copied();
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

    /// The world, and whether its slots are as any dump says them.
    fn finish(mut self) -> Result<(View, bool)> {
        for (ids, rows) in std::mem::take(&mut self.archetypes) {
            if rows.rows > 0 {
                self.chunk(&ids, rows)?;
            }
        }
        let mut allocators = std::mem::take(&mut self.allocators);
        allocators.next_chunk = self.next_chunk;
        let above = self.entities.last().map_or(0, |last| last.saturating_add(1));
        let (slots, free) = (allocators.slots, allocators.free.len());
        allocators.slots = slots.max(above);
        // A slot that an edited dump has given to an entity is free no more, and one that it took an entity from is.
        allocators.free.retain(|(index, _)| !self.entities.contains(index));
        let fits = slots >= above && allocators.free.len() == free;
        // One of which it says nothing had an entity that was taken out, of a generation that nobody knows: it is given to none again.
        let known = self.entities.len() as u64 + allocators.free.len() as u64;
        if u64::from(allocators.slots) > known + RETIRED_SLOTS_MAX {
            let (slots, last) = (allocators.slots, self.entities.last().copied().unwrap_or(0));
            return wrong(format!(
                "it has {slots} slots, and says of {known} what is in them. More than {RETIRED_SLOTS_MAX} others have to be listed as free, each with a \
                 generation that it has not had yet; or else one of index {last} is too far away"
            ));
        }
        let world: World = self.builder.finish(Lsn(self.lsn), &allocators.to_bytes())?;
        Ok((world.view(), fits))
    }
}

/// Stored bytes of which a digest can be made, beside which there is no other value than theirs: of two, one would be dropped in silence.
fn as_stored(def: &ComponentDef, bytes: Vec<u8>, value: Option<&Json>) -> Result<Vec<u8>> {
    let reader = Reader::of(def);
    let stored = reader.stored(bytes);
    if let Err(e) = &stored.value
        && (value.is_some() || def.description.is_unordered())
    {
        return wrong(format!("it has stored bytes which cannot be read: {e}"));
    }
    if let Some(value) = value {
        let theirs = reader.json(&stored);
        // As it is written here, however somebody else has written it.
        let again = |value| {
            Ok::<_, Unfit>(to_json(reader.description(), ROOT, &from_json(reader.description(), value)?))
        };
        if *value != theirs && again(value)? != theirs {
            return wrong(format!(
                "value and stored bytes are not the same, and the bytes would count: take one of them out. The bytes are {}",
                brief(&theirs)
            ));
        }
    }
    if def.description.is_unordered()
        && let Some(values) = reader.values()
    {
        values.canonical(&stored.bytes, &mut Vec::new())?;
    }
    Ok(stored.bytes)
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
