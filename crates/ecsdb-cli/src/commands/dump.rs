//! `ecsdb dump`: everything as JSON Lines, in such a way that `load` makes the same of it.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::ComponentId;
use ecsdb_core::parts::Allocators;
use ecsdb_query::{Components, ROOT, Reader, Stored, from_json, hex, to_json};
use indicatif::ProgressBar;
use serde_json::{Map, Value as Json, json};

use super::inspect::kind;
use super::stored::of_resources;
use crate::output::{self, Output, bar, many};
use crate::place::{Place, Seen, When};
use crate::{target, times};

/// The number of the format.
pub(crate) const FORMAT: u64 = 1;

/// Options of `dump`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// The new file, which appears when it is whole; standard output without it, or for `-`.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    when: When,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let mut real = PathBuf::new();
    let path = options.output.as_deref().filter(|path| *path != Path::new("-"));
    let settled = options.place.settle()?;
    if let Some(path) = path {
        real = target::file(Some(&settled.layout()?), path)?;
    }
    let seen = settled.look(|look| look.see(options.when.moment()))?;
    let Some(path) = path else {
        // What is printed is seen.
        dump(&seen, &mut out.raw(), &ProgressBar::hidden())?;
        return out.flush();
    };
    crate::interrupt::hold();
    let bar = bar()?;
    bar.set_message("writing");
    let write = || -> Result<()> {
        // An interruption leaves nothing behind; what a kill leaves says whose it is.
        let mut prefix = OsString::from(".");
        prefix.push(real.file_name().unwrap_or_default());
        prefix.push(".");
        let file = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(target::within(&real));
        let mut file = file.map_err(target::nameless)?;
        // The file itself, since errors of a temporary one have its name.
        let mut buffered = std::io::BufWriter::new(file.as_file_mut());
        dump(&seen, &mut buffered, &bar)?;
        buffered.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        // What somebody has put there meanwhile stays.
        file.persist_noclobber(&real).map_err(|e| match e.error.kind() {
            ErrorKind::AlreadyExists => target::is_taken(path),
            _ => e.error.into(),
        })?;
        target::sync_names(target::within(&real));
        Ok(())
    };
    let written = write();
    bar.finish_and_clear();
    written.with_context(|| format!("writing {}", path.display()))?;
    let entities = seen.view.len() as u64;
    if out.is_json() {
        return out.json(&json!({ "state": seen.json(), "file": output::path(path), "entities": entities }));
    }
    out.line(format_args!("{} in {}, {}", many(entities, "entity", "entities"), path.display(), seen.line()))
}

/// A value for people, and its bytes where they do not follow from it.
fn value(reader: &Reader<'_>, stored: &Stored) -> (Option<Json>, Option<String>) {
    let Ok(value) = &stored.value else { return (None, Some(hex(&stored.bytes))) };
    let json = to_json(reader.description(), ROOT, value);
    // What `load` will make of it.
    let again =
        from_json(reader.description(), &json).ok().and_then(|value| reader.values()?.write(&value).ok());
    let follows = again.as_deref() == Some(&*stored.bytes);
    (Some(json), (!follows).then(|| hex(&stored.bytes)))
}

fn dump(seen: &Seen, out: &mut impl Write, bar: &ProgressBar) -> Result<()> {
    bar.set_length(seen.view.len() as u64);
    let mut line = |json: &Json| -> Result<()> {
        crate::interrupt::check()?;
        serde_json::to_writer(&mut *out, json).map_err(std::io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    };
    let view = &seen.view;
    let allocators = Allocators::of(view);
    let free: Vec<String> =
        allocators.free.iter().map(|(index, generation)| format!("{index}v{generation}")).collect();
    line(&json!({
        "ecsdb_dump": FORMAT, "database": format!("{:032x}", seen.database), "lsn": view.lsn().0,
        "time": times::json(seen.unix_ns), "slots": allocators.slots, "floor": allocators.floor, "free": free,
    }))?;
    let components = Components::of(view);
    let readers: Vec<Reader<'_>> = components.all().map(Reader::of).collect();
    let of = |id: ComponentId| readers.iter().find(|reader| reader.def.id == id);
    for def in components.all() {
        line(&json!({
            "component": &*def.name, "kind": kind(def.kind), "version": def.version, "size": def.size,
            "type": def.description.to_string(), "description": hex(&def.description.to_bytes()),
        }))?;
    }
    for (id, bytes) in of_resources(view)? {
        let Some(reader) = of(id) else { continue };
        let (value, stored) = value(reader, &reader.stored(bytes));
        let mut resource = Map::new();
        resource.insert("resource".into(), (*reader.def.name).into());
        resource.extend(value.map(|value| ("value".to_string(), value)));
        resource.extend(stored.map(|stored| ("stored".to_string(), stored.into())));
        line(&Json::Object(resource))?;
    }
    for chunk in view.chunks() {
        let columns: Vec<_> = chunk.columns().collect();
        let entities = columns.first().and_then(|ids| ids.entities()).unwrap_or(&[]);
        let columns: Vec<_> =
            columns.iter().filter_map(|column| Some((column, of(column.component?)?))).collect();
        for (row, entity) in entities.iter().enumerate() {
            let (mut values, mut bytes) = (Map::new(), Map::new());
            for (column, reader) in &columns {
                let name = &reader.def.name;
                let (value, stored) = value(reader, &reader.row(column, row)?);
                values.extend(value.map(|value| (name.to_string(), value)));
                bytes.extend(stored.map(|stored| (name.to_string(), stored.into())));
            }
            let mut one = Map::new();
            one.insert("entity".into(), entity.to_string().into());
            one.insert("components".into(), Json::Object(values));
            if !bytes.is_empty() {
                one.insert("stored".into(), Json::Object(bytes));
            }
            line(&Json::Object(one))?;
        }
        bar.inc(entities.len() as u64);
    }
    line(&json!({ "end": { "entities": view.len(), "digest": view.digest()?.to_string() } }))
}
