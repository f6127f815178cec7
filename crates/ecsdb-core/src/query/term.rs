//! The terms of a query, and how each takes its slice out of a chunk.

use std::iter::{Copied, RepeatN, repeat_n};
use std::marker::PhantomData;
use std::slice;

use crate::archetype::Shape;
use crate::component::Component;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::raw::Block;
use crate::schema::Schema;
use crate::world::World;

/// What a term does with a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
    /// Asks only whether it is there.
    Filter,
}

/// What a term does, and with which component.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The stable name; empty for [`Entity`].
    pub component: &'static str,
    /// What is done.
    pub mode: Mode,
}

/// A part of a [`Query`](crate::Query); see there for the terms there are.
pub trait Term {
    /// What each entity gives.
    type Item<'a>;
    /// What each chunk gives.
    type Slice<'a>;
    #[doc(hidden)]
    type Rows<'a>: Iterator<Item = Self::Item<'a>>;
    #[doc(hidden)]
    const ACCESS: Access;

    #[doc(hidden)]
    fn register(world: &mut World) -> Result<()>;
    #[doc(hidden)]
    fn check(schema: &Schema) -> Result<()>;
    #[doc(hidden)]
    fn find(schema: &Schema, shape: &Shape) -> Option<Found>;
    #[doc(hidden)]
    fn slice<'a>(found: Found, slots: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<Self::Slice<'a>>;
    #[doc(hidden)]
    fn rows<'a>(slice: Self::Slice<'a>) -> Self::Rows<'a>;
}

/// A term that writes nothing.
pub trait ReadTerm: Term {}

/// Where a matching archetype has what a term asks for.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum Found {
    Column(usize),
    Nothing,
}

/// A column of the chunk at hand.
#[doc(hidden)]
#[derive(Debug)]
pub enum Slot<'a> {
    Shared(&'a Block),
    Unique(&'a mut Block),
    Taken,
}

impl<'a> Slot<'a> {
    fn shared(&mut self) -> Option<&'a Block> {
        match std::mem::replace(self, Slot::Taken) {
            Slot::Shared(block) => {
                *self = Slot::Shared(block);
                Some(block)
            }
            Slot::Unique(block) => {
                let block: &'a Block = block;
                *self = Slot::Shared(block);
                Some(block)
            }
            Slot::Taken => None,
        }
    }

    fn unique(&mut self) -> Option<&'a mut Block> {
        match std::mem::replace(self, Slot::Taken) {
            Slot::Unique(block) => Some(block),
            other => {
                *self = other;
                None
            }
        }
    }
}

fn column_of<T: Component>(schema: &Schema, shape: &Shape) -> Option<usize> {
    shape.column_of(schema.id_of::<T>()?)
}

/// A stored component whose Rust type the schema does not know cannot be read as one.
fn check_known<T: Component>(schema: &Schema) -> Result<()> {
    if schema.id_of::<T>().is_none() && schema.named(T::NAME).is_some() {
        return Err(Error::NotRegistered(T::NAME));
    }
    Ok(())
}

macro_rules! component_term {
    ($mode:ident) => {
        const ACCESS: Access = Access { component: T::NAME, mode: Mode::$mode };

        fn register(world: &mut World) -> Result<()> {
            world.register::<T>().map(drop)
        }

        fn check(schema: &Schema) -> Result<()> {
            check_known::<T>(schema)
        }
    };
}

impl<T: Component> Term for &T {
    type Item<'a> = &'a T;
    type Slice<'a> = &'a [T];
    type Rows<'a> = slice::Iter<'a, T>;
    component_term!(Read);

    fn find(schema: &Schema, shape: &Shape) -> Option<Found> {
        column_of::<T>(schema, shape).map(Found::Column)
    }

    #[inline]
    fn slice<'a>(found: Found, slots: &mut [Slot<'a>], _: &'a [Entity]) -> Option<&'a [T]> {
        let Found::Column(column) = found else { return None };
        slots.get_mut(column)?.shared()?.slice()
    }

    #[inline]
    fn rows<'a>(slice: Self::Slice<'a>) -> Self::Rows<'a> {
        slice.iter()
    }
}

