//! `ecsdb export`: a Parquet file for each archetype, for whatever reads tables.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::types::{BinaryType, Utf8Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use clap::Args;
use ecsdb::{ComponentDef, ComponentId, Entity};
use ecsdb_core::describe::Value;
use ecsdb_core::parts::{ChunkPart, ColumnPart};
use ecsdb_query::{Components, ROOT, Reader};
use indicatif::HumanCount;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::output::{self, Output, bar, many};
use crate::place::{Place, Seen, When};
use crate::target::Tables;
use crate::{failure, interrupt, target};

mod columns;
mod names;

use columns::{Column, TooMuch, bytes};
use names::{Names, Renamed};

/// Bytes of a column up to which rows are written together. Beyond what an array can have (2 GiB) there would be a panic, and a page of a table has no
/// more, either.
const BATCH_BYTES_MAX: usize = if cfg!(test) { 100 } else { 64 << 20 };
/// Stored bytes of rows that are read together: what is read takes many times as much memory.
const STORED_BYTES_MAX: usize = if cfg!(test) { 200 } else { 8 << 20 };
/// Bytes of a column of a single row, with room for what a page has besides.
const ROW_BYTES_MAX: usize = if cfg!(test) { 1000 } else { i32::MAX as usize - (16 << 20) };

/// The column of the ids.
const ENTITY: &str = "entity";

/// Options of `export`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Write Parquet files, which is the only format yet.
    #[arg(long, required = true)]
    parquet: bool,
    /// The directory that the files are written into: not there yet, or empty.
    to: PathBuf,
    #[command(flatten)]
    when: When,
}

/// A component of an archetype.
struct Exported<'d> {
    reader: Reader<'d>,
    /// `None` where values cannot be read: their stored bytes then.
    column: Option<Column>,
    /// Of its column, in every table.
    name: String,
}

/// The components that the tables are of, and what could not be called as they are.
fn exported<'d>(
    components: &'d Components,
    view: &ecsdb::View,
) -> (BTreeMap<ComponentId, Exported<'d>>, Vec<Renamed>) {
    let used: BTreeSet<ComponentId> =
        view.chunks().flat_map(|chunk| chunk.components().collect::<Vec<_>>()).collect();
    let mut names = Names::default();
    names.take(ENTITY);
    let one = |def: &'d ComponentDef| {
        let reader = Reader::of(def);
        let mut column = reader.values().map(|_| Column::of(&def.description));
        let name = names.of_component(&def.name, column.as_mut());
        (def.id, Exported { reader, column, name })
    };
    let exported = components.all().filter(|def| used.contains(&def.id)).map(one).collect();
    (exported, names.renamed)
}

struct File {
    table: String,
    path: PathBuf,
    /// The components of its archetype.
    ids: Vec<ComponentId>,
    writer: ArrowWriter<std::fs::File>,
    schema: Arc<Schema>,
    rows: u64,
}

impl File {
    fn write(&mut self, chunk: &ChunkPart<'_>, exported: &BTreeMap<ComponentId, Exported<'_>>) -> Result<()> {
        in_batches(chunk, exported, |arrays| {
            let batch = RecordBatch::try_new(self.schema.clone(), arrays)?;
            self.writer.write(&batch).map_err(cause).with_context(|| writing(&self.path))
        })?;
        self.rows += chunk.rows() as u64;
        Ok(())
    }

    fn close(self, components: &Components) -> Result<(String, Vec<String>, u64)> {
        let file = self.writer.into_inner().map_err(cause).with_context(|| writing(&self.path))?;
        file.sync_all().with_context(|| writing(&self.path))?;
        Ok((self.table, self.ids.iter().map(|&id| components.name(id)).collect(), self.rows))
    }
}

fn writing(path: &Path) -> String {
    format!("writing {}", path.display())
}

/// What is behind an error of the library that writes the tables: most are of the file.
fn cause(e: ParquetError) -> anyhow::Error {
    match e {
        ParquetError::External(cause) => anyhow::Error::from_boxed(cause),
        other => other.into(),
    }
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let to = &options.to;
    let settled = options.place.settle()?;
    let layout = target::for_tables(Some(&settled.layout()?), to)?;
    let seen = settled.look(|look| look.see(options.when.moment()))?;
    interrupt::hold();
    let tables = Tables::begin(&layout)?;
    let components = Components::of(&seen.view);
    let (exported, renamed) = exported(&components, &seen.view);
    let renamed_json: Vec<Json> = renamed.iter().map(Renamed::json).collect();
    let files = write(&seen, &tables, &components, &exported, &renamed_json)?;
    tables.finish()?;
    for Renamed { component, field, column } in &renamed {
        let of = field.as_ref().map_or_else(String::new, |field| format!("{field} of "));
        failure::warn(&format!(
            "{of}{component} is the column {column}, since its own name is that of another one"
        ));
    }
    if out.is_json() {
        let files: Vec<_> = files
            .iter()
            .map(|(table, components, rows)| json!({ "file": output::path(&to.join(table)), "components": components, "entities": rows }))
            .collect();
        return out.json(&json!({ "state": seen.json(), "files": files, "renamed": renamed_json }));
    }
    let n = files.len() as u64;
    let rows = files
        .into_iter()
        .map(|(table, components, rows)| vec![table, HumanCount(rows).to_string(), components.join(", ")]);
    out.table(&["file", "entities", "components"], rows.collect())?;
    out.line(format_args!("{} in {}, {}", many(n, "file", "files"), to.display(), seen.line()))
}

