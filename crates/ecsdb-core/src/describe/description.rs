//! The description as a value: a table of types that refer to one another, and its stored form.

use std::any::TypeId;

use super::{Describe, Stored};
use crate::codec::{Reader, put_bytes, put_varint};
use crate::error::Result;
use crate::limits;

/// A type's place in its description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeIndex(pub u32);

/// What a component's type consists of. Two types with equal descriptions are stored alike.
///
/// Names of fields and variants count, names of types do not. `docs/format/descriptions.md` is the specification of the stored
/// form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// How rkyv archives are laid out in this build; 0 where none is stored.
    pub(super) archive_format: u8,
    /// The root first. Types refer to one another by their places here.
    pub(super) types: Vec<Type>,
    /// Follows from the types, and is asked for with every value.
    recursive: bool,
}

/// One type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    /// Bytes and alignment; 0 where they follow from the archive format.
    pub(super) size: u32,
    pub(super) align: u32,
    pub(super) shape: Shape,
}

/// A type without parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "named as the Rust types are")]
pub enum Primitive {
    Bool = 0,
    Char = 1,
    U8 = 2,
    U16 = 3,
    U32 = 4,
    U64 = 5,
    U128 = 6,
    I8 = 7,
    I16 = 8,
    I32 = 9,
    I64 = 10,
    I128 = 11,
    F32 = 12,
    F64 = 13,
    String = 14,
    Entity = 15,
    Usize = 16,
    Isize = 17,
    /// Not zero: the number is stored as it is.
    NonZeroU8 = 18,
    NonZeroU16 = 19,
    NonZeroU32 = 20,
    NonZeroU64 = 21,
    Duration = 22,
    NonZeroU128 = 23,
    NonZeroI8 = 24,
    NonZeroI16 = 25,
    NonZeroI32 = 26,
    NonZeroI64 = 27,
    NonZeroI128 = 28,
    /// `Box<str>`, whose archive is another than a string's.
    BoxStr = 29,
}

impl Primitive {
    const ALL: [Primitive; 30] = {
        use Primitive::*;
        [
            Bool,
            Char,
            U8,
            U16,
            U32,
            U64,
            U128,
            I8,
            I16,
            I32,
            I64,
            I128,
            F32,
            F64,
            String,
            Entity,
            Usize,
            Isize,
            NonZeroU8,
            NonZeroU16,
            NonZeroU32,
            NonZeroU64,
            Duration,
            NonZeroU128,
            NonZeroI8,
            NonZeroI16,
            NonZeroI32,
            NonZeroI64,
            NonZeroI128,
            BoxStr,
        ]
    };
}

/// What a type consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A number, a string, an id.
    Primitive(Primitive),
    /// A struct or a tuple, whose fields are then named by their numbers.
    Struct(Vec<Field>),
    /// An enum.
    Enum(Vec<Variant>),
    /// So many values of one type.
    Array(TypeIndex, u64),
    /// `Vec`: any number of values, in order.
    Sequence(TypeIndex),
    /// `Box<[T]>`: the same, in another archive.
    Slice(TypeIndex),
    /// `BTreeSet`: any number of values, in order.
    OrderedSet(TypeIndex),
    /// `HashSet`: any number of values, in no order.
    Set(TypeIndex),
    /// `BTreeMap`: keys and values, in order.
    Map(TypeIndex, TypeIndex),
    /// `HashMap`: keys and values, in no order.
    HashMap(TypeIndex, TypeIndex),
    /// `Option`.
    Option(TypeIndex),
    /// `Box`.
    Box(TypeIndex),
    /// Something that only its user knows, under a name and a version that its user keeps.
    Opaque(String, u32),
}

/// A field of a struct or of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name, or its number.
    pub name: String,
    /// Bytes from the beginning, where the type is stored as its memory; else 0.
    pub offset: u32,
    /// Its type.
    pub ty: TypeIndex,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// What tells it from the others.
    pub number: i64,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// The types of a description that is being made.
