//! Writing: the bytes that the Rust type would be stored as. In an archive what a value points to comes before it, in rkyv's order.

use super::layout::{Layout, TreeNode};
use super::{TREE_ENTRIES, Value, ValueError, Values};
use crate::describe::{Field, Primitive, Shape, TypeIndex};

pub(super) struct Write<'a> {
    values: &'a Values<'a>,
    out: Vec<u8>,
}

/// Where what a value points to lies.
enum Written {
    /// There is nothing.
    Inline,
    At(usize),
    Parts(Vec<Written>),
}

type Result<T> = std::result::Result<T, ValueError>;

fn mismatch<T>(expected: &'static str) -> Result<T> {
    Err(ValueError::Mismatch(expected))
}

/// Bytes of a string that need no room elsewhere.
const INLINE_TEXT: usize = 8;
/// What a pointer to nothing says: the place right behind its beginning.
const TO_NOTHING: i32 = 1;

impl<'a> Write<'a> {
    pub(super) fn new(values: &'a Values<'a>) -> Self {
        Write { values, out: Vec::new() }
    }

    pub(super) fn root(mut self, value: &Value) -> Result<Vec<u8>> {
        let root = TypeIndex(0);
        let written = match self.values.is_archive() {
            true => self.outside(root, value)?,
            false => Written::Inline,
        };
        self.place(root, value, &written)?;
        Ok(self.out)
    }

    /// The value itself, at the next place that fits it.
    fn place(&mut self, ty: TypeIndex, value: &Value, written: &Written) -> Result<usize> {
        let layout = self.values.layout(ty);
        let at = self.align(layout.align);
        let mut inside = vec![0; layout.size];
        self.inside(ty, value, written, &mut inside, at)?;
        self.out.extend(inside);
        Ok(at)
    }

    fn align(&mut self, align: usize) -> usize {
        self.out.resize(self.out.len().next_multiple_of(align.max(1)), 0);
        self.out.len()
    }

    /// Writes what the value points to.
    fn outside(&mut self, ty: TypeIndex, value: &Value) -> Result<Written> {
        let values = self.values;
        let shape = values.description.shape(ty).ok_or(ValueError::Layout)?;
        Ok(match (shape, value) {
            (Shape::Primitive(Primitive::String), Value::Text(text)) if text.len() > INLINE_TEXT => {
                self.bytes(text.as_bytes())
            }
            (Shape::Primitive(Primitive::BoxStr), Value::Text(text)) => self.bytes(text.as_bytes()),
            (Shape::Primitive(_), _) => Written::Inline,
            (Shape::Struct(fields), Value::Struct(parts)) => self.fields_outside(fields, parts)?,
            (Shape::Enum(variants), Value::Variant(place, parts)) => match variants.get(*place) {
                Some(variant) => self.fields_outside(&variant.fields, parts)?,
                None => return mismatch("variant of the enum"),
            },
            (Shape::Array(element, _), Value::List(list)) => {
                Written::Parts(list.iter().map(|part| self.outside(*element, part)).collect::<Result<_>>()?)
            }
            (Shape::Array(..), Value::Bytes(_)) => Written::Inline,
            (Shape::Sequence(_) | Shape::Slice(_), Value::Bytes(bytes)) => self.bytes(bytes),
            (Shape::Sequence(element) | Shape::Slice(element), Value::List(list)) => {
                let written: Vec<Written> =
                    list.iter().map(|part| self.outside(*element, part)).collect::<Result<_>>()?;
                let at = self.align(values.layout(*element).align);
                for (part, written) in list.iter().zip(&written) {
                    self.place(*element, part, written)?;
                }
                Written::At(at)
            }
            (Shape::Option(_), Value::None) => Written::Inline,
            (Shape::Option(inner), Value::Some(value)) => self.outside(*inner, value)?,
            (Shape::Box(inner), value) => {
                let written = self.outside(*inner, value)?;
                Written::At(self.place(*inner, value, &written)?)
            }
            (Shape::OrderedSet(element), Value::List(list)) => {
                let entries: Vec<(&Value, &Value)> = list.iter().map(|key| (key, &Value::None)).collect();
                self.tree(*element, None, entries)?
            }
            (Shape::Map(key, value), Value::Map(entries)) => {
                let entries: Vec<(&Value, &Value)> =
                    entries.iter().map(|(key, value)| (key, value)).collect();
                self.tree(*key, Some(*value), entries)?
            }
            (Shape::Set(_) | Shape::HashMap(..), _) => return Err(ValueError::Unordered),
            (Shape::Opaque(name, _), _) => return Err(ValueError::Opaque(name.clone())),
            (Shape::Struct(_), _) => return mismatch("struct with these fields"),
            (Shape::Enum(_), _) => return mismatch("variant of the enum"),
            (Shape::Map(..), _) => return mismatch("map"),
            (Shape::Option(_), _) => return mismatch("option"),
            _ => return mismatch("list"),
        })
    }

