//! Reading. The bytes may be anything: each place is held against their end, depth and number of parts are bounded. No two parts share a byte, so that
//! what pointers lead to has no more bytes in all than there are.

use std::time::Duration;

use super::layout::{Layout, TreeNode};
use super::{LEVELS_MAX, TREE_ENTRIES, Value, ValueError, Values};
use crate::describe::{Field, Primitive, Shape, TypeIndex};
use crate::entity::Entity;

pub(super) struct Read<'a> {
    values: &'a Values<'a>,
    bytes: &'a [u8],
    /// Bytes that pointers may still lead to: those that lead to one place again and again come to an end by it.
    left: usize,
    /// Parts that may still be read: nothing else bounds those without bytes, nor those that a description puts at one place.
    parts: usize,
}

type Result<T> = std::result::Result<T, ValueError>;

/// Parts: for each byte, one within another or beside it without bytes, and in any case, as elements of lists of nothing.
const PARTS_PER_BYTE: usize = 16;
const PARTS_MAX: usize = 1 << 20;

fn malformed<T>(what: &'static str) -> Result<T> {
    Err(ValueError::Malformed(what))
}

impl<'a> Read<'a> {
    pub(super) fn new(values: &'a Values<'a>, bytes: &'a [u8]) -> Self {
        let parts = bytes.len().saturating_mul(PARTS_PER_BYTE).saturating_add(PARTS_MAX);
        Read { values, bytes, left: bytes.len(), parts }
    }

    pub(super) fn root(&mut self) -> Result<Value> {
        let size = self.values.layout(TypeIndex(0)).size;
        let at = match self.bytes.len().checked_sub(size) {
            Some(at) if self.values.is_archive() => at,
            Some(0) => 0,
            _ => return malformed("it has another length"),
        };
        self.value(TypeIndex(0), at, 0)
    }

    fn value(&mut self, ty: TypeIndex, at: usize, depth: usize) -> Result<Value> {
        if depth > LEVELS_MAX {
            return malformed("it is nested too deeply");
        }
        let values = self.values;
        self.parts = self.parts.checked_sub(1).ok_or(ValueError::Malformed("it has too many parts"))?;
        let Some(shape) = values.description.shape(ty) else { return Err(ValueError::Layout) };
        let depth = depth + 1;
        match shape {
            Shape::Primitive(primitive) => self.primitive(*primitive, at),
            Shape::Struct(fields) => Ok(Value::Struct(self.fields(fields, at, 0, depth)?)),
            Shape::Enum(variants) => {
                let size = values.layout(ty).size;
                let number = match values.is_archive() {
                    true => i64::from(self.take::<1>(at)?[0]),
                    false => self.integer(at, size)?,
                };
                let archive = values.is_archive();
                let found = variants.iter().position(|variant| {
                    let mask = if size >= 8 { u64::MAX } else { (1u64 << (8 * size)) - 1 };
                    let mask = if archive { 0xff } else { mask };
                    variant.number as u64 & mask == number as u64 & mask
                });
                let Some(place) = found else { return malformed("it is no variant of its enum") };
                Ok(Value::Variant(place, self.fields(&variants[place].fields, at, 1, depth)?))
            }
            Shape::Array(element, len) => self.list(*element, at, *len as usize, depth),
            Shape::Sequence(element) | Shape::Slice(element) => {
                let (to, len) = (self.pointer(at)?, self.u32(at + 4)? as usize);
                self.lead_to(values.layout(*element).size.saturating_mul(len))?;
                self.list(*element, to, len, depth)
            }
            Shape::OrderedSet(element) => {
                let entries = self.tree(*element, None, at, depth)?;
                Ok(Value::List(entries.into_iter().map(|(key, _)| key).collect()))
            }
            Shape::Map(key, value) => Ok(Value::Map(self.tree(*key, Some(*value), at, depth)?)),
            Shape::Set(element) => {
                let entries = self.table(*element, None, at, depth)?;
                Ok(Value::List(entries.into_iter().map(|(key, _)| key).collect()))
            }
            Shape::HashMap(key, value) => Ok(Value::Map(self.table(*key, Some(*value), at, depth)?)),
            Shape::Option(inner) => {
                let layout = values.layout(*inner);
                let inner_at = match values.is_archive() {
                    true => match self.take::<1>(at)?[0] {
                        0 => return Ok(Value::None),
                        1 => at + layout.align,
                        _ => return malformed("an option is neither there nor not"),
                    },
                    // In memory an option takes no room of its own: it is nothing where it is zero.
                    false if values.layout(ty).size == layout.size => {
                        if self.slice(at, layout.size)?.iter().all(|&byte| byte == 0) {
                            return Ok(Value::None);
                        }
                        at
                    }
                    false => return Err(ValueError::Layout),
                };
                Ok(Value::Some(Box::new(self.value(*inner, inner_at, depth)?)))
            }
            Shape::Box(inner) => {
                let to = self.pointer(at)?;
                self.lead_to(values.layout(*inner).size)?;
                self.value(*inner, to, depth)
            }
            Shape::Opaque(..) => Ok(Value::Bytes(self.slice(at, values.layout(ty).size)?.to_vec())),
        }
    }