#[derive(Debug)]
pub struct Types {
    stored: Stored,
    known: Vec<TypeId>,
    types: Vec<Type>,
    /// Bytes of each in memory, whichever way it is stored.
    in_memory: Vec<usize>,
}

impl Types {
    /// Where `T` is described.
    pub fn index_of<T: Describe>(&mut self) -> TypeIndex {
        if let Some(at) = self.known.iter().position(|&known| known == TypeId::of::<T>()) {
            return TypeIndex(at as u32);
        }
        let at = self.types.len();
        self.known.push(TypeId::of::<T>());
        self.in_memory.push(size_of::<T>());
        let (size, align) = T::layout(self.stored);
        // Its place is taken before its parts are described, since they may refer to it.
        self.types.push(Type { size: size as u32, align: align as u32, shape: Shape::Struct(Vec::new()) });
        let shape = T::shape(self);
        self.types[at].shape = shape;
        TypeIndex(at as u32)
    }

    /// A field of type `T`.
    pub fn field<T: Describe>(&mut self, name: &str, offset: usize) -> Field {
        let offset = if self.stored == Stored::Memory { offset as u32 } else { 0 };
        Field { name: name.into(), offset, ty: self.index_of::<T>() }
    }

    /// A field of type `T` that is not described, with size and alignment of its archive, if that is known.
    pub fn opaque_field<T: 'static>(
        &mut self,
        name: &str,
        offset: usize,
        opaque: (&str, u32),
        archive: (usize, usize),
    ) -> Field {
        let (offset, (size, align)) = match self.stored {
            Stored::Memory => (offset as u32, (size_of::<T>(), align_of::<T>())),
            Stored::Archive => (0, archive),
        };
        // No other type refers to it, so it is known under none.
        self.known.push(TypeId::of::<Types>());
        self.in_memory.push(size_of::<T>());
        let shape = Shape::Opaque(opaque.0.into(), opaque.1);
        self.types.push(Type { size: size as u32, align: align as u32, shape });
        Field { name: name.into(), offset, ty: TypeIndex(self.types.len() as u32 - 1) }
    }

    fn of<T: Describe>(stored: Stored) -> Types {
        let mut types = Types { stored, known: Vec::new(), types: Vec::new(), in_memory: Vec::new() };
        types.index_of::<T>();
        types
    }
}

/// The types in an order in which parts stand before what they are parts of; `None` when a type contains itself. In O(types and
/// parts), on the heap, since stored types can be any.
fn parts_first(types: &[Type]) -> Option<Vec<usize>> {
    let mut users = vec![0usize; types.len()];
    types.iter().for_each(|ty| ty.shape.each_part(|part| users[part.0 as usize] += 1));
    let mut order: Vec<usize> = (0..types.len()).filter(|&at| users[at] == 0).collect();
    let mut next = 0;
    while let Some(ty) = order.get(next).map(|&at| &types[at]) {
        next += 1;
        ty.shape.each_part(|part| {
            let part = part.0 as usize;
            users[part] -= 1;
            if users[part] == 0 {
                order.push(part);
            }
        });
    }
    order.reverse();
    (order.len() == types.len()).then_some(order)
}

/// Bytes in memory of parts that lie one within another, at most, boxed ones too: what reading a value holds on its stack, some of
/// it several times.
pub(crate) fn nested_bytes_max<T: Describe>() -> usize {
    let Types { types, in_memory, .. } = Types::of::<T>(Stored::Memory);
    // An enum counts by the fields of all its variants: a debug build has a place on the stack for those of each.
    let counted = types.iter().zip(&in_memory).map(|(ty, &bytes)| {
        let mut fields = 0usize;
        if let Shape::Enum(_) = &ty.shape {
            ty.shape.each_part(|part| fields = fields.saturating_add(in_memory[part.0 as usize]));
        }
        fields.max(bytes)
    });
    let in_memory: Vec<usize> = counted.collect();
    let Some(order) = parts_first(&types) else {
        let largest = in_memory.iter().max().copied().unwrap_or(0);
        return largest.saturating_mul(limits::VALUE_DEPTH_MAX);
    };
    let mut nested = in_memory;
    for at in order {
        let mut parts = 0;
        types[at].shape.each_part(|part| parts = parts.max(nested[part.0 as usize]));
        nested[at] = nested[at].saturating_add(parts);
    }
    nested.into_iter().max().unwrap_or(0)
}