    fn bytes(&mut self, bytes: &[u8]) -> Written {
        let at = self.out.len();
        self.out.extend_from_slice(bytes);
        Written::At(at)
    }

    fn fields_outside(&mut self, fields: &[Field], parts: &[Value]) -> Result<Written> {
        if fields.len() != parts.len() {
            return mismatch("struct with these fields");
        }
        let each = fields.iter().zip(parts).map(|(field, part)| self.outside(field.ty, part));
        Ok(Written::Parts(each.collect::<Result<_>>()?))
    }

    /// Writes the value into its own bytes, which lie at `at`.
    fn inside(
        &self,
        ty: TypeIndex,
        value: &Value,
        written: &Written,
        out: &mut [u8],
        at: usize,
    ) -> Result<()> {
        let values = self.values;
        let shape = values.description.shape(ty).ok_or(ValueError::Layout)?;
        match (shape, value) {
            (Shape::Primitive(primitive), _) => self.primitive(*primitive, value, written, out, at),
            (Shape::Struct(fields), Value::Struct(parts)) => self.fields(fields, parts, written, 0, out, at),
            (Shape::Enum(variants), Value::Variant(place, parts)) => {
                let Some(variant) = variants.get(*place) else { return mismatch("variant of the enum") };
                let number = variant.number.to_le_bytes();
                let bytes = if values.is_archive() { 1 } else { out.len() };
                put(out, 0, number.get(..bytes).ok_or(ValueError::Layout)?)?;
                self.fields(&variant.fields, parts, written, 1, out, at)
            }
            (Shape::Array(_, len), Value::Bytes(bytes)) if *len == bytes.len() as u64 => put(out, 0, bytes),
            (Shape::Array(element, len), Value::List(list)) if *len == list.len() as u64 => {
                let size = values.layout(*element).size;
                for (i, part) in list.iter().enumerate() {
                    let slot = out.get_mut(i * size..(i + 1) * size).ok_or(ValueError::Layout)?;
                    self.inside(*element, part, written.part(i), slot, at + i * size)?;
                }
                Ok(())
            }
            (Shape::Array(..), _) => mismatch("list of this length"),
            (Shape::Sequence(_) | Shape::Slice(_), Value::Bytes(bytes)) => {
                self.long(out, at, written, bytes.len())
            }
            (Shape::Sequence(_) | Shape::Slice(_), Value::List(list)) => {
                self.long(out, at, written, list.len())
            }
            (Shape::Map(..), Value::Map(entries)) => self.long(out, at, written, entries.len()),
            (Shape::OrderedSet(_), Value::List(list)) => self.long(out, at, written, list.len()),
            (Shape::Box(_), _) => put_pointer(out, 0, at, written),
            (Shape::Option(_), Value::None) => Ok(()),
            (Shape::Option(inner), Value::Some(value)) => {
                let layout = values.layout(*inner);
                let before = if values.is_archive() { layout.align } else { 0 };
                if before > 0 {
                    put(out, 0, &[1])?;
                }
                let slot = out.get_mut(before..before + layout.size).ok_or(ValueError::Layout)?;
                self.inside(*inner, value, written, slot, at + before)
            }
            (Shape::Opaque(..), Value::Bytes(bytes)) if bytes.len() == out.len() => put(out, 0, bytes),
            (Shape::Opaque(..), _) => mismatch("hexadecimal text of this length"),
            (Shape::Struct(_), _) => mismatch("struct with these fields"),
            _ => mismatch("value of the type"),
        }
    }

    fn fields(
        &self,
        fields: &[Field],
        parts: &[Value],
        written: &Written,
        before: usize,
        out: &mut [u8],
        at: usize,
    ) -> Result<()> {
        if fields.len() != parts.len() {
            return mismatch("struct with these fields");
        }
        let mut all = Layout { size: before, align: 1 };
        for (i, (field, part)) in fields.iter().zip(parts).enumerate() {
            let layout = self.values.layout(field.ty);
            let place = all.push(layout);
            let place = if self.values.is_archive() { place } else { field.offset as usize };
            let slot = out.get_mut(place..place + layout.size).ok_or(ValueError::Layout)?;
            self.inside(field.ty, part, written.part(i), slot, at + place)?;
        }
        Ok(())
    }

