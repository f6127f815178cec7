//! `ecsdb export`: a Parquet file for each archetype, for whatever reads tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, Schema};
use clap::Args;
use ecsdb::ComponentId;
use ecsdb_core::describe::{Description, Primitive, Shape, TypeIndex, Value};
use ecsdb_core::parts::ChunkPart;
use ecsdb_query::{Components, ROOT, Reader, inner, to_json};
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

/// Levels of nesting that become columns; what is deeper becomes JSON text.
const LEVELS_MAX: usize = 8;
/// Columns of one component, those around others included; what comes beyond that becomes JSON text.
const COLUMNS_MAX: usize = 4096;

/// What a type becomes.
enum Column {
    Scalar(DataType),
    /// Text that says what the value is, as JSON: enums with fields, types within themselves, numbers of 128 bits.
    Json,
    Nullable(TypeIndex, Box<Column>),
    List(TypeIndex, Box<Column>),
    Struct(Vec<(String, TypeIndex, Column)>),
}

/// Decides what types become.
struct Columns<'a> {
    description: &'a Description,
    /// The types around, outermost first.
    around: Vec<TypeIndex>,
    /// So many more may become columns.
    left: usize,
}

impl Columns<'_> {
    /// What a component becomes.
    fn of(description: &Description) -> Column {
        Columns { description, around: Vec::new(), left: COLUMNS_MAX }.column(ROOT)
    }

    fn column(&mut self, ty: TypeIndex) -> Column {
        let description = self.description;
        let ty = inner(description, ty);
        if self.around.len() > LEVELS_MAX || self.left == 0 || self.around.contains(&ty) {
            return Column::Json;
        }
        self.left -= 1;
        self.around.push(ty);
        let column = match description.shape(ty) {
            Some(Shape::Primitive(primitive)) => scalar(*primitive).map_or(Column::Json, Column::Scalar),
            Some(Shape::Enum(variants)) if variants.iter().all(|variant| variant.fields.is_empty()) => {
                Column::Scalar(DataType::Utf8)
            }
            Some(Shape::Sequence(of) | Shape::Slice(of) | Shape::Array(of, _))
                if matches!(description.shape(*of), Some(Shape::Primitive(Primitive::U8))) =>
            {
                Column::Scalar(DataType::Binary)
            }
            Some(Shape::Opaque(..)) => Column::Scalar(DataType::Binary),
            Some(
                Shape::Sequence(part)
                | Shape::Slice(part)
                | Shape::Array(part, _)
                | Shape::Set(part)
                | Shape::OrderedSet(part),
            ) => Column::List(*part, Box::new(self.column(*part))),
            // An option of an option has two ways of not being there.
            Some(Shape::Option(part)) => match self.column(*part) {
                Column::Nullable(..) => Column::Json,
                column => Column::Nullable(*part, Box::new(column)),
            },
            Some(Shape::Struct(fields)) if !fields.is_empty() => Column::Struct(
                fields.iter().map(|field| (field.name.clone(), field.ty, self.column(field.ty))).collect(),
            ),
            _ => Column::Json,
        };
        self.around.pop();
        column
    }
}

fn scalar(primitive: Primitive) -> Option<DataType> {
    use Primitive::*;
    Some(match primitive {
        Bool => DataType::Boolean,
        U8 | NonZeroU8 => DataType::UInt8,
        U16 | NonZeroU16 => DataType::UInt16,
        U32 | NonZeroU32 => DataType::UInt32,
        U64 | NonZeroU64 | Usize => DataType::UInt64,
        I8 | NonZeroI8 => DataType::Int8,
        I16 | NonZeroI16 => DataType::Int16,
        I32 | NonZeroI32 => DataType::Int32,
        I64 | NonZeroI64 | Isize => DataType::Int64,
        F32 => DataType::Float32,
        F64 => DataType::Float64,
        Char | String | BoxStr | Entity | Duration => DataType::Utf8,
        U128 | I128 | NonZeroU128 | NonZeroI128 => return None,
    })
}

impl Column {
    fn data_type(&self) -> DataType {
        match self {
            Column::Scalar(data_type) => data_type.clone(),
            Column::Json => DataType::Utf8,
            Column::Nullable(_, of) => of.data_type(),
            Column::List(_, of) => DataType::List(Arc::new(Field::new("item", of.data_type(), true))),
            Column::Struct(fields) => DataType::Struct(Column::fields(fields)),
        }
    }

    fn fields(fields: &[(String, TypeIndex, Column)]) -> Fields {
        fields.iter().map(|(name, _, column)| Field::new(name, column.data_type(), true)).collect()
    }