/// How archives are laid out by the rkyv that is linked: its cargo features are the choice of any crate in the program.
fn archive_format() -> u8 {
    let one = rkyv::to_bytes::<rkyv::rancor::Error>(&1u16);
    let big_endian = one.is_ok_and(|bytes| bytes.first() == Some(&0));
    let unaligned = align_of::<rkyv::Archived<u64>>() == 1;
    let pointer = size_of::<rkyv::Archived<usize>>().trailing_zeros() as u8;
    0x80 | u8::from(big_endian) << 4 | u8::from(unaligned) << 3 | pointer
}

impl Description {
    fn of<T: Describe>(stored: Stored) -> Description {
        let types = Types::of::<T>(stored);
        let archive_format = if stored == Stored::Archive { archive_format() } else { 0 };
        Description::new(archive_format, types.types)
    }

    fn new(archive_format: u8, types: Vec<Type>) -> Description {
        let recursive = parts_first(&types).is_none();
        Description { archive_format, types, recursive }
    }

    /// Of a type that is stored as its memory bytes.
    pub fn memory<T: Describe>() -> Description {
        Self::of::<T>(Stored::Memory)
    }

    /// Of a type that is stored through rkyv.
    pub fn archive<T: Describe>() -> Description {
        Self::of::<T>(Stored::Archive)
    }

    /// Of a type that is not stored.
    pub const fn none() -> Description {
        Description { archive_format: 0, types: Vec::new(), recursive: false }
    }

    /// What a type of this description consists of; the component itself is `TypeIndex(0)`.
    pub fn shape(&self, ty: TypeIndex) -> Option<&Shape> {
        self.types.get(ty.0 as usize).map(|ty| &ty.shape)
    }

    /// The first type, from `ty` on, that `next` leads nowhere from; `None` where that comes back to where it was, as a type that
    /// contains itself may. O(types).
    pub fn follow(&self, ty: TypeIndex, next: impl Fn(&Shape) -> Option<TypeIndex>) -> Option<TypeIndex> {
        let mut at = ty;
        for _ in 0..=self.types.len() {
            match self.shape(at).and_then(&next) {
                Some(to) => at = to,
                None => return Some(at),
            }
        }
        None
    }

    /// The hash of the stored form.
    pub fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.to_bytes())
    }

    /// True when values can contain values of their own type, so that nothing but a limit bounds their depth.
    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive
    }

    /// True when the same value can be stored in different ways, since it has parts without an order.
    pub fn is_unordered(&self) -> bool {
        self.types.iter().any(|ty| matches!(ty.shape, Shape::Set(_) | Shape::HashMap(..)))
    }

    /// Bytes of a value that is stored as its memory.
    pub(crate) fn bytes(&self) -> Option<u32> {
        self.types.first().map(|ty| ty.size)
    }

    /// How many types it has.
    pub(crate) fn types(&self) -> usize {
        self.types.len()
    }

    pub(crate) fn has_opaque_parts(&self) -> bool {
        self.types.iter().any(|ty| matches!(ty.shape, Shape::Opaque(..)))
    }

    /// The greatest alignment of any of its types.
    pub(crate) fn align_max(&self) -> u32 {
        self.types.iter().map(|ty| ty.align).max().unwrap_or(0)
    }

    /// The stored form. O(types).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.archive_format];
        put_varint(&mut out, self.types.len() as u64);
        for ty in &self.types {
            put_varint(&mut out, u64::from(ty.size));
            put_varint(&mut out, u64::from(ty.align));
            ty.shape.encode(&mut out);
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Description> {
        let mut reader = Reader::new(bytes);
        let archive_format = reader.byte()?;
        let n = reader.varint()?;
        if n > limits::DESCRIBED_TYPES_MAX as u64 {
            return reader.malformed("a description has too many types");
        }
        let mut types = Vec::new();
        for _ in 0..n {
            let (size, align) = (reader.varint_u32()?, reader.varint_u32()?);
            types.push(Type { size, align, shape: Shape::decode(&mut reader)? });
        }
        let mut whole = reader.is_empty();
        for ty in &types {
            ty.shape.each_part(|part| whole &= u64::from(part.0) < n);
        }
        if !whole {
            return reader.malformed("a description is not whole");
        }
        Ok(Description::new(archive_format, types))
    }
}