    /// Fields of a struct, or of a variant, which in an archive has its number before them.
    fn fields(&mut self, fields: &[Field], at: usize, before: usize, depth: usize) -> Result<Vec<Value>> {
        let mut all = Layout { size: before, align: 1 };
        let archive = self.values.is_archive();
        let mut read = Vec::with_capacity(fields.len());
        for field in fields {
            let place = all.push(self.values.layout(field.ty));
            let place = if archive { place } else { field.offset as usize };
            read.push(self.value(field.ty, at + place, depth)?);
        }
        Ok(read)
    }

    fn list(&mut self, element: TypeIndex, at: usize, len: usize, depth: usize) -> Result<Value> {
        if self.values.description.shape(element) == Some(&Shape::Primitive(Primitive::U8)) {
            return Ok(Value::Bytes(self.slice(at, len)?.to_vec()));
        }
        let size = self.values.layout(element).size;
        self.slice(at, size.saturating_mul(len))?;
        // A loop, since each level that a value has is one on the stack: an iterator takes several times as much there in a debug build.
        let mut list = Vec::new();
        for i in 0..len {
            list.push(self.value(element, at + i * size, depth)?);
        }
        Ok(Value::List(list))
    }

    fn unit_or(&mut self, ty: Option<TypeIndex>, at: usize, depth: usize) -> Result<Value> {
        match ty {
            Some(ty) => self.value(ty, at, depth),
            None => Ok(Value::None),
        }
    }

    fn layout_or_unit(&self, ty: Option<TypeIndex>) -> Layout {
        ty.map_or(Layout { size: 0, align: 1 }, |ty| self.values.layout(ty))
    }

    /// The entries of an archived tree, in order.
    fn tree(
        &mut self,
        key: TypeIndex,
        value: Option<TypeIndex>,
        at: usize,
        depth: usize,
    ) -> Result<Vec<(Value, Value)>> {
        let len = self.u32(at + 4)? as usize;
        let mut entries = Vec::new();
        if len > 0 {
            let root = self.pointer(at)?;
            self.node(key, value, root, depth, &mut entries)?;
        }
        if entries.len() == len { Ok(entries) } else { malformed("a map has another length than it says") }
    }

