//! Queries: which components, read or written, for every entity that has them.

mod access;
mod entity;
mod filter;
mod iter;
mod prepared;
mod term;
mod tuple;

use arrayvec::ArrayVec;

pub use access::{Access, Mode};
pub use entity::{EntityMut, EntityRef};
pub use filter::{Filter, Or, With, Without};
pub use iter::{Chunks, QueryIter};
pub(crate) use iter::{ReadWalk, Walk};
pub use prepared::Prepared;
pub use term::Has;

use crate::Result;
use crate::archetype::Shape;
use crate::entity::Entity;
use crate::raw::Block;
use crate::schema::Schema;
use crate::world::World;

/// What a query asks for: a term, or a tuple of up to twelve queries.
///
/// | term | gives | for entities that |
/// |---|---|---|
/// | `&T` | the value | have `T` |
/// | `&mut T` | the value, to be changed (in a transaction) | have `T` |
/// | `Option<&T>`, `Option<&mut T>` | the value, or `None` | – |
/// | [`Entity`] | the id | – |
/// | [`Has<T>`] | whether it has `T` | – |
/// | [`With<T>`] | `()` | have `T` |
/// | [`Without<T>`] | `()` | do not have `T` |
/// | [`Or<(A, B, …)>`](Or) | `()` | match any of these filters |
///
/// Asking for one component twice, once of it mutably, does not compile, however deep in nested tuples:
///
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "p", plain)]
/// # #[repr(C)]
/// # struct P(u32);
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "q", plain)]
/// # #[repr(C)]
/// # struct Q(u32);
/// World::new().begin().transaction().query::<((&Q, Option<&mut P>), &P)>();
/// ```
/// while this, which differs in one place, does:
/// ```
/// # use ecsdb_core::{Component, World};
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "p", plain)]
/// # #[repr(C)]
/// # struct P(u32);
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "q", plain)]
/// # #[repr(C)]
/// # struct Q(u32);
/// World::new().begin().transaction().query::<((&Q, Option<&P>), &P)>();
/// ```
pub trait Query {
    /// What each entity gives.
    type Item<'a>;
    /// What each chunk gives: slices of equal length.
    type Slices<'a>;
    #[doc(hidden)]
    type Rows<'a>: Iterator<Item = Self::Item<'a>>;
    #[doc(hidden)]
    const ACCESS: Access;
    #[doc(hidden)]
    const WRITES: bool = Self::ACCESS.writes();
    #[doc(hidden)]
    const VALID: () = Self::ACCESS.assert_valid();

    /// Makes the component types known.
    #[doc(hidden)]
    fn register(world: &mut World) -> Result<()>;
    /// Whether the component types are known as far as they are stored.
    #[doc(hidden)]
    fn check(schema: &Schema) -> Result<()>;
    /// Adds, for each term, where an archetype has it; false when it does not match.
    #[doc(hidden)]
    fn find(schema: &Schema, shape: &Shape, found: &mut Found) -> bool;
    /// Takes what the terms ask for out of a chunk, in the order in which they were found.
    #[doc(hidden)]
    fn slices<'a>(
        found: &mut std::slice::Iter<'_, Place>,
        slots: &mut Slots<'a>,
        ids: &'a [Entity],
    ) -> Option<Self::Slices<'a>>;
    #[doc(hidden)]
    fn rows<'a>(slices: Self::Slices<'a>) -> Self::Rows<'a>;
    /// What is left of rows that were given in part.
    #[doc(hidden)]
    fn rest<'a>(rows: Self::Rows<'a>) -> Self::Slices<'a>;
}

/// A query that writes nothing, and so may read a view.
pub trait ReadQuery: Query {}

/// Terms of a query at most, all nested tuples together.
const TERMS_MAX: usize = 24;

/// Where an archetype has each term of a query.
#[doc(hidden)]
pub(crate) type Found = ArrayVec<Place, TERMS_MAX>;

/// Where an archetype has what a term asks for.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This column, to be read.
    Read(usize),
    /// This column, to be written.
    Write(usize),
    /// Nowhere, for a term that does without.
    Absent,
    /// Nowhere, for a term that only asks whether it is there.
    Present,
}

/// The columns of a chunk that a query asks for.
#[doc(hidden)]
pub(crate) type Slots<'a> = ArrayVec<(usize, Slot<'a>), TERMS_MAX>;

/// A column of the chunk at hand.
#[doc(hidden)]
#[derive(Debug)]
pub enum Slot<'a> {
    Shared(&'a Block),
    Unique(&'a mut Block),
    Taken,
}

impl<'a> Slot<'a> {
    fn shared(slots: &mut Slots<'a>, column: usize) -> Option<&'a Block> {
        match &slots.iter().find(|(at, _)| *at == column)?.1 {
            Slot::Shared(block) => Some(block),
            Slot::Unique(_) | Slot::Taken => None,
        }
    }

    fn unique(slots: &mut Slots<'a>, column: usize) -> Option<&'a mut Block> {
        let (_, slot) = slots.iter_mut().find(|(at, _)| *at == column)?;
        match std::mem::replace(slot, Slot::Taken) {
            Slot::Unique(block) => Some(block),
            other => {
                *slot = other;
                None
            }
        }
    }
}