impl Shape {
    /// Calls back with the types that this one consists of.
    pub(super) fn each_part(&self, mut each: impl FnMut(TypeIndex)) {
        match self {
            Shape::Primitive(_) | Shape::Opaque(..) => {}
            Shape::Struct(fields) => fields.iter().for_each(|field| each(field.ty)),
            Shape::Enum(variants) => {
                variants.iter().flat_map(|variant| &variant.fields).for_each(|field| each(field.ty));
            }
            Shape::Array(part, _)
            | Shape::Sequence(part)
            | Shape::Slice(part)
            | Shape::OrderedSet(part)
            | Shape::Set(part)
            | Shape::Option(part)
            | Shape::Box(part) => each(*part),
            Shape::Map(key, value) | Shape::HashMap(key, value) => {
                each(*key);
                each(*value);
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let parts = |out: &mut Vec<u8>, code: u8, parts: &[TypeIndex]| {
            out.push(code);
            parts.iter().for_each(|ty| put_varint(out, u64::from(ty.0)));
        };
        match self {
            Shape::Primitive(primitive) => out.extend([0, *primitive as u8]),
            Shape::Struct(fields) => {
                out.push(1);
                put_fields(out, fields);
            }
            Shape::Enum(variants) => {
                out.push(2);
                put_varint(out, variants.len() as u64);
                for variant in variants {
                    put_bytes(out, variant.name.as_bytes());
                    out.extend_from_slice(&variant.number.to_le_bytes());
                    put_fields(out, &variant.fields);
                }
            }
            Shape::Array(element, len) => {
                parts(out, 3, &[*element]);
                put_varint(out, *len);
            }
            Shape::Sequence(element) => parts(out, 4, &[*element]),
            Shape::Set(element) => parts(out, 5, &[*element]),
            Shape::Map(key, value) => parts(out, 6, &[*key, *value]),
            Shape::HashMap(key, value) => parts(out, 7, &[*key, *value]),
            Shape::Option(inner) => parts(out, 8, &[*inner]),
            Shape::Box(inner) => parts(out, 9, &[*inner]),
            Shape::Opaque(name, version) => {
                out.push(10);
                put_bytes(out, name.as_bytes());
                put_varint(out, u64::from(*version));
            }
            Shape::Slice(element) => parts(out, 11, &[*element]),
            Shape::OrderedSet(element) => parts(out, 12, &[*element]),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Shape> {
        let part = |reader: &mut Reader<'_>| reader.varint_u32().map(TypeIndex);
        Ok(match reader.byte()? {
            0 => {
                let byte = reader.byte()?;
                match Primitive::ALL.get(byte as usize) {
                    Some(&primitive) => Shape::Primitive(primitive),
                    None => return reader.malformed("this is no primitive type that this version knows"),
                }
            }
            1 => Shape::Struct(take_fields(reader)?),
            2 => {
                let n = reader.varint()?;
                let mut variants = Vec::new();
                for _ in 0..n {
                    let name = take_text(reader)?;
                    let number = reader.u64()? as i64;
                    variants.push(Variant { name, number, fields: take_fields(reader)? });
                }
                Shape::Enum(variants)
            }
            3 => Shape::Array(part(reader)?, reader.varint()?),
            4 => Shape::Sequence(part(reader)?),
            5 => Shape::Set(part(reader)?),
            6 => Shape::Map(part(reader)?, part(reader)?),
            7 => Shape::HashMap(part(reader)?, part(reader)?),
            8 => Shape::Option(part(reader)?),
            9 => Shape::Box(part(reader)?),
            10 => Shape::Opaque(take_text(reader)?, reader.varint_u32()?),
            11 => Shape::Slice(part(reader)?),
            12 => Shape::OrderedSet(part(reader)?),
            _ => return reader.malformed("this is no shape of a type that this version knows"),
        })
    }
}

fn take_text(reader: &mut Reader<'_>) -> Result<String> {
    match std::str::from_utf8(reader.bytes()?) {
        Ok(text) => Ok(text.into()),
        Err(_) => reader.malformed("a name is not UTF-8"),
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &[Field]) {
    put_varint(out, fields.len() as u64);
    for field in fields {
        put_bytes(out, field.name.as_bytes());
        put_varint(out, u64::from(field.offset));
        put_varint(out, u64::from(field.ty.0));
    }
}

fn take_fields(reader: &mut Reader<'_>) -> Result<Vec<Field>> {
    let n = reader.varint()?;
    let mut fields = Vec::new();
    for _ in 0..n {
        let name = take_text(reader)?;
        fields.push(Field { name, offset: reader.varint_u32()?, ty: TypeIndex(reader.varint_u32()?) });
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape() -> impl Strategy<Value = Shape> {
        let ty = || (0u32..5).prop_map(TypeIndex);
        let fields = || {
            let field =
                ("[ab]{0,3}", 0u32..9, ty()).prop_map(|(name, offset, ty)| Field { name, offset, ty });
            proptest::collection::vec(field, 0..4)
        };
        let variant = ("[AB]{1,2}", any::<i64>(), fields()).prop_map(|(name, number, fields)| Variant {
            name,
            number,
            fields,
        });
        prop_oneof![
            (0..Primitive::ALL.len()).prop_map(|at| Shape::Primitive(Primitive::ALL[at])),
            fields().prop_map(Shape::Struct),
            proptest::collection::vec(variant, 0..3).prop_map(Shape::Enum),
            (ty(), any::<u64>()).prop_map(|(ty, len)| Shape::Array(ty, len)),
            ty().prop_map(Shape::Sequence),
            ty().prop_map(Shape::Slice),
            ty().prop_map(Shape::OrderedSet),
            ty().prop_map(Shape::Set),
            (ty(), ty()).prop_map(|(key, value)| Shape::Map(key, value)),
            (ty(), ty()).prop_map(|(key, value)| Shape::HashMap(key, value)),
            ty().prop_map(Shape::Option),
            ty().prop_map(Shape::Box),
            ("[a-z]{0,3}", any::<u32>()).prop_map(|(name, version)| Shape::Opaque(name, version)),
        ]
    }

    pub(super) fn description() -> impl Strategy<Value = Description> {
        let ty = (0u32..9, 0u32..9, shape()).prop_map(|(size, align, shape)| Type { size, align, shape });
        (any::<u8>(), proptest::collection::vec(ty, 5))
            .prop_map(|(archive_format, types)| Description::new(archive_format, types))
    }

    proptest! {
        #[test]
        fn descriptions_read_back_and_differ_from_others_only(a in description(), b in description()) {
            let bytes = a.to_bytes();
            prop_assert_eq!(&Description::from_bytes(&bytes).unwrap(), &a);
            prop_assert!(Description::from_bytes(&bytes[..bytes.len() - 1]).is_err());
            prop_assert_eq!(a.difference(&a), None);
            // A difference is found when there is one on the way from the root; text and queries never fail.
            if let Some(difference) = a.difference(&b) {
                prop_assert!(a != b && !difference.is_empty());
            }
            prop_assert!(!a.to_string().is_empty());
            let _ = (a.is_recursive(), a.is_unordered());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(description) = Description::from_bytes(&bytes) {
                prop_assert_eq!(Description::from_bytes(&description.to_bytes()).unwrap(), description);
            }
        }
    }
}