    fn node(
        &mut self,
        key: TypeIndex,
        value: Option<TypeIndex>,
        at: usize,
        depth: usize,
        entries: &mut Vec<(Value, Value)>,
    ) -> Result<()> {
        if depth > LEVELS_MAX {
            return malformed("it is nested too deeply");
        }
        let (key_layout, value_layout) = (self.values.layout(key), self.layout_or_unit(value));
        let node = TreeNode::of(key_layout, value_layout);
        let is_inner = match self.take::<1>(at)?[0] {
            0 => false,
            1 => true,
            _ => return malformed("a node of a map is of no kind"),
        };
        self.lead_to(if is_inner { node.inner.size } else { node.leaf.size })?;
        let len = if is_inner { TREE_ENTRIES } else { self.u32(at + node.rest)? as usize };
        if len > TREE_ENTRIES {
            return malformed("a node of a map has too many entries");
        }
        for i in 0..len {
            if is_inner {
                self.child(key, value, at + node.rest + 4 * i, depth, entries)?;
            }
            let found = self.value(key, at + node.keys + i * key_layout.size, depth)?;
            let its = self.unit_or(value, at + node.values + i * value_layout.size, depth)?;
            entries.push((found, its));
        }
        if is_inner {
            self.child(key, value, at + node.rest + 4 * TREE_ENTRIES, depth, entries)?;
        }
        Ok(())
    }

    /// What lies between two keys of an inner node, if anything does: a pointer that says nothing points right behind its beginning.
    fn child(
        &mut self,
        key: TypeIndex,
        value: Option<TypeIndex>,
        pointer: usize,
        depth: usize,
        entries: &mut Vec<(Value, Value)>,
    ) -> Result<()> {
        if self.u32(pointer)? == 1 {
            return Ok(());
        }
        let to = self.pointer(pointer)?;
        self.node(key, value, to, depth + 1, entries)
    }

    /// The entries of an archived hash table, in the order in which they lie: backwards before the control bytes.
    fn table(
        &mut self,
        key: TypeIndex,
        value: Option<TypeIndex>,
        at: usize,
        depth: usize,
    ) -> Result<Vec<(Value, Value)>> {
        let (len, capacity) = (self.u32(at + 4)? as usize, self.u32(at + 8)? as usize);
        if len == 0 {
            return Ok(Vec::new());
        }
        let (key_layout, value_layout) = (self.values.layout(key), self.layout_or_unit(value));
        let mut entry = key_layout;
        let value_at = entry.push(value_layout);
        let entry = entry.padded();
        let controls = self.pointer(at)?;
        self.lead_to(entry.size.saturating_add(1).saturating_mul(capacity))?;
        let bytes = self.bytes;
        let full = self.slice(controls, capacity)?;
        let first = controls.checked_sub(entry.size.saturating_mul(capacity));
        if first.is_none_or(|first| first > bytes.len()) {
            return malformed("a hash table has no room for its entries");
        }
        let mut entries = Vec::new();
        for (i, control) in full.iter().enumerate() {
            // The top bit says that there is none.
            if control & 0x80 == 0 {
                let at = controls - (i + 1) * entry.size;
                let found = self.value(key, at, depth)?;
                entries.push((found, self.unit_or(value, at + value_at, depth)?));
            }
        }
        if entries.len() == len {
            Ok(entries)
        } else {
            malformed("a hash table has another length than it says")
        }
    }