    /// A pointer and a length.
    fn long(&self, out: &mut [u8], at: usize, written: &Written, len: usize) -> Result<()> {
        let len = u32::try_from(len).map_err(|_| ValueError::Mismatch("list that fits"))?;
        put_pointer(out, 0, at, written)?;
        put(out, 4, &len.to_le_bytes())
    }

    fn primitive(
        &self,
        primitive: Primitive,
        value: &Value,
        written: &Written,
        out: &mut [u8],
        at: usize,
    ) -> Result<()> {
        use Primitive::*;
        match (primitive, value) {
            (Bool, Value::Bool(value)) => put(out, 0, &[u8::from(*value)]),
            (Char, Value::Char(value)) => put(out, 0, &u32::from(*value).to_le_bytes()),
            (F32, Value::F32(value)) => put(out, 0, &value.to_le_bytes()),
            (F64, Value::F64(value)) => put(out, 0, &value.to_le_bytes()),
            (Entity, Value::Entity(value)) => put(out, 0, &value.to_bits().to_le_bytes()),
            (Duration, Value::Duration(value)) => {
                put(out, 0, &value.as_secs().to_le_bytes())?;
                put(out, 8, &value.subsec_nanos().to_le_bytes())
            }
            (String, Value::Text(text)) if text.len() <= INLINE_TEXT => {
                put(out, 0, &[0xff; INLINE_TEXT])?;
                put(out, 0, text.as_bytes())
            }
            (String, Value::Text(text)) => {
                let len = u32::try_from(text.len()).ok().filter(|len| len >> 30 == 0);
                let len = len.ok_or(ValueError::Mismatch("text that fits"))?;
                // Two bits, which begin no text in UTF-8, say that it lies elsewhere.
                let word = (len & 0x3f) | 0x80 | ((len & !0x3f) << 2);
                put(out, 0, &word.to_le_bytes())?;
                let Written::At(to) = written else { return Err(ValueError::Layout) };
                put(out, 4, &distance(at, *to)?.to_le_bytes())
            }
            (BoxStr, Value::Text(text)) => self.long(out, at, written, text.len()),
            (String | BoxStr, _) => mismatch("text"),
            (Bool, _) => mismatch("bool"),
            (Char, _) => mismatch("char"),
            (F32 | F64, _) => mismatch("number"),
            (Entity, _) => mismatch("entity id"),
            (Duration, _) => mismatch("duration"),
            (U8 | U16 | U32 | U64 | U128 | Usize, Value::Unsigned(value)) => put_number(out, *value, false),
            (NonZeroU8 | NonZeroU16 | NonZeroU32 | NonZeroU64 | NonZeroU128, Value::Unsigned(value))
                if *value != 0 =>
            {
                put_number(out, *value, false)
            }
            (I8 | I16 | I32 | I64 | I128 | Isize, Value::Signed(value)) => {
                put_number(out, *value as u128, true)
            }
            (NonZeroI8 | NonZeroI16 | NonZeroI32 | NonZeroI64 | NonZeroI128, Value::Signed(value))
                if *value != 0 =>
            {
                put_number(out, *value as u128, true)
            }
            _ => mismatch("integer of its range"),
        }
    }

    /// Writes the nodes of a tree with these entries, in order: filled from the left, the last level no further than the entries go.
    fn tree(
        &mut self,
        key: TypeIndex,
        value: Option<TypeIndex>,
        mut entries: Vec<(&Value, &Value)>,
    ) -> Result<Written> {
        // Whoever reads it as its Rust type makes a tree of them anew, and would drop what stands twice.
        self.values
            .description
            .order_keys(key, &mut entries, |(key, _)| *key)
            .map_err(|_| ValueError::Twice)?;
        let n = entries.len();
        if n == 0 {
            return Ok(Written::Inline);
        }
        let height = 1 + n.ilog(TREE_ENTRIES + 1);
        let last_level = n - ((TREE_ENTRIES + 1).pow(height - 1) - 1);
        let mut entries = entries.into_iter();
        let mut open: Vec<Vec<(&Value, &Value, Option<usize>)>> = vec![Vec::new(); height as usize - 1];
        let mut leaf: Vec<(&Value, &Value, Option<usize>)> = Vec::new();
        let (mut child, mut in_leaves) = (None, 0);
        while let Some((its, of)) = entries.next() {
            leaf.push((its, of, None));
            in_leaves += 1;
            if in_leaves != last_level && leaf.len() < TREE_ENTRIES {
                continue;
            }
            child = Some(self.node(key, value, &std::mem::take(&mut leaf), None, false)?);
            if in_leaves == last_level
                && let Some(mut inner) = open.pop()
            {
                // Beyond the last of the lowest leaves, the rest of the node has nothing between its keys.
                while inner.len() < TREE_ENTRIES
                    && let Some((its, of)) = entries.next()
                {
                    inner.push((its, of, child.take()));
                }
                child = Some(self.node(key, value, &inner, child, true)?);
            }
            let mut closed = 0;
            while let Some(last) = open.last_mut() {
                if last.len() == TREE_ENTRIES {
                    let inner = std::mem::take(last);
                    open.pop();
                    child = Some(self.node(key, value, &inner, child, true)?);
                    closed += 1;
                } else {
                    if let Some((its, of)) = entries.next() {
                        last.push((its, of, child.take()));
                    }
                    open.extend((0..closed).map(|_| Vec::new()));
                    break;
                }
            }
        }
        if !leaf.is_empty() {
            child = Some(self.node(key, value, &leaf, None, false)?);
        }
        while let Some(inner) = open.pop() {
            child = Some(self.node(key, value, &inner, child, true)?);
        }
        child.map(Written::At).ok_or(ValueError::Layout)
    }

