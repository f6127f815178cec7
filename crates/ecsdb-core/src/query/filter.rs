//! Filters: terms that decide which entities match, and give nothing.

use std::iter::{RepeatN, repeat_n};
use std::marker::PhantomData;
use std::slice;

use super::term::{check_known, column_of};
use super::{Access, Found, Place, Query, ReadQuery, Slots};
use crate::archetype::Shape;
use crate::component::Component;
use crate::entity::Entity;
use crate::error::Result;
use crate::schema::Schema;
use crate::world::World;

/// A term that only decides which entities match.
pub trait Filter {
    #[doc(hidden)]
    fn matches(schema: &Schema, shape: &Shape) -> bool;
    #[doc(hidden)]
    fn register(world: &mut World) -> Result<()>;
    #[doc(hidden)]
    fn check(schema: &Schema) -> Result<()>;
}

/// Only entities that have `T`.
#[derive(Debug)]
pub struct With<T>(PhantomData<fn() -> T>);

/// Only entities that do not have `T`.
#[derive(Debug)]
pub struct Without<T>(PhantomData<fn() -> T>);

/// Only entities that match at least one of a tuple of filters: `Or<(With<A>, Without<B>)>`.
#[derive(Debug)]
pub struct Or<F>(PhantomData<fn() -> F>);

/// A filter is a query that gives nothing, as often as there are entities.
macro_rules! query {
    ([$($generics:tt)*] $filter:ty) => {
        impl<$($generics)*> Query for $filter {
            type Item<'a> = ();
            type Slices<'a> = usize;
            type Rows<'a> = RepeatN<()>;
            const ACCESS: Access = Access::None;

            fn register(world: &mut World) -> Result<()> {
                <Self as Filter>::register(world)
            }
            fn check(schema: &Schema) -> Result<()> {
                <Self as Filter>::check(schema)
            }
            fn find(schema: &Schema, shape: &Shape, _: &mut Found) -> bool {
                <Self as Filter>::matches(schema, shape)
            }
            fn slices<'a>(
                _: &mut slice::Iter<'_, Place>,
                _: &mut Slots<'a>,
                ids: &'a [Entity],
            ) -> Option<usize> {
                Some(ids.len())
            }
            fn rows<'a>(len: Self::Slices<'a>) -> Self::Rows<'a> {
                repeat_n((), len)
            }
            fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a> {
                rows.len()
            }
        }
        impl<$($generics)*> ReadQuery for $filter {}
    };
}

macro_rules! presence {
    ($filter:ident, $wanted:literal) => {
        impl<T: Component> Filter for $filter<T> {
            fn matches(schema: &Schema, shape: &Shape) -> bool {
                column_of::<T>(schema, shape).is_some() == $wanted
            }
            fn register(world: &mut World) -> Result<()> {
                world.register::<T>().map(drop)
            }
            fn check(schema: &Schema) -> Result<()> {
                check_known::<T>(schema)
            }
        }
        query!([T: Component] $filter<T>);
    };
}

presence!(With, true);
presence!(Without, false);

macro_rules! or {
    ($($name:ident),+) => {
        impl<$($name: Filter),+> Filter for Or<($($name,)+)> {
            fn matches(schema: &Schema, shape: &Shape) -> bool {
                false $(|| $name::matches(schema, shape))+
            }
            fn register(world: &mut World) -> Result<()> {
                $($name::register(world)?;)+
                Ok(())
            }
            fn check(schema: &Schema) -> Result<()> {
                $($name::check(schema)?;)+
                Ok(())
            }
        }
        query!([$($name: Filter),+] Or<($($name,)+)>);
    };
}

or!(A);
or!(A, B);
or!(A, B, C);
or!(A, B, C, D);
or!(A, B, C, D, E);
or!(A, B, C, D, E, F);