    fn primitive(&mut self, primitive: Primitive, at: usize) -> Result<Value> {
        use Primitive::*;
        Ok(match primitive {
            Bool => match self.take::<1>(at)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return malformed("a bool is neither true nor false"),
            },
            Char => match char::from_u32(self.u32(at)?) {
                Some(char) => Value::Char(char),
                None => return malformed("a char is none"),
            },
            U8 | NonZeroU8 => Value::Unsigned(self.take::<1>(at)?[0].into()),
            U16 | NonZeroU16 => Value::Unsigned(u16::from_le_bytes(self.take(at)?).into()),
            U32 | NonZeroU32 => Value::Unsigned(self.u32(at)?.into()),
            U64 | NonZeroU64 => Value::Unsigned(u64::from_le_bytes(self.take(at)?).into()),
            U128 | NonZeroU128 => Value::Unsigned(u128::from_le_bytes(self.take(at)?)),
            Usize if self.values.is_archive() => Value::Unsigned(self.u32(at)?.into()),
            Usize => Value::Unsigned(u64::from_le_bytes(self.take(at)?).into()),
            I8 | NonZeroI8 => Value::Signed((self.take::<1>(at)?[0] as i8).into()),
            I16 | NonZeroI16 => Value::Signed(i16::from_le_bytes(self.take(at)?).into()),
            I32 | NonZeroI32 => Value::Signed(i32::from_le_bytes(self.take(at)?).into()),
            I64 | NonZeroI64 => Value::Signed(i64::from_le_bytes(self.take(at)?).into()),
            I128 | NonZeroI128 => Value::Signed(i128::from_le_bytes(self.take(at)?)),
            Isize if self.values.is_archive() => Value::Signed(i32::from_le_bytes(self.take(at)?).into()),
            Isize => Value::Signed(i64::from_le_bytes(self.take(at)?).into()),
            F32 => Value::F32(f32::from_le_bytes(self.take(at)?)),
            F64 => Value::F64(f64::from_le_bytes(self.take(at)?)),
            Entity => match self::Entity::from_bits(u64::from_le_bytes(self.take(at)?)) {
                Some(entity) => Value::Entity(entity),
                None => return malformed("an entity has generation 0"),
            },
            Duration => {
                let (seconds, nanos) = (u64::from_le_bytes(self.take(at)?), self.u32(at + 8)?);
                if nanos >= 1_000_000_000 {
                    return malformed("a duration has more nanoseconds than a second");
                }
                Value::Duration(self::Duration::new(seconds, nanos))
            }
            String => {
                let inline = self.take::<8>(at)?;
                if inline[0] & 0xc0 == 0x80 {
                    let word = self.u32(at)?;
                    let len = (word & 0x3f) | ((word & !0xff) >> 2);
                    let to = self.offset(at, self.u32(at + 4)?)?;
                    self.lead_to(len as usize)?;
                    return self.text(self.slice(to, len as usize)?);
                }
                let len = inline.iter().position(|&byte| byte == 0xff).unwrap_or(8);
                return self.text(&inline[..len]);
            }
            BoxStr => {
                let (to, len) = (self.pointer(at)?, self.u32(at + 4)? as usize);
                self.lead_to(len)?;
                return self.text(self.slice(to, len)?);
            }
        })
    }

    fn text(&self, bytes: &[u8]) -> Result<Value> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.into())),
            Err(_) => malformed("a string is not UTF-8"),
        }
    }

    /// A signed number of so many bytes.
    fn integer(&self, at: usize, bytes: usize) -> Result<i64> {
        let mut number = [0; 8];
        match number.get_mut(..bytes) {
            Some(part) => part.copy_from_slice(self.slice(at, bytes)?),
            None => return Err(ValueError::Layout),
        }
        Ok(i64::from_le_bytes(number))
    }

    fn u32(&self, at: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(at)?))
    }

    /// Where the relative pointer at `at` leads.
    fn pointer(&self, at: usize) -> Result<usize> {
        self.offset(at, self.u32(at)?)
    }

    fn offset(&self, from: usize, offset: u32) -> Result<usize> {
        match from.checked_add_signed(offset as i32 as isize) {
            Some(to) if to <= self.bytes.len() => Ok(to),
            _ => malformed("a pointer leads out of it"),
        }
    }

    /// Takes what a pointer leads to off the bytes that are left to be led to.
    fn lead_to(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(ValueError::Malformed("its parts share bytes"))?;
        Ok(())
    }

    fn take<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.slice(at, N)?);
        Ok(bytes)
    }

    fn slice(&self, at: usize, len: usize) -> Result<&'a [u8]> {
        match at.checked_add(len).and_then(|end| self.bytes.get(at..end)) {
            Some(bytes) => Ok(bytes),
            None => malformed("a part lies out of it"),
        }
    }
}
