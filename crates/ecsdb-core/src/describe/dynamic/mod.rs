//! Values without their Rust types: stored bytes read and written by the description alone. What a tool needs that works on any
//! database.

mod canonical;
mod layout;
mod order;
mod read;
mod write;

use std::time::Duration;

use super::{Description, TypeIndex};
use crate::entity::Entity;
use crate::limits;
use layout::Layout;

/// A value, whatever its type.
///
/// Which of these stands for which type: `U8` to `U128`, `Usize` and their non-zero kin are [`Value::Unsigned`]; `I8` to `I128`
/// and theirs [`Value::Signed`]; sequences, slices and arrays of `u8`, and opaque parts, [`Value::Bytes`]; other sequences,
/// slices, arrays and sets [`Value::List`]; a box is what is in it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "named as the types are")]
pub enum Value {
    Bool(bool),
    Char(char),
    Unsigned(u128),
    Signed(i128),
    F32(f32),
    F64(f64),
    Text(String),
    Bytes(Vec<u8>),
    Entity(Entity),
    Duration(Duration),
    /// An option without a value.
    None,
    /// An option with one.
    Some(Box<Value>),
    List(Vec<Value>),
    /// Keys and values.
    Map(Vec<(Value, Value)>),
    /// The fields of a struct or a tuple, in their order.
    Struct(Vec<Value>),
    /// The place of a variant among those of its enum, and its fields.
    Variant(usize, Vec<Value>),
}

/// A value that could not be read or written by its description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A part is not described, and nobody but its user knows where it ends.
    #[error("its part {0} is not described (opaque)")]
    Opaque(String),
    /// The archive is laid out as this program does not read it.
    #[error("its archive has a layout that this program does not read")]
    Layout,
    /// The bytes are no value of the type.
    #[error("the stored bytes are no value of the type: {0}")]
    Malformed(&'static str),
    /// The value is of another type than the one described.
    #[error("it is no {0}")]
    Mismatch(&'static str),
    /// A container without an order is written by its Rust type alone.
    #[error("a hash container is written by its Rust type alone")]
    Unordered,
    /// Two entries of a map have one key, or a set has one value twice.
    #[error("a key of a map, or a value of a set, stands twice")]
    Twice,
}

/// Reads and writes the values of one description, whose layout is worked out once.
///
/// ```
/// use ecsdb_core::{Component, describe::{Value, Values}};
///
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "game.hp", plain)]
/// #[repr(C)]
/// struct Hp { now: u32, max: u32 }
///
/// let values = Values::of(Hp::description())?;
/// let value = values.read(&[7, 0, 0, 0, 9, 0, 0, 0])?;
/// assert_eq!(value, Value::Struct(vec![Value::Unsigned(7), Value::Unsigned(9)]));
/// assert_eq!(values.write(&value)?, [7, 0, 0, 0, 9, 0, 0, 0]);
/// # Ok::<(), ecsdb_core::describe::ValueError>(())
/// ```
#[derive(Debug)]
pub struct Values<'d> {
    description: &'d Description,
    /// Of each type, in its stored form.
    layouts: Vec<Layout>,
}

/// Levels of parts of a [`Value`] that is read, of which structs and enums count here, too.
pub const LEVELS_MAX: usize = limits::VALUE_DEPTH_MAX * 4;
/// The archive format that is read: little-endian, aligned, offsets of 32 bits. What rkyv makes unless told otherwise.
const USUAL_ARCHIVE: u8 = 0x82;
/// Entries of a node of an archived tree.
const TREE_ENTRIES: usize = 5;

impl<'d> Values<'d> {
    /// Works out where the parts of values of this description lie. O(types).
    ///
    /// # Errors
    /// [`ValueError::Layout`] or [`ValueError::Opaque`] when that cannot be told.
    pub fn of(description: &'d Description) -> Result<Values<'d>, ValueError> {
        let layouts = layout::layouts(description)?;
        Ok(Values { description, layouts })
    }

    /// Reads a stored value. O(bytes); any bytes end in a value or an error.
    ///
    /// # Errors
    /// When the bytes are no value of the description.
    pub fn read(&self, stored: &[u8]) -> Result<Value, ValueError> {
        read::Read::new(self, stored).root()
    }

    /// The stored form of a value: for an archived component the bytes that rkyv makes of it. Keys of trees are put in
    /// [order](Description::order_keys).
    ///
    /// # Errors
    /// When the value is of another type, has a key twice, or has a hash container or an opaque part in an archive.
    pub fn write(&self, value: &Value) -> Result<Vec<u8>, ValueError> {
        write::Write::new(self).root(value)
    }

    /// Appends the form that equal values share, whatever the order in their containers: what digests use.
    ///
    /// # Errors
    /// As [`Values::read`], or when an archive has an opaque part.
    pub fn canonical(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.put_canonical(TypeIndex(0), &self.read(stored)?, out)
    }

    fn is_archive(&self) -> bool {
        self.description.archive_format != 0
    }

    fn layout(&self, ty: TypeIndex) -> Layout {
        self.layouts.get(ty.0 as usize).copied().unwrap_or_default()
    }
}