/// Tables with their components and rows.
type Written = Vec<(String, Vec<String>, u64)>;

fn write(
    seen: &Seen,
    tables: &Tables<'_>,
    components: &Components,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
    renamed: &[Json],
) -> Result<Written> {
    let bar = bar()?;
    bar.set_length(seen.view.len() as u64);
    bar.set_message("writing");
    let mut written = Written::new();
    let mut current: Option<File> = None;
    for chunk in seen.view.chunks() {
        interrupt::check()?;
        let ids: Vec<ComponentId> = chunk.components().collect();
        // The chunks of an archetype follow one another: one file is open at a time.
        let mut file = match current.take() {
            Some(file) if file.ids == ids => file,
            before => {
                written.extend(before.map(|file| file.close(components)).transpose()?);
                open(seen, tables, written.len(), ids, exported, renamed)?
            }
        };
        file.write(&chunk, exported)?;
        bar.inc(chunk.rows() as u64);
        current = Some(file);
    }
    written.extend(current.map(|file| file.close(components)).transpose()?);
    bar.finish_and_clear();
    Ok(written)
}

fn open(
    seen: &Seen,
    tables: &Tables<'_>,
    number: usize,
    ids: Vec<ComponentId>,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
    renamed: &[Json],
) -> Result<File> {
    let mut fields = vec![Field::new(ENTITY, DataType::Utf8, false)];
    let mut types = serde_json::Map::new();
    for one in ids.iter().filter_map(|id| exported.get(id)) {
        let data_type = one.column.as_ref().map_or(DataType::Binary, Column::data_type);
        fields.push(Field::new(&*one.name, data_type, true));
        types.insert(one.reader.def.name.to_string(), one.reader.description().to_string().into());
    }
    let schema = Arc::new(Schema::new(fields));
    let said = [
        ("ecsdb.state", seen.json().to_string()),
        ("ecsdb.types", Json::Object(types).to_string()),
        ("ecsdb.renamed", json!(renamed).to_string()),
    ];
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(said.map(|(key, value)| KeyValue::new(key.to_string(), value)).to_vec()))
        .build();
    let table = Tables::table(number);
    let path = tables.path(&table)?;
    let file = std::fs::File::create_new(&path).with_context(|| writing(&path))?;
    let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(cause);
    Ok(File { writer: writer.with_context(|| writing(&path))?, table, path, ids, schema, rows: 0 })
}

/// The rows of a chunk as arrays, so many at a time that none of them has too many bytes.
fn in_batches(
    chunk: &ChunkPart<'_>,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
    mut each: impl FnMut(Vec<ArrayRef>) -> Result<()>,
) -> Result<()> {
    let parts: Vec<ColumnPart> = chunk.columns().collect();
    let (mut from, mut many) = (0, chunk.rows());
    while from < chunk.rows() {
        let stored = stored(&parts, from..chunk.rows().min(from + many), exported)?;
        let rows = stored.rows.len();
        let max = if rows == 1 { ROW_BYTES_MAX } else { BATCH_BYTES_MAX };
        match arrays(stored, exported, max) {
            Err(e) if rows > 1 && e.is::<TooMuch>() => many = rows.div_ceil(2),
            arrays => {
                each(arrays?)?;
                from += rows;
            }
        }
    }
    Ok(())
}

/// Rows as they are stored.
struct StoredRows<'e> {
    rows: &'e [Entity],
    columns: Vec<(ComponentId, Vec<Vec<u8>>)>,
}

