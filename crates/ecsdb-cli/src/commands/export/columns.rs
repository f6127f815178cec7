//! What types and values become in a table.

use std::sync::Arc;

use anyhow::Result;
use arrow_array::builder::GenericByteBuilder;
use arrow_array::types::{BinaryType, ByteArrayType, Utf8Type};
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    ListArray, StructArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields};
use ecsdb_core::describe::{Description, Primitive, Shape, TypeIndex, Value};
use ecsdb_query::{ROOT, inner, to_json};

/// Levels of nesting that become columns; what is deeper becomes JSON text.
const LEVELS_MAX: usize = 8;
/// Columns of one component, those around others included; what comes beyond that becomes JSON text.
const COLUMNS_MAX: usize = 4096;

/// A column would have more bytes, or a list in it more elements, than it may.
#[derive(Debug, thiserror::Error)]
#[error("{size} {unit}, and at most {max} fit into a column")]
pub(super) struct TooMuch {
    pub(super) size: usize,
    pub(super) unit: &'static str,
    pub(super) max: usize,
    /// The columns that it is in within that of the component, innermost first, each with the field that it is of, if of one.
    within: Vec<(Option<String>, String)>,
}

impl TooMuch {
    fn new(size: usize, unit: &'static str, max: usize) -> TooMuch {
        TooMuch { size, unit, max, within: Vec::new() }
    }

    /// What it is of: a field of a component, and its column, where that has another name.
    pub(super) fn of(&self, component: &str, column: &str) -> String {
        let within = || self.within.iter().rev();
        let fields: Vec<&str> = within().filter_map(|(field, _)| field.as_deref()).collect();
        let of = if fields.is_empty() { String::new() } else { format!("{} of ", fields.join(".")) };
        let is_renamed = column != component
            || within().any(|(field, column)| field.as_ref().is_some_and(|field| field != column));
        if !is_renamed {
            return format!("{of}{component}");
        }
        let columns: String = within().map(|(_, column)| format!(".{column}")).collect();
        format!("{of}{component} (the column {column}{columns})")
    }
}

/// Says in which column it is, and which field that is of, if of one.
fn within(mut e: anyhow::Error, field: Option<&str>, column: &str) -> anyhow::Error {
    if let Some(much) = e.downcast_mut::<TooMuch>() {
        much.within.push((field.map(String::from), column.into()));
    }
    e
}

/// Text or bytes as an array, which has at most `max` bytes.
pub(super) fn bytes<T: ByteArrayType<Offset = i32>>(
    values: impl Iterator<Item = Option<impl AsRef<T::Native>>>,
    max: usize,
) -> Result<ArrayRef, TooMuch> {
    let mut array = GenericByteBuilder::<T>::new();
    let mut size = 0_usize;
    for value in values {
        size += value.as_ref().map_or(0, |value| AsRef::<[u8]>::as_ref(value.as_ref()).len());
        if size <= max {
            array.append_option(value);
        }
    }
    if size > max { Err(TooMuch::new(size, "bytes", max)) } else { Ok(Arc::new(array.finish())) }
}

/// The names that a file has between a list and what is in it.
const LIST: &str = "list";
const ITEM: &str = "item";

/// A field's column, under the name that it has in files.
pub(super) type NamedField = (String, TypeIndex, Column);

/// What a type becomes.
pub(super) enum Column {
    Scalar(DataType),
    /// Text that says what the value is, as JSON: enums with fields, types within themselves, numbers of 128 bits.
    Json,
    Nullable(TypeIndex, Box<Column>),
    List(TypeIndex, Box<Column>),
    Struct(Vec<NamedField>),
}

/// Decides what types become.
struct Columns<'a> {
    description: &'a Description,
    /// The types around, outermost first.
    around: Vec<TypeIndex>,
    /// So many more may become columns.
    left: usize,
}

