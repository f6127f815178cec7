//! Descriptions of primitives and of the standard library's containers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::marker::PhantomData;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};
use std::time::Duration;

use super::{Describe, Primitive, Shape, Stored, TooDeep, Types, Visitor};
use crate::entity::Entity;
use crate::tuples::for_tuples;

/// In an archive, what a primitive or a container takes follows from the archive's format.
fn layout_of<T>(stored: Stored) -> (usize, usize) {
    match stored {
        Stored::Memory => (size_of::<T>(), align_of::<T>()),
        Stored::Archive => (0, 0),
    }
}

macro_rules! primitive {
    ($($ty:ty: $primitive:ident, |$value:ident| $bytes:expr;)*) => {$(
        impl Describe for $ty {
            fn shape(_: &mut Types) -> Shape {
                Shape::Primitive(Primitive::$primitive)
            }
            fn layout(stored: Stored) -> (usize, usize) {
                layout_of::<Self>(stored)
            }
            #[inline]
            fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep> {
                let $value = self;
                visitor.bytes(&$bytes);
                Ok(())
            }
        }
    )*};
}

primitive! {
    bool: Bool, |v| [u8::from(*v)];
    char: Char, |v| u32::from(*v).to_le_bytes();
    u8: U8, |v| v.to_le_bytes();
    u16: U16, |v| v.to_le_bytes();
    u32: U32, |v| v.to_le_bytes();
    u64: U64, |v| v.to_le_bytes();
    u128: U128, |v| v.to_le_bytes();
    i8: I8, |v| v.to_le_bytes();
    i16: I16, |v| v.to_le_bytes();
    i32: I32, |v| v.to_le_bytes();
    i64: I64, |v| v.to_le_bytes();
    i128: I128, |v| v.to_le_bytes();
    f32: F32, |v| v.to_le_bytes();
    f64: F64, |v| v.to_le_bytes();
    usize: Usize, |v| (*v as u64).to_le_bytes();
    isize: Isize, |v| (*v as i64).to_le_bytes();
    NonZeroU8: NonZeroU8, |v| v.get().to_le_bytes();
    NonZeroU16: NonZeroU16, |v| v.get().to_le_bytes();
    NonZeroU32: NonZeroU32, |v| v.get().to_le_bytes();
    NonZeroU64: NonZeroU64, |v| v.get().to_le_bytes();
    NonZeroU128: NonZeroU128, |v| v.get().to_le_bytes();
    NonZeroI8: NonZeroI8, |v| v.get().to_le_bytes();
    NonZeroI16: NonZeroI16, |v| v.get().to_le_bytes();
    NonZeroI32: NonZeroI32, |v| v.get().to_le_bytes();
    NonZeroI64: NonZeroI64, |v| v.get().to_le_bytes();
    NonZeroI128: NonZeroI128, |v| v.get().to_le_bytes();
    Entity: Entity, |v| v.to_bits().to_le_bytes();
    Duration: Duration, |v| v.as_nanos().to_le_bytes();
}

fn visit_text(text: &str, visitor: &mut Visitor) {
    visitor.count(text.len());
    visitor.bytes(text.as_bytes());
}

impl Describe for String {
    fn shape(_: &mut Types) -> Shape {
        Shape::Primitive(Primitive::String)
    }
    fn layout(stored: Stored) -> (usize, usize) {
        layout_of::<Self>(stored)
    }
    fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep> {
        visit_text(self, visitor);
        Ok(())
    }
}

impl Describe for Box<str> {
    fn shape(_: &mut Types) -> Shape {
        Shape::Primitive(Primitive::BoxStr)
    }
    fn layout(stored: Stored) -> (usize, usize) {
        layout_of::<Self>(stored)
    }
    fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep> {
        visit_text(self, visitor);
        Ok(())
    }
}

macro_rules! container {
    ([$($generics:tt)*] $ty:ty, $types:ident => $shape:expr, |$value:ident, $visitor:ident| $visit:expr) => {
        impl<$($generics)*> Describe for $ty {
            fn shape($types: &mut Types) -> Shape {
                $shape
            }
            fn layout(stored: Stored) -> (usize, usize) {
                layout_of::<Self>(stored)
            }
            fn visit(&self, $visitor: &mut Visitor) -> Result<(), TooDeep> {
                let $value = self;
                $visit
            }
        }
    };
}

/// Values one after the other, one level deeper.
fn visit_all<'a, T: Describe>(
    n: usize,
    mut values: impl Iterator<Item = &'a T>,
    visitor: &mut Visitor,
) -> Result<(), TooDeep> {
    visitor.count(n);
    visitor.nested(|visitor| values.try_for_each(|value| value.visit(visitor)))
}

container!([T: Describe] Vec<T>, types => Shape::Sequence(types.index_of::<T>()), |v, visitor| visit_all(v.len(), v.iter(), visitor));
container!([T: Describe] Box<[T]>, types => Shape::Slice(types.index_of::<T>()), |v, visitor| visit_all(v.len(), v.iter(), visitor));
container!([T: Describe] BTreeSet<T>, types => Shape::OrderedSet(types.index_of::<T>()), |v, visitor| visit_all(v.len(), v.iter(), visitor));
container!([T: Describe, const N: usize] [T; N], types => Shape::Array(types.index_of::<T>(), N as u64), |v, visitor| {
    visitor.nested(|visitor| v.iter().try_for_each(|value| value.visit(visitor)))
});
container!([T: Describe] Option<T>, types => Shape::Option(types.index_of::<T>()), |v, visitor| match v {
    Some(value) => {
        visitor.bytes(&[1]);
        visitor.nested(|visitor| value.visit(visitor))
    }
    None => {
        visitor.bytes(&[0]);
        Ok(())
    }
});
container!([T: Describe] Box<T>, types => Shape::Box(types.index_of::<T>()), |v, visitor| {
    visitor.nested(|visitor| (**v).visit(visitor))
});
container!([K: Describe, V: Describe] BTreeMap<K, V>, types => Shape::Map(types.index_of::<K>(), types.index_of::<V>()), |v, visitor| {
    visitor.count(v.len());
    visitor.nested(|visitor| {
        v.iter().try_for_each(|(key, value)| {
            key.visit(visitor)?;
            value.visit(visitor)
        })
    })
});
container!([K: Describe, V: Describe, S: 'static] HashMap<K, V, S>, types => Shape::HashMap(types.index_of::<K>(), types.index_of::<V>()), |v, visitor| {
    visitor.unordered(v.iter(), |(key, value), visitor| {
        key.visit(visitor)?;
        value.visit(visitor)
    })
});
container!([T: Describe, S: 'static] HashSet<T, S>, types => Shape::Set(types.index_of::<T>()), |v, visitor| {
    visitor.unordered(v.iter(), |value, visitor| value.visit(visitor))
});
container!([T: 'static] PhantomData<T>, _types => Shape::Struct(Vec::new()), |_v, _visitor| Ok(()));

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Describe),*> Describe for ($($name,)*) {
            #[allow(unused_variables, reason = "the empty tuple has no parts")]
            fn shape(types: &mut Types) -> Shape {
                Shape::Struct(vec![$(
                    types.field::<$name>(stringify!($index), std::mem::offset_of!(Self, $index)),
                )*])
            }
            fn layout(stored: Stored) -> (usize, usize) {
                layout_of::<Self>(stored)
            }
            #[allow(unused_variables, reason = "the empty tuple has no parts")]
            fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep> {
                $(self.$index.visit(visitor)?;)*
                Ok(())
            }
        }
    };
}

tuple!();
for_tuples!(tuple);
