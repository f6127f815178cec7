//! Queries: which components, read or written, for every entity that has them.

mod iter;
mod term;

pub(crate) use iter::Walk;
pub use iter::{Chunks, QueryIter};
pub use term::{Access, Mode, Term, With, Without};

use crate::Result;
use crate::archetype::Shape;
use crate::entity::Entity;
use crate::query::term::{Found, Slot};
use crate::schema::Schema;
use crate::world::World;

/// What a query asks for: a [`Term`], or a tuple of up to eight.
///
/// | term | gives | for entities that |
/// |---|---|---|
/// | `&T` | the value | have `T` |
/// | `&mut T` | the value, to be changed (in a transaction) | have `T` |
/// | `Option<&T>` | the value, or `None` | – |
/// | [`Entity`] | the id | – |
/// | [`With<T>`] | `()` | have `T` |
/// | [`Without<T>`] | `()` | do not have `T` |
///
/// Asking for one component twice, once of it mutably, does not compile.
pub trait Query {
    /// What each entity gives.
    type Item<'a>;
    /// What each chunk gives: slices of equal length.
    type Slices<'a>;
    #[doc(hidden)]
    type Rows<'a>: Iterator<Item = Self::Item<'a>>;
    #[doc(hidden)]
    const ACCESS: &'static [Access];
    #[doc(hidden)]
    const WRITES: bool = writes(Self::ACCESS);
    #[doc(hidden)]
    const VALID: () = assert_valid(Self::ACCESS);

    #[doc(hidden)]
    fn register(world: &mut World) -> Result<()>;
    #[doc(hidden)]
    fn check(schema: &Schema) -> Result<()>;
    #[doc(hidden)]
    fn find(schema: &Schema, shape: &Shape, found: &mut Vec<Found>) -> bool;
    #[doc(hidden)]
    fn slices<'a>(found: &[Found], slots: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<Self::Slices<'a>>;
    #[doc(hidden)]
    fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a>;
}

/// A query that writes nothing, and so may read a view.
pub trait ReadQuery: Query {}

const fn writes(access: &[Access]) -> bool {
    let mut i = 0;
    while i < access.len() {
        if matches!(access[i].mode, Mode::Write) {
            return true;
        }
        i += 1;
    }
    false
}

const fn assert_valid(access: &[Access]) {
    let mut i = 0;
    while i < access.len() {
        let mut j = 0;
        while j < access.len() {
            let both_data =
                !matches!(access[i].mode, Mode::Filter) && !matches!(access[j].mode, Mode::Filter);
            if i != j && both_data && matches!(access[i].mode, Mode::Write) {
                assert!(
                    !same(access[i].component, access[j].component),
                    "a query asks for one component twice, and at least once mutably"
                );
            }
            j += 1;
        }
        i += 1;
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

macro_rules! single {
    ([$($generics:tt)*] $term:ty) => {
        impl<$($generics)*> Query for $term {
            type Item<'a> = <$term as Term>::Item<'a>;
            type Slices<'a> = <$term as Term>::Slice<'a>;
            type Rows<'a> = <$term as Term>::Rows<'a>;
            const ACCESS: &'static [Access] = &[<$term as Term>::ACCESS];

            fn register(world: &mut World) -> Result<()> {
                <$term as Term>::register(world)
            }
            fn check(schema: &Schema) -> Result<()> {
                <$term as Term>::check(schema)
            }
            fn find(schema: &Schema, shape: &Shape, found: &mut Vec<Found>) -> bool {
                <$term as Term>::find(schema, shape).map(|f| found.push(f)).is_some()
            }
            fn slices<'a>(found: &[Found], slots: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<Self::Slices<'a>> {
                <$term as Term>::slice(*found.first()?, slots, ids)
            }
            fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a> {
                <$term as Term>::rows(slices)
            }
        }
    };
}

single!(['t, T: crate::Component] &'t T);
single!(['t, T: crate::Component] &'t mut T);
single!(['t, T: crate::Component] Option<&'t T>);
single!([] Entity);

impl<T: crate::Component> ReadQuery for &T {}
impl<T: crate::Component> ReadQuery for Option<&T> {}
impl ReadQuery for Entity {}

/// Rows of several terms side by side.
#[doc(hidden)]
#[derive(Debug)]
pub struct Zipped<T>(T);

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Term),+> Query for ($($name,)+) {
            type Item<'a> = ($($name::Item<'a>,)+);
            type Slices<'a> = ($($name::Slice<'a>,)+);
            type Rows<'a> = Zipped<($($name::Rows<'a>,)+)>;
            const ACCESS: &'static [Access] = &[$($name::ACCESS),+];

            fn register(world: &mut World) -> Result<()> {
                $($name::register(world)?;)+
                Ok(())
            }
            fn check(schema: &Schema) -> Result<()> {
                $($name::check(schema)?;)+
                Ok(())
            }
            fn find(schema: &Schema, shape: &Shape, found: &mut Vec<Found>) -> bool {
                $(match $name::find(schema, shape) {
                    Some(f) => found.push(f),
                    None => return false,
                })+
                true
            }
            fn slices<'a>(found: &[Found], slots: &mut [Slot<'a>], ids: &'a [Entity]) -> Option<Self::Slices<'a>> {
                Some(($($name::slice(*found.get($index)?, slots, ids)?,)+))
            }
            #[inline]
            fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a> {
                Zipped(($($name::rows(slices.$index),)+))
            }
        }

        impl<$($name: Term + ReadTerm),+> ReadQuery for ($($name,)+) {}

        impl<$($name: Iterator),+> Iterator for Zipped<($($name,)+)> {
            type Item = ($($name::Item,)+);

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                Some(($(self.0.$index.next()?,)+))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.0.size_hint()
            }
        }
    };
}

use term::ReadTerm;

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