impl<T: Component> Term for &mut T {
    type Item<'a> = &'a mut T;
    type Slice<'a> = &'a mut [T];
    type Rows<'a> = slice::IterMut<'a, T>;
    component_term!(Write);

    fn find(schema: &Schema, shape: &Shape) -> Option<Found> {
        column_of::<T>(schema, shape).map(Found::Column)
    }

    #[inline]
    fn slice<'a>(found: Found, slots: &mut [Slot<'a>], _: &'a [Entity]) -> Option<&'a mut [T]> {
        let Found::Column(column) = found else { return None };
        slots.get_mut(column)?.unique()?.slice_mut()
    }

    #[inline]
    fn rows<'a>(slice: Self::Slice<'a>) -> Self::Rows<'a> {
        slice.iter_mut()
    }
}

impl<T: Component> Term for Option<&T> {
    type Item<'a> = Option<&'a T>;
    type Slice<'a> = (Option<&'a [T]>, usize);
    type Rows<'a> = OptionRows<'a, T>;
    component_term!(Read);

    fn find(schema: &Schema, shape: &Shape) -> Option<Found> {
        Some(column_of::<T>(schema, shape).map_or(Found::Nothing, Found::Column))
    }

    #[inline]
    fn slice<'a>(found: Found, slots: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<Self::Slice<'a>> {
        match found {
            Found::Column(column) => Some((Some(slots.get_mut(column)?.shared()?.slice()?), ids.len())),
            Found::Nothing => Some((None, ids.len())),
        }
    }

    fn rows<'a>((values, len): Self::Slice<'a>) -> Self::Rows<'a> {
        OptionRows { values: values.map(|values| values.iter()), len }
    }
}

/// Rows of `Option<&T>`.
#[doc(hidden)]
#[derive(Debug)]
pub struct OptionRows<'a, T> {
    values: Option<slice::Iter<'a, T>>,
    len: usize,
}

impl<'a, T> Iterator for OptionRows<'a, T> {
    type Item = Option<&'a T>;

    #[inline]
    fn next(&mut self) -> Option<Option<&'a T>> {
        self.len = self.len.checked_sub(1)?;
        Some(self.values.as_mut().and_then(Iterator::next))
    }
}

impl Term for Entity {
    type Item<'a> = Entity;
    type Slice<'a> = &'a [Entity];
    type Rows<'a> = Copied<slice::Iter<'a, Entity>>;
    const ACCESS: Access = Access { component: "", mode: Mode::Filter };

    fn register(_: &mut World) -> Result<()> {
        Ok(())
    }

    fn check(_: &Schema) -> Result<()> {
        Ok(())
    }

    fn find(_: &Schema, _: &Shape) -> Option<Found> {
        Some(Found::Nothing)
    }

    #[inline]
    fn slice<'a>(_: Found, _: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<&'a [Entity]> {
        Some(ids)
    }

    #[inline]
    fn rows<'a>(slice: Self::Slice<'a>) -> Self::Rows<'a> {
        slice.iter().copied()
    }
}

/// Only entities that have `T`; gives `()`.
#[derive(Debug)]
pub struct With<T>(PhantomData<fn() -> T>);

/// Only entities that do not have `T`; gives `()`.
#[derive(Debug)]
pub struct Without<T>(PhantomData<fn() -> T>);

macro_rules! filter {
    ($filter:ident, $wanted:literal) => {
        impl<T: Component> Term for $filter<T> {
            type Item<'a> = ();
            type Slice<'a> = usize;
            type Rows<'a> = RepeatN<()>;
            component_term!(Filter);

            fn find(schema: &Schema, shape: &Shape) -> Option<Found> {
                (column_of::<T>(schema, shape).is_some() == $wanted).then_some(Found::Nothing)
            }

            fn slice<'a>(_: Found, _: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<usize> {
                Some(ids.len())
            }

            fn rows<'a>(len: usize) -> Self::Rows<'a> {
                repeat_n((), len)
            }
        }

        impl<T: Component> ReadTerm for $filter<T> {}
    };
}

filter!(With, true);
filter!(Without, false);

impl<T: Component> ReadTerm for &T {}
impl<T: Component> ReadTerm for Option<&T> {}
impl ReadTerm for Entity {}
