//! `ecsdb export`: a Parquet file for each archetype, for whatever reads tables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::types::{BinaryType, Utf8Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use clap::Args;
use ecsdb::ComponentId;
use ecsdb_core::describe::Value;
use ecsdb_core::parts::ChunkPart;
use ecsdb_query::{Components, ROOT, Reader};
use indicatif::HumanCount;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use crate::output::{self, Output, bar, many};
use crate::place::{Place, When};
use crate::target::Tables;
use crate::{interrupt, target};

mod columns;

use columns::{Column, TooMuch, bytes};

/// Bytes of a column up to which rows are written together. Beyond what an array can have (2 GiB) there would be a panic, and a page of a table has no
/// more, either.
const BATCH_BYTES_MAX: usize = if cfg!(test) { 100 } else { 64 << 20 };
/// Bytes of a column of a single row, with room for what a page has besides.
const ROW_BYTES_MAX: usize = if cfg!(test) { 1000 } else { i32::MAX as usize - (16 << 20) };

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
        self.writer.close().map_err(cause).with_context(|| writing(&self.path))?;
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
    let files = write(&seen, &tables)?;
    tables.finish()?;
    if out.is_json() {
        let files: Vec<_> = files
            .iter()
            .map(|(table, components, rows)| json!({ "file": output::path(&to.join(table)), "components": components, "entities": rows }))
            .collect();
        return out.json(&json!({ "state": seen.json(), "files": files }));
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

fn write(seen: &crate::place::Seen, tables: &Tables<'_>) -> Result<Written> {
    let components = Components::of(&seen.view);
    let exported: BTreeMap<ComponentId, Exported<'_>> = components
        .all()
        .map(|def| {
            let reader = Reader::of(def);
            let column = reader.values().map(|_| Column::of(&def.description));
            (def.id, Exported { reader, column })
        })
        .collect();
    let bar = bar()?;
    bar.set_length(seen.view.len() as u64);
    let mut written = Written::new();
    let mut current: Option<File> = None;
    for chunk in seen.view.chunks() {
        interrupt::check()?;
        let ids: Vec<ComponentId> = chunk.components().collect();
        // The chunks of an archetype follow one another: one file is open at a time.
        let mut file = match current.take() {
            Some(file) if file.ids == ids => file,
            before => {
                written.extend(before.map(|file| file.close(&components)).transpose()?);
                open(seen, tables, written.len(), ids, &exported)?
            }
        };
        file.write(&chunk, &exported)?;
        bar.inc(chunk.rows() as u64);
        current = Some(file);
    }
    written.extend(current.map(|file| file.close(&components)).transpose()?);
    bar.finish_and_clear();
    Ok(written)
}

fn open(
    seen: &crate::place::Seen,
    tables: &Tables<'_>,
    number: usize,
    ids: Vec<ComponentId>,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
) -> Result<File> {
    let mut fields = vec![Field::new("entity", DataType::Utf8, false)];
    let mut types = serde_json::Map::new();
    for one in ids.iter().filter_map(|id| exported.get(id)) {
        let data_type = one.column.as_ref().map_or(DataType::Binary, Column::data_type);
        fields.push(Field::new(&*one.reader.def.name, data_type, true));
        types.insert(one.reader.def.name.to_string(), one.reader.description().to_string().into());
    }
    let schema = Arc::new(Schema::new(fields));
    let said = [
        ("ecsdb.state", seen.json().to_string()),
        ("ecsdb.types", serde_json::Value::Object(types).to_string()),
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
    let (mut from, mut many) = (0, chunk.rows());
    while from < chunk.rows() {
        let to = chunk.rows().min(from + many);
        let max = if many == 1 { ROW_BYTES_MAX } else { BATCH_BYTES_MAX };
        match arrays(chunk, from..to, exported, max) {
            Err(e) if many > 1 && e.is::<TooMuch>() => many = many.div_ceil(2),
            arrays => {
                each(arrays?)?;
                from = to;
            }
        }
    }
    Ok(())
}

fn arrays(
    chunk: &ChunkPart<'_>,
    rows: Range<usize>,
    exported: &BTreeMap<ComponentId, Exported<'_>>,
    max: usize,
) -> Result<Vec<ArrayRef>> {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for part in chunk.columns() {
        let Some(id) = part.component else {
            let ids = part.entities().unwrap_or(&[]).get(rows.clone()).unwrap_or(&[]);
            arrays.push(bytes::<Utf8Type>(ids.iter().map(|entity| Some(entity.to_string())), max)?);
            continue;
        };
        let Some(one) = exported.get(&id) else { continue };
        let stored = rows.clone().map(|row| one.reader.row(&part, row));
        let stored = stored.collect::<Result<Vec<_>, _>>()?;
        let array = match &one.column {
            Some(column) => {
                let values: Vec<Option<&Value>> =
                    stored.iter().map(|stored| stored.value.as_ref().ok()).collect();
                column.array(one.reader.description(), ROOT, &values, max)
            }
            None => {
                let all = stored.iter().map(|stored| Some(stored.bytes.as_slice()));
                bytes::<BinaryType>(all, max).map_err(anyhow::Error::from)
            }
        };
        arrays.push(array.with_context(|| one.reader.def.name.to_string())?);
    }
    Ok(arrays)
}

#[cfg(test)]
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

    /// The texts, in the batches in which they are written.
    fn batches(all: &[Parts]) -> Result<Vec<Vec<String>>> {
        let db = Database::in_memory();
        db.write(|tx| Ok(tx.spawn_batch(all.iter().cloned().map(|parts| (parts,))))).unwrap();
        let view = db.view().unwrap();
        let components = Components::of(&view);
        let exported = components.all().map(|def| {
            (def.id, Exported { reader: Reader::of(def), column: Some(Column::of(&def.description)) })
        });
        let exported = exported.collect();
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
            let largest = all.iter().map(bytes).max().unwrap();
            match batches(&all) {
                Ok(batches) => {
                    assert!(largest <= ROW_BYTES_MAX, "seed {seed}");
                    let text = |batch: &Vec<String>| batch.iter().map(String::len).sum::<usize>();
                    let fits = |batch: &Vec<String>| batch.len() == 1 || text(batch) <= BATCH_BYTES_MAX;
                    assert!(batches.len() > 1 && batches.iter().all(fits), "seed {seed}");
                    let wanted: Vec<&str> = all.iter().map(|parts| &*parts.text).collect();
                    assert_eq!(batches.concat(), wanted, "seed {seed}");
                }
                Err(e) => {
                    assert!(largest > ROW_BYTES_MAX && e.is::<TooMuch>(), "seed {seed}: {e:#}");
                    assert_eq!(
                        format!("{e:#}"),
                        "t: what becomes one column of a table is more than 1000 bytes"
                    );
                }
            }
        }
    }
}