/// The first of these rows, so many that they do not have too many bytes.
fn stored<'e>(
    parts: &'e [ColumnPart],
    rows: Range<usize>,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
) -> Result<StoredRows<'e>> {
    let ids = parts.iter().find_map(ColumnPart::entities).context("a chunk without ids")?;
    let parts = parts.iter().filter_map(|part| part.component.map(|id| (id, part)));
    let parts: Vec<_> = parts.filter(|(id, _)| exported.contains_key(id)).collect();
    let mut columns: Vec<(ComponentId, Vec<Vec<u8>>)> =
        parts.iter().map(|(id, _)| (*id, Vec::new())).collect();
    let (mut to, mut bytes) = (rows.start, 0);
    while to < rows.end {
        let mut row = Vec::new();
        for (_, part) in &parts {
            let mut value = Vec::new();
            part.encode_row(to, &mut value)?;
            bytes += value.len();
            row.push(value);
        }
        if bytes > STORED_BYTES_MAX && to > rows.start {
            break;
        }
        columns.iter_mut().zip(row).for_each(|((_, column), value)| column.push(value));
        to += 1;
    }
    Ok(StoredRows { rows: ids.get(rows.start..to).unwrap_or(&[]), columns })
}

fn arrays(
    stored: StoredRows<'_>,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
    max: usize,
) -> Result<Vec<ArrayRef>> {
    let StoredRows { rows, columns } = stored;
    let ids = rows.iter().map(|entity| Some(entity.to_string()));
    let mut arrays: Vec<ArrayRef> = vec![bytes::<Utf8Type>(ids, max)?];
    for (id, column) in columns {
        let Some(one) = exported.get(&id) else { continue };
        let array = match &one.column {
            Some(of) => {
                let values = read(column, rows, &one.reader)?;
                let values: Vec<Option<&Value>> = values.iter().map(Some).collect();
                of.array(one.reader.description(), ROOT, &values, max)
            }
            None => bytes::<BinaryType>(column.into_iter().map(Some), max).map_err(anyhow::Error::from),
        };
        arrays.push(array.map_err(|e| refused(e, rows, one))?);
    }
    Ok(arrays)
}

/// The values of rows. What cannot be read is nothing that is not there: no table says of it that it is.
fn read(column: Vec<Vec<u8>>, rows: &[Entity], reader: &Reader<'_>) -> Result<Vec<Value>> {
    let values = column.into_iter().zip(rows).map(|(bytes, entity)| {
        let value = reader.stored(bytes).value;
        value.map_err(|e| {
            let component = &reader.def.name;
            Failure::Usage(format!(
                "{component} of entity {entity} cannot be read, and no table can have it as its type: {e}"
            ))
            .into()
        })
    });
    values.collect()
}

/// What is wrong with a component; of a single row that is more than fits, which it is.
fn refused(e: anyhow::Error, rows: &[Entity], one: &Exported<'_>) -> anyhow::Error {
    let component = &*one.reader.def.name;
    let (Some(much), [entity]) = (e.downcast_ref::<TooMuch>(), rows) else {
        return e.context(component.to_string());
    };
    let TooMuch { size, unit, max, .. } = much;
    let (size, max) = (HumanCount(*size as u64), HumanCount(*max as u64));
    let what = much.of(component, &one.name);
    let text = format!(
        "{what} of entity {entity} has {size} {unit}, and a row of a table at most {max} in one column"
    );
    Failure::Usage(text).into()
}

