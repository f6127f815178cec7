//! Several queries side by side.

use std::slice;

use super::{Access, Found, Place, Query, ReadQuery, Slots};
use crate::Result;
use crate::archetype::Shape;
use crate::entity::Entity;
use crate::schema::Schema;
use crate::tuples::for_tuples;
use crate::world::World;

/// Rows of several queries side by side.
#[doc(hidden)]
#[derive(Debug)]
pub struct Zipped<T>(T);

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Query),+> Query for ($($name,)+) {
            type Item<'a> = ($($name::Item<'a>,)+);
            type Slices<'a> = ($($name::Slices<'a>,)+);
            type Rows<'a> = Zipped<($($name::Rows<'a>,)+)>;
            const ACCESS: Access = Access::All(&[$($name::ACCESS),+]);

            fn register(world: &mut World) -> Result<()> {
                $($name::register(world)?;)+
                Ok(())
            }
            fn check(schema: &Schema) -> Result<()> {
                $($name::check(schema)?;)+
                Ok(())
            }
            #[inline]
            fn find(schema: &Schema, shape: &Shape, found: &mut Found) -> bool {
                true $(&& $name::find(schema, shape, found))+
            }
            #[inline]
            fn slices<'a>(
                found: &mut slice::Iter<'_, Place>,
                slots: &mut Slots<'a>,
                ids: &'a [Entity],
            ) -> Option<Self::Slices<'a>> {
                Some(($($name::slices(found, slots, ids)?,)+))
            }
            #[inline]
            fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a> {
                Zipped(($($name::rows(slices.$index),)+))
            }
            fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a> {
                ($($name::rest(rows.0.$index),)+)
            }
        }

        impl<$($name: ReadQuery),+> ReadQuery for ($($name,)+) {}

        impl<$($name: Iterator),+> Iterator for Zipped<($($name,)+)> {
            type Item = ($($name::Item,)+);

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                Some(($(self.0.$index.next()?,)+))
            }

            /// Straight to it, where each of the parts goes straight to it.
            #[inline]
            fn nth(&mut self, n: usize) -> Option<Self::Item> {
                Some(($(self.0.$index.nth(n)?,)+))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.0.size_hint()
            }
        }
    };
}

for_tuples!(tuple);