impl Column {
    /// What a component becomes.
    pub(super) fn of(description: &Description) -> Column {
        Columns { description, around: Vec::new(), left: COLUMNS_MAX - 1 }.column(ROOT)
    }

    /// What the paths of those columns end with that a file has for it, beside those of its fields, which are in the last of them.
    pub(super) fn ends(&mut self) -> (Vec<String>, Option<&mut Vec<NamedField>>) {
        let mut ends = vec![String::new()];
        let mut at = self;
        loop {
            at = match at {
                Column::Nullable(_, of) => of,
                Column::List(_, of) => {
                    let list = format!("{}.{LIST}", ends.last().map_or("", String::as_str));
                    let item = format!("{list}.{ITEM}");
                    ends.extend([list, item]);
                    of
                }
                Column::Struct(fields) => return (ends, Some(fields)),
                Column::Scalar(_) | Column::Json => return (ends, None),
            }
        }
    }
}

impl Columns<'_> {
    /// Takes so many of those that are left.
    fn take(&mut self, columns: usize) -> bool {
        let left = self.left.checked_sub(columns);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// What a type becomes for which one is taken.
    fn column(&mut self, ty: TypeIndex) -> Column {
        let description = self.description;
        let ty = inner(description, ty);
        if self.around.len() > LEVELS_MAX || self.around.contains(&ty) {
            return Column::Json;
        }
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
            ) if self.take(1) => Column::List(*part, Box::new(self.column(*part))),
            // An option of an option has two ways of not being there.
            Some(Shape::Option(part)) => match self.column(*part) {
                Column::Nullable(..) => Column::Json,
                column => Column::Nullable(*part, Box::new(column)),
            },
            Some(Shape::Struct(fields)) if !fields.is_empty() && self.take(fields.len()) => Column::Struct(
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
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Column::Scalar(data_type) => data_type.clone(),
            Column::Json => DataType::Utf8,
            Column::Nullable(_, of) => of.data_type(),
            Column::List(_, of) => DataType::List(Arc::new(Field::new(ITEM, of.data_type(), true))),
            Column::Struct(fields) => DataType::Struct(Column::fields(fields)),
        }
    }

    fn fields(fields: &[NamedField]) -> Fields {
        fields.iter().map(|(name, _, column)| Field::new(name, column.data_type(), true)).collect()
    }

    /// The values as an array, in which no column has more than `max` bytes; `None` is what is not there.
    pub(super) fn array(
        &self,
        description: &Description,
        ty: TypeIndex,
        values: &[Option<&Value>],
        max: usize,
    ) -> Result<ArrayRef> {
        let ty = Inner::of(description, ty);
        let values: Vec<Option<&Value>> =
            values.iter().map(|value| value.map(|value| bare(value, &ty))).collect();
        let end = ty.end;
        Ok(match self {
            Column::Json => {
                let text = values
                    .iter()
                    .map(|value| value.map(|value| to_json(description, end, value).to_string()));
                bytes::<Utf8Type>(text, max)?
            }
            Column::Scalar(data_type) => scalars(description, end, data_type, &values, max)?,
            Column::Nullable(part, of) => {
                let inside: Vec<Option<&Value>> = values
                    .iter()
                    .map(|value| match value {
                        Some(Value::Some(inside)) => Some(&**inside),
                        _ => None,
                    })
                    .collect();
                of.array(description, *part, &inside, max)?
            }
            Column::List(part, of) => {
                let lists = values.iter().map(|value| match value {
                    Some(Value::List(list)) => list.as_slice(),
                    _ => &[],
                });
                let size = lists.clone().map(<[Value]>::len).sum::<usize>();
                if size > max {
                    return Err(TooMuch::new(size, "elements", max).into());
                }
                let offsets = OffsetBuffer::from_lengths(lists.clone().map(<[Value]>::len));
                let all: Vec<Option<&Value>> = lists.flatten().map(Some).collect();
                let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
                let field = Arc::new(Field::new(ITEM, of.data_type(), true));
                let items = of.array(description, *part, &all, max);
                let items = items.map_err(|e| within(e, None, &format!("{LIST}.{ITEM}")))?;
                Arc::new(ListArray::try_new(field, offsets, items, Some(nulls))?)
            }
            Column::Struct(fields) => {
                let mut arrays = Vec::new();
                for (i, (name, ty, column)) in fields.iter().enumerate() {
                    let parts: Vec<Option<&Value>> = values
                        .iter()
                        .map(|value| match value {
                            Some(Value::Struct(parts)) => parts.get(i),
                            _ => None,
                        })
                        .collect();
                    let array = column.array(description, *ty, &parts, max);
                    let field = match description.shape(end) {
                        Some(Shape::Struct(fields)) => fields.get(i).map(|field| &*field.name),
                        _ => None,
                    };
                    arrays.push(array.map_err(|e| within(e, field, name))?);
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
    max: usize,
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
            bytes::<BinaryType>(all, max)?
        }
        _ => {
            let all = values.iter().map(|value| {
                let json = to_json(description, ty, (*value)?);
                Some(json.as_str().map_or_else(|| json.to_string(), str::to_string))
            });
            bytes::<Utf8Type>(all, max)?
        }
    })
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
        let Column::Struct(fields) = Column::of(Tree::description()) else { panic!("it has fields") };
        let [(_, _, size), (_, _, left), (_, _, right), (_, _, more)] = &fields[..] else { panic!("four") };
        assert!(matches!(size, Column::Scalar(DataType::UInt32)));
        for column in [left, right] {
            assert!(matches!(column, Column::Nullable(_, of) if matches!(**of, Column::Json)));
        }
        assert!(matches!(more, Column::List(_, of) if matches!(**of, Column::Json)));
    }

    /// Columns, those around others included.
    fn count(column: &Column) -> usize {
        match column {
            Column::Scalar(_) | Column::Json => 1,
            Column::Nullable(_, of) => count(of),
            Column::List(_, of) => 1 + count(of),
            Column::Struct(fields) => 1 + fields.iter().map(|(.., column)| count(column)).sum::<usize>(),
        }
    }

    /// A description with a type for each of these: a struct of so many fields of types that `next` says, or a list for 1, or a number for 0.
    fn described(types: &[usize], mut next: impl FnMut() -> usize) -> Description {
        fn number(out: &mut Vec<u8>, mut n: usize) {
            while n >= 0x80 {
                out.push(n as u8 | 0x80);
                n >>= 7;
            }
            out.push(n as u8);
        }
        let mut out = vec![0x82, types.len() as u8];
        for &fields in types {
            out.extend([0, 0]);
            match fields {
                0 => out.extend([0, 4]),
                1 => out.extend([4, next() as u8]),
                _ => {
                    out.push(1);
                    number(&mut out, fields);
                    (0..fields).for_each(|_| out.extend([1, b'f', 0, next() as u8]));
                }
            }
        }
        Description::from_bytes(&out).unwrap()
    }

    #[test]
    fn no_component_has_more_columns_than_it_may() {
        assert!(matches!(Column::of(&described(&[200_000, 0], || 1)), Column::Json));
        let just = Column::of(&described(&[COLUMNS_MAX - 1, 0], || 1));
        assert_eq!(count(&just), COLUMNS_MAX);
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut many = 0;
        for _ in 0..200 {
            let mut types: Vec<usize> =
                (0..6).map(|_| [0, 1, 2, 7, 60, 900, 5000][random.usize(..7)]).collect();
            types[0] = types[0].max(2);
            let columns = count(&Column::of(&described(&types, || random.usize(..6))));
            assert!(columns <= COLUMNS_MAX, "seed {seed}: {types:?} have {columns}");
            many += usize::from(columns > COLUMNS_MAX / 2);
        }
        assert!(many > 0, "seed {seed}");
    }
}
