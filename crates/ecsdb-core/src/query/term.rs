//! The terms of a query, and how each takes its slice out of a chunk.

use std::iter::{RepeatN, repeat_n};
use std::marker::PhantomData;
use std::slice;

use super::{Access, Found, Mode, Place, Query, ReadQuery, Slot, Slots};
use crate::archetype::Shape;
use crate::component::Component;
use crate::entity::Entity;
use crate::error::Result;
use crate::schema::Schema;
use crate::world::World;

pub(super) fn column_of<T: Component>(schema: &Schema, shape: &Shape) -> Option<usize> {
    shape.column_of(schema.id_of::<T>()?)
}

/// A stored component whose Rust type the schema does not know cannot be read as one.
pub(super) fn check_known<T: Component>(schema: &Schema) -> Result<()> {
    match schema.id_of::<T>() {
        None => schema.not_registered::<T>().map_or(Ok(()), Err),
        Some(_) => Ok(()),
    }
}

macro_rules! of_component {
    () => {
        fn register(world: &mut World) -> Result<()> {
            world.register::<T>().map(drop)
        }

        fn check(schema: &Schema) -> Result<()> {
            check_known::<T>(schema)
        }
    };
}

impl<T: Component> Query for &T {
    type Item<'a> = &'a T;
    type Slices<'a> = &'a [T];
    type Rows<'a> = slice::Iter<'a, T>;
    const ACCESS: Access = Access::One(T::NAME, Mode::Read);
    of_component!();

    #[inline]
    fn find(schema: &Schema, shape: &Shape, found: &mut Found) -> bool {
        column_of::<T>(schema, shape).is_some_and(|column| found.try_push(Place::Read(column)).is_ok())
    }

    #[inline]
    fn slices<'a>(
        found: &mut slice::Iter<'_, Place>,
        slots: &mut Slots<'a>,
        _: &'a [Entity],
    ) -> Option<&'a [T]> {
        let Some(Place::Read(column)) = found.next() else { return None };
        Slot::shared(slots, *column)?.slice()
    }

    #[inline]
    fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a> {
        slices.iter()
    }

    fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a> {
        rows.as_slice()
    }
}

impl<T: Component> Query for &mut T {
    type Item<'a> = &'a mut T;
    type Slices<'a> = &'a mut [T];
    type Rows<'a> = slice::IterMut<'a, T>;
    const ACCESS: Access = Access::One(T::NAME, Mode::Write);
    of_component!();

    #[inline]
    fn find(schema: &Schema, shape: &Shape, found: &mut Found) -> bool {
        column_of::<T>(schema, shape).is_some_and(|column| found.try_push(Place::Write(column)).is_ok())
    }

    #[inline]
    fn slices<'a>(
        found: &mut slice::Iter<'_, Place>,
        slots: &mut Slots<'a>,
        _: &'a [Entity],
    ) -> Option<&'a mut [T]> {
        let Some(Place::Write(column)) = found.next() else { return None };
        Slot::unique(slots, *column)?.slice_mut()
    }

    #[inline]
    fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a> {
        slices.iter_mut()
    }

    fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a> {
        rows.into_slice()
    }
}

/// An optional term gives its rows or as many times nothing.
#[doc(hidden)]
#[derive(Debug)]
pub struct OptionRows<I> {
    values: Option<I>,
    len: usize,
}

impl<I: Iterator> Iterator for OptionRows<I> {
    type Item = Option<I::Item>;