    fn node(
        &mut self,
        key: TypeIndex,
        value: Option<TypeIndex>,
        entries: &[(&Value, &Value, Option<usize>)],
        greater: Option<usize>,
        is_inner: bool,
    ) -> Result<usize> {
        let mut written = Vec::with_capacity(entries.len());
        for (its, of, _) in entries {
            let key = self.outside(key, its)?;
            let value = value.map(|ty| self.outside(ty, of)).transpose()?;
            written.push((key, value.unwrap_or(Written::Inline)));
        }
        let key_layout = self.values.layout(key);
        let value_layout = value.map_or(Layout { size: 0, align: 1 }, |ty| self.values.layout(ty));
        let node = TreeNode::of(key_layout, value_layout);
        let layout = if is_inner { node.inner } else { node.leaf };
        let at = self.align(layout.align);
        let mut out = vec![0; layout.size];
        put(&mut out, 0, &[u8::from(is_inner)])?;
        if !is_inner {
            put(&mut out, node.rest, &(entries.len() as u32).to_le_bytes())?;
        }
        for (i, ((its, of, lesser), (key_written, value_written))) in entries.iter().zip(&written).enumerate()
        {
            let place = node.keys + i * key_layout.size;
            let slot = out.get_mut(place..place + key_layout.size).ok_or(ValueError::Layout)?;
            self.inside(key, its, key_written, slot, at + place)?;
            if let Some(ty) = value {
                let place = node.values + i * value_layout.size;
                let slot = out.get_mut(place..place + value_layout.size).ok_or(ValueError::Layout)?;
                self.inside(ty, of, value_written, slot, at + place)?;
            }
            if is_inner {
                let place = node.rest + 4 * i;
                put_pointer(&mut out, place, at + place, &Written::to(*lesser))?;
            }
        }
        if is_inner {
            let place = node.rest + 4 * TREE_ENTRIES;
            put_pointer(&mut out, place, at + place, &Written::to(greater))?;
        }
        self.out.extend(out);
        Ok(at)
    }
}

impl Written {
    fn part(&self, i: usize) -> &Written {
        match self {
            Written::Parts(parts) => parts.get(i).unwrap_or(&Written::Inline),
            _ => &Written::Inline,
        }
    }

    fn to(at: Option<usize>) -> Written {
        at.map_or(Written::Inline, Written::At)
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    match out.get_mut(at..at + bytes.len()) {
        Some(slot) => {
            slot.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(ValueError::Layout),
    }
}

fn distance(from: usize, to: usize) -> Result<i32> {
    i32::try_from(to as i64 - from as i64).map_err(|_| ValueError::Mismatch("value that fits"))
}

/// A relative pointer, at `place` of `out` and at `at` of everything.
fn put_pointer(out: &mut [u8], place: usize, at: usize, written: &Written) -> Result<()> {
    let offset = match written {
        Written::At(to) => distance(at, *to)?,
        _ => TO_NOTHING,
    };
    put(out, place, &offset.to_le_bytes())
}

/// A number in as many bytes as there are, if it fits.
fn put_number(out: &mut [u8], number: u128, signed: bool) -> Result<()> {
    let bytes = number.to_le_bytes();
    let Some((kept, cut)) = bytes.split_at_checked(out.len()) else { return Err(ValueError::Layout) };
    let negative = signed && kept.last().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    if cut.iter().any(|&byte| byte != fill) {
        return mismatch("integer of its range");
    }
    put(out, 0, kept)
}