#[cfg(test)]
#[allow(non_snake_case, reason = "names that differ in their case alone")]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use ecsdb::prelude::*;

    use super::*;

    #[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "t", archived)]
    struct Parts {
        text: String,
        list: Vec<u8>,
        numbers: Vec<(u32, String)>,
    }

    #[test]
    fn a_value_that_cannot_be_read_is_nothing_that_is_not_there() {
        let db = Database::in_memory();
        let parts = Parts { text: String::new(), list: Vec::new(), numbers: Vec::new() };
        db.write(|tx| Ok(tx.spawn((parts,)))).unwrap();
        let view = db.view().unwrap();
        let components = Components::of(&view);
        let (exported, _) = exported(&components, &view);
        let (&id, _) = exported.first_key_value().unwrap();
        let entity = "0v1".parse().unwrap();
        let spoilt = StoredRows { rows: &[entity], columns: vec![(id, vec![vec![7]])] };
        let refused = arrays(spoilt, &exported, ROW_BYTES_MAX).unwrap_err();
        let told = format!("{refused:#}");
        assert!(told.starts_with("t of entity 0v1 cannot be read") && told.contains("length"), "{told}");
        assert!(matches!(refused.downcast_ref(), Some(Failure::Usage(_))));
    }

    /// The texts, in the batches in which they are written.
    fn batches(all: &[Parts]) -> Result<Vec<Vec<String>>> {
        let db = Database::in_memory();
        db.write(|tx| Ok(tx.spawn_batch(all.iter().cloned().map(|parts| (parts,))))).unwrap();
        let view = db.view().unwrap();
        let components = Components::of(&view);
        let (exported, _) = exported(&components, &view);
        let mut batches = Vec::new();
        for chunk in view.chunks() {
            in_batches(&chunk, &exported, |arrays| {
                let parts = arrays[1].as_struct();
                let texts = parts.column_by_name("text").unwrap().as_string::<i32>();
                batches.push(texts.iter().map(|text| text.unwrap().to_string()).collect::<Vec<_>>());
                assert_eq!(arrays[0].len(), texts.len());
                Ok(())
            })?;
        }
        Ok(batches)
    }

    #[test]
    fn rows_are_written_in_batches_that_no_column_is_too_large_for() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let mut size = || if random.u32(..20) == 0 { random.usize(..1200) } else { random.usize(..30) };
            let parts = || Parts {
                text: "t".repeat(size()),
                list: vec![1; size()],
                numbers: vec![(1, "n".repeat(size() / 8)); size() / 4],
            };
            let all: Vec<Parts> = std::iter::repeat_with(parts).take(40).collect();
            let bytes = |parts: &Parts| {
                let inside = parts.numbers.iter().map(|(_, text)| text.len()).sum::<usize>();
                parts.text.len().max(parts.list.len()).max(parts.numbers.len()).max(inside)
            };
            let content = |parts: &Parts| {
                let inside = parts.numbers.iter().map(|(_, text)| text.len() + 4).sum::<usize>();
                parts.text.len() + parts.list.len() + inside
            };
            let largest = all.iter().map(bytes).max().unwrap();
            match batches(&all) {
                Ok(batches) => {
                    assert!(largest <= ROW_BYTES_MAX, "seed {seed}");
                    let text = |batch: &Vec<String>| batch.iter().map(String::len).sum::<usize>();
                    let fits = |batch: &Vec<String>| batch.len() == 1 || text(batch) <= BATCH_BYTES_MAX;
                    let mut parts = all.iter();
                    for batch in &batches {
                        // Without what there is beside the texts and bytes.
                        let stored: usize = parts.by_ref().take(batch.len()).map(content).sum();
                        assert!(batch.len() == 1 || stored <= STORED_BYTES_MAX, "seed {seed}: {stored}");
                    }
                    assert!(batches.len() > 1 && batches.iter().all(fits), "seed {seed}");
                    let wanted: Vec<&str> = all.iter().map(|parts| &*parts.text).collect();
                    assert_eq!(batches.concat(), wanted, "seed {seed}");
                }
                Err(e) => {
                    assert!(largest > ROW_BYTES_MAX, "seed {seed}: {e:#}");
                    // The first one that is too large, and what of it.
                    let (row, first) =
                        all.iter().enumerate().find(|(_, it)| bytes(it) > ROW_BYTES_MAX).unwrap();
                    let texts = first.numbers.iter().map(|(_, text)| text.len()).sum();
                    let sizes = [
                        ("text", first.text.len(), "bytes"),
                        ("list", first.list.len(), "bytes"),
                        ("numbers", first.numbers.len(), "elements"),
                        ("numbers.1", texts, "bytes"),
                    ];
                    let (field, size, unit) =
                        sizes.into_iter().find(|(_, size, _)| *size > ROW_BYTES_MAX).unwrap();
                    let size = HumanCount(size as u64);
                    let told = format!(
                        "{field} of t of entity {row}v1 has {size} {unit}, and a row of a table at most 1,000 in one column"
                    );
                    assert_eq!(format!("{e:#}"), told);
                    assert!(matches!(e.downcast_ref(), Some(Failure::Usage(_))));
                }
            }
        }
    }

    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "Entity", archived)]
    struct LikeOthers {
        own: Vec<(u32, String)>,
        text: String,
        Text: Vec<(u32, String)>,
    }

    /// By the name by which it is known, and by that which it would have in the files.
    #[test]
    fn what_is_too_large_is_named_as_it_is_called_and_as_its_column_is() {
        let large = || "n".repeat(ROW_BYTES_MAX + 1);
        let none = || LikeOthers { own: Vec::new(), text: String::new(), Text: Vec::new() };
        for (value, named) in [
            (
                LikeOthers { own: vec![(1, large())], ..none() },
                "own.1 of Entity (the column Entity_2.own.list.item.1)",
            ),
            (LikeOthers { text: large(), ..none() }, "text of Entity (the column Entity_2.text)"),
            (
                LikeOthers { Text: vec![(1, large())], ..none() },
                "Text.1 of Entity (the column Entity_2.Text_2.list.item.1)",
            ),
        ] {
            let db = Database::in_memory();
            db.write(|tx| Ok(tx.spawn((value,)))).unwrap();
            let view = db.view().unwrap();
            let components = Components::of(&view);
            let (exported, _) = exported(&components, &view);
            let wrong = view.chunks().find_map(|chunk| in_batches(&chunk, &exported, |_| Ok(())).err());
            let wrong = wrong.unwrap().to_string();
            assert!(wrong.starts_with(&format!("{named} of entity 0v1 has 1,001 bytes, ")), "{wrong}");
        }
    }
}