    #[inline]
    fn next(&mut self) -> Option<Option<I::Item>> {
        self.len = self.len.checked_sub(1)?;
        Some(self.values.as_mut().and_then(Iterator::next))
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Option<I::Item>> {
        self.len = self.len.saturating_sub(n);
        self.len = self.len.checked_sub(1)?;
        Some(self.values.as_mut().and_then(|values| values.nth(n)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

macro_rules! optional {
    ($term:ty) => {
        impl<'t, T: Component> Query for Option<$term> {
            type Item<'a> = Option<<$term as Query>::Item<'a>>;
            type Slices<'a> = (Option<<$term as Query>::Slices<'a>>, usize);
            type Rows<'a> = OptionRows<<$term as Query>::Rows<'a>>;
            const ACCESS: Access = <$term as Query>::ACCESS;
            of_component!();

            fn find(schema: &Schema, shape: &Shape, found: &mut Found) -> bool {
                <$term as Query>::find(schema, shape, found) || found.try_push(Place::Absent).is_ok()
            }

            #[inline]
            fn slices<'a>(
                found: &mut slice::Iter<'_, Place>,
                slots: &mut Slots<'a>,
                ids: &'a [Entity],
            ) -> Option<Self::Slices<'a>> {
                if found.as_slice().first() == Some(&Place::Absent) {
                    found.next();
                    return Some((None, ids.len()));
                }
                Some((Some(<$term as Query>::slices(found, slots, ids)?), ids.len()))
            }

            fn rows<'a>((values, len): Self::Slices<'a>) -> Self::Rows<'a> {
                OptionRows { values: values.map(<$term as Query>::rows), len }
            }

            fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a> {
                (rows.values.map(<$term as Query>::rest), rows.len)
            }
        }
    };
}

optional!(&'t T);
optional!(&'t mut T);

impl Query for Entity {
    type Item<'a> = Entity;
    type Slices<'a> = &'a [Entity];
    type Rows<'a> = Ids<'a>;
    const ACCESS: Access = Access::None;

    fn register(_: &mut World) -> Result<()> {
        Ok(())
    }

    fn check(_: &Schema) -> Result<()> {
        Ok(())
    }

    fn find(_: &Schema, _: &Shape, _: &mut Found) -> bool {
        true
    }

    #[inline]
    fn slices<'a>(
        _: &mut slice::Iter<'_, Place>,
        _: &mut Slots<'a>,
        ids: &'a [Entity],
    ) -> Option<&'a [Entity]> {
        Some(ids)
    }

    #[inline]
    fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a> {
        Ids(slices.iter())
    }

    fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a> {
        rows.0.as_slice()
    }
}

/// The ids of rows.
#[doc(hidden)]
#[derive(Debug)]
pub struct Ids<'a>(slice::Iter<'a, Entity>);

impl Iterator for Ids<'_> {
    type Item = Entity;

    #[inline]
    fn next(&mut self) -> Option<Entity> {
        self.0.next().copied()
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Entity> {
        self.0.nth(n).copied()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// Whether an entity has `T`.
#[derive(Debug)]
pub struct Has<T>(PhantomData<fn() -> T>);

impl<T: Component> Query for Has<T> {
    type Item<'a> = bool;
    type Slices<'a> = (bool, usize);
    type Rows<'a> = RepeatN<bool>;
    const ACCESS: Access = Access::None;
    of_component!();

    fn find(schema: &Schema, shape: &Shape, found: &mut Found) -> bool {
        let has = column_of::<T>(schema, shape).is_some();
        found.try_push(if has { Place::Present } else { Place::Absent }).is_ok()
    }

    fn slices<'a>(
        found: &mut slice::Iter<'_, Place>,
        _: &mut Slots<'a>,
        ids: &'a [Entity],
    ) -> Option<(bool, usize)> {
        Some((found.next() == Some(&Place::Present), ids.len()))
    }

    fn rows<'a>((has, len): Self::Slices<'a>) -> Self::Rows<'a> {
        repeat_n(has, len)
    }

    fn rest<'a>(mut rows: Self::Rows<'a>) -> Self::Slices<'a> {
        let len = rows.len();
        (rows.next().unwrap_or(false), len)
    }
}

impl<T: Component> ReadQuery for &T {}
impl<T: Component> ReadQuery for Option<&T> {}
impl<T: Component> ReadQuery for Has<T> {}
impl ReadQuery for Entity {}