    /// The values as an array; `None` is what is not there.
    fn array(&self, description: &Description, ty: TypeIndex, values: &[Option<&Value>]) -> Result<ArrayRef> {
        let ty = Inner::of(description, ty);
        let values: Vec<Option<&Value>> =
            values.iter().map(|value| value.map(|value| bare(value, &ty))).collect();
        let ty = ty.end;
        Ok(match self {
            Column::Json => {
                let text =
                    values.iter().map(|value| value.map(|value| to_json(description, ty, value).to_string()));
                Arc::new(text.collect::<StringArray>())
            }
            Column::Scalar(data_type) => scalars(description, ty, data_type, &values)?,
            Column::Nullable(part, of) => {
                let inside: Vec<Option<&Value>> = values
                    .iter()
                    .map(|value| match value {
                        Some(Value::Some(inside)) => Some(&**inside),
                        _ => None,
                    })
                    .collect();
                of.array(description, *part, &inside)?
            }
            Column::List(part, of) => {
                let lists = values.iter().map(|value| match value {
                    Some(Value::List(list)) => list.as_slice(),
                    _ => &[],
                });
                let offsets = OffsetBuffer::from_lengths(lists.clone().map(<[Value]>::len));
                let all: Vec<Option<&Value>> = lists.flatten().map(Some).collect();
                let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
                let field = Arc::new(Field::new("item", of.data_type(), true));
                Arc::new(ListArray::try_new(
                    field,
                    offsets,
                    of.array(description, *part, &all)?,
                    Some(nulls),
                )?)
            }
            Column::Struct(fields) => {
                let mut arrays = Vec::new();
                for (i, (_, ty, column)) in fields.iter().enumerate() {
                    let parts: Vec<Option<&Value>> = values
                        .iter()
                        .map(|value| match value {
                            Some(Value::Struct(parts)) => parts.get(i),
                            _ => None,
                        })
                        .collect();
                    arrays.push(column.array(description, *ty, &parts)?);
                }
                let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
                Arc::new(StructArray::try_new(Column::fields(fields), arrays, Some(nulls))?)
            }
        })
    }
}

/// How many structs of one field a value lies in, and its type.
struct Inner {
    structs: usize,
    end: TypeIndex,
}

impl Inner {
    fn of(description: &Description, ty: TypeIndex) -> Inner {
        let end = inner(description, ty);
        let (mut structs, mut at) = (0, ty);
        while at != end {
            at = match description.shape(at) {
                Some(Shape::Box(of)) => *of,
                Some(Shape::Struct(fields)) if !fields.is_empty() => {
                    structs += 1;
                    fields[0].ty
                }
                _ => break,
            };
        }
        Inner { structs, end }
    }
}

fn bare<'v>(value: &'v Value, inner: &Inner) -> &'v Value {
    let mut value = value;
    for _ in 0..inner.structs {
        match value {
            Value::Struct(parts) if parts.len() == 1 => value = &parts[0],
            _ => break,
        }
    }
    value
}

fn scalars(
    description: &Description,
    ty: TypeIndex,
    data_type: &DataType,
    values: &[Option<&Value>],
) -> Result<ArrayRef> {
    macro_rules! numbers {
        ($array:ty, $kind:ident, $number:ty) => {{
            let numbers = values.iter().map(|value| match value {
                Some(Value::$kind(number)) => Some(*number as $number),
                _ => None,
            });
            Arc::new(numbers.collect::<$array>())
        }};
    }
    Ok(match data_type {
        DataType::Boolean => {
            let all = values.iter().map(|value| match value {
                Some(Value::Bool(value)) => Some(*value),
                _ => None,
            });
            Arc::new(all.collect::<BooleanArray>())
        }
        DataType::UInt8 => numbers!(UInt8Array, Unsigned, u8),
        DataType::UInt16 => numbers!(UInt16Array, Unsigned, u16),
        DataType::UInt32 => numbers!(UInt32Array, Unsigned, u32),
        DataType::UInt64 => numbers!(UInt64Array, Unsigned, u64),
        DataType::Int8 => numbers!(Int8Array, Signed, i8),
        DataType::Int16 => numbers!(Int16Array, Signed, i16),
        DataType::Int32 => numbers!(Int32Array, Signed, i32),
        DataType::Int64 => numbers!(Int64Array, Signed, i64),
        DataType::Float32 => numbers!(Float32Array, F32, f32),
        DataType::Float64 => numbers!(Float64Array, F64, f64),
        DataType::Binary => {
            let all = values.iter().map(|value| match value {
                Some(Value::Bytes(bytes)) => Some(bytes.as_slice()),
                _ => None,
            });
            Arc::new(all.collect::<BinaryArray>())
        }
        _ => {
            let all = values.iter().map(|value| {
                let json = to_json(description, ty, (*value)?);
                Some(json.as_str().map_or_else(|| json.to_string(), str::to_string))
            });
            Arc::new(all.collect::<StringArray>())
        }
    })
}

/// A component of an archetype.
struct Exported<'d> {
    reader: Reader<'d>,
    /// `None` where values cannot be read: their stored bytes then.
    column: Option<Column>,
}

struct File {
    path: PathBuf,
    /// The components of its archetype.
    ids: Vec<ComponentId>,
    writer: ArrowWriter<std::fs::File>,
    schema: Arc<Schema>,
    rows: u64,
}

impl File {
    fn write(&mut self, chunk: &ChunkPart<'_>, exported: &BTreeMap<ComponentId, Exported<'_>>) -> Result<()> {
        let batch = RecordBatch::try_new(self.schema.clone(), arrays(chunk, exported)?)?;
        self.writer.write(&batch).map_err(cause).with_context(|| writing(&self.path))?;
        self.rows += chunk.rows() as u64;
        Ok(())
    }

    fn close(self, components: &Components) -> Result<(PathBuf, Vec<String>, u64)> {
        self.writer.close().map_err(cause).with_context(|| writing(&self.path))?;
        Ok((self.path, self.ids.iter().map(|&id| components.name(id)).collect(), self.rows))
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
    let files = match write(&seen, to) {
        Ok(files) => files,
        Err(e) => {
            tables.give_up();
            return Err(e);
        }
    };
    tables.finish()?;
    if out.is_json() {
        let files: Vec<_> = files
            .iter()
            .map(|(path, components, rows)| json!({ "file": output::path(path), "components": components, "entities": rows }))
            .collect();
        return out.json(&json!({ "state": seen.json(), "files": files }));
    }
    let n = files.len() as u64;
    let rows = files.into_iter().map(|(path, components, rows)| {
        vec![
            path.file_name().unwrap_or_default().to_string_lossy().into(),
            HumanCount(rows).to_string(),
            components.join(", "),
        ]
    });
    out.table(&["file", "entities", "components"], rows.collect())?;
    out.line(format_args!("{} in {}, {}", many(n, "file", "files"), to.display(), seen.line()))
}

type Written = Vec<(PathBuf, Vec<String>, u64)>;

fn write(seen: &crate::place::Seen, to: &Path) -> Result<Written> {
    let components = Components::of(&seen.view);
    let exported: BTreeMap<ComponentId, Exported<'_>> = components
        .all()
        .map(|def| {
            let reader = Reader::of(def);
            let column = reader.values().map(|_| Columns::of(&def.description));
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
                open(seen, to, written.len(), ids, &exported)?
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
    to: &Path,
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
    let path = to.join(Tables::table(number));
    let file = std::fs::File::create_new(&path).with_context(|| writing(&path))?;
    let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(cause);
    Ok(File { writer: writer.with_context(|| writing(&path))?, path, ids, schema, rows: 0 })
}

fn arrays(chunk: &ChunkPart<'_>, exported: &BTreeMap<ComponentId, Exported<'_>>) -> Result<Vec<ArrayRef>> {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for part in chunk.columns() {
        let Some(id) = part.component else {
            let ids = part.entities().unwrap_or(&[]).iter().map(|entity| Some(entity.to_string()));
            arrays.push(Arc::new(ids.collect::<StringArray>()));
            continue;
        };
        let Some(one) = exported.get(&id) else { continue };
        let rows = (0..chunk.rows()).map(|row| one.reader.row(&part, row));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        arrays.push(match &one.column {
            Some(column) => {
                let values: Vec<Option<&Value>> =
                    rows.iter().map(|stored| stored.value.as_ref().ok()).collect();
                column.array(one.reader.description(), ROOT, &values)?
            }
            None => {
                Arc::new(rows.iter().map(|stored| Some(stored.bytes.as_slice())).collect::<BinaryArray>())
            }
        });
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use ecsdb::prelude::*;

    use super::*;

    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "t", archived)]
    #[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
    #[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
    #[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
    struct Tree {
        size: u32,
        #[rkyv(omit_bounds)]
        left: Option<Box<Tree>>,
        #[rkyv(omit_bounds)]
        right: Option<Box<Tree>>,
        #[rkyv(omit_bounds)]
        more: Vec<Tree>,
    }

    #[test]
    fn a_type_within_itself_becomes_json_there() {
        let Column::Struct(fields) = Columns::of(Tree::description()) else { panic!("it has fields") };
        let [(_, _, size), (_, _, left), (_, _, right), (_, _, more)] = &fields[..] else { panic!("four") };
        assert!(matches!(size, Column::Scalar(DataType::UInt32)));
        for column in [left, right] {
            assert!(matches!(column, Column::Nullable(_, of) if matches!(**of, Column::Json)));
        }
        assert!(matches!(more, Column::List(_, of) if matches!(**of, Column::Json)));
    }
}
