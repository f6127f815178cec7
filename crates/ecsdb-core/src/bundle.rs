//! Bundles: several components given at once.

use crate::archetype::Chunk;
use crate::component::{Component, ComponentType};
use crate::entity::Entity;
use crate::error::Result;
use crate::raw::{Arena, At, Room};
use crate::root::Root;
use crate::schema::ComponentId;
use crate::tuples::for_tuples;

/// Components to spawn or insert together: a component, a tuple of bundles (up to 12), or a struct with
/// `#[derive(Bundle)]`.
pub trait Bundle: Sized + 'static {
    /// What an entity had of these components: `Option<C>` for a component, a tuple of that for several.
    type Removed;

    /// Names the component types, in the order in which [`Bundle::put`] gives the values.
    #[doc(hidden)]
    fn types(sink: &mut BundleTypes<'_>);

    /// Hands the values over.
    #[doc(hidden)]
    fn put(self, sink: &mut BundleSink<'_>);

    /// Copies of the values that the entity has.
    #[doc(hidden)]
    fn copy(source: &BundleSource<'_>) -> Result<Self::Removed>;

    /// Copies of all values, if the entity has all.
    #[doc(hidden)]
    fn take(source: &BundleSource<'_>) -> Result<Self>;
}

#[doc(hidden)]
pub struct BundleTypes<'a>(pub(crate) &'a mut dyn FnMut(ComponentType));

/// Puts each value into its column: at the end, or in the place of the one that the row has.
#[doc(hidden)]
pub struct BundleSink<'a> {
    pub(crate) chunk: &'a mut Chunk,
    pub(crate) row: usize,
    /// In the bundle's order: the column, and whether the row has no value in it yet.
    pub(crate) columns: std::slice::Iter<'a, (usize, bool)>,
    pub(crate) lsn: u64,
    pub(crate) rows_max: usize,
    pub(crate) arena: &'a mut Arena,
    /// For the values that are replaced.
    pub(crate) room: Room,
    /// Where the values that were replaced are.
    pub(crate) places: &'a mut Vec<At>,
}

/// The entity that values are copied from.
#[doc(hidden)]
pub struct BundleSource<'a> {
    pub(crate) root: &'a Root,
    pub(crate) entity: Entity,
}

impl<C: Component> Bundle for C {
    type Removed = Option<C>;

    fn types(sink: &mut BundleTypes<'_>) {
        (sink.0)(ComponentType::of::<C>());
    }

    #[inline]
    fn put(self, sink: &mut BundleSink<'_>) {
        let Some(&(column, fresh)) = sink.columns.next() else { return };
        let block = sink.chunk.columns[column].write(sink.lsn);
        if fresh {
            block.push(self, sink.rows_max);
        } else {
            sink.places.push(block.replace(sink.row, self, sink.arena, sink.room));
        }
    }

    fn copy(source: &BundleSource<'_>) -> Result<Option<C>> {
        match source.root.get::<C>(source.entity) {
            Ok(value) => Ok(Some(value.clone())),
            Err(crate::Error::MissingComponent { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn take(source: &BundleSource<'_>) -> Result<C> {
        source.root.get::<C>(source.entity).cloned()
    }
}

/// A bundle's place in the world: its archetype, and its components in its own order.
#[derive(Debug)]
pub(crate) struct BundleInfo {
    pub(crate) archetype: u32,
    /// Component ids in the bundle's order.
    pub(crate) components: Box<[ComponentId]>,
    /// Columns of the archetype in the bundle's order, each without a value yet.
    pub(crate) columns: Box<[(usize, bool)]>,
}

macro_rules! tuple_bundle {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Bundle),*> Bundle for ($($name,)*) {
            type Removed = ($($name::Removed,)*);

            #[allow(unused_variables, reason = "the empty tuple is a bundle too")]
            fn types(sink: &mut BundleTypes<'_>) {
                $($name::types(sink);)*
            }
            #[inline]
            #[allow(unused_variables, non_snake_case, reason = "the empty tuple is a bundle too")]
            fn put(self, sink: &mut BundleSink<'_>) {
                let ($($name,)*) = self;
                $($name.put(sink);)*
            }
            #[allow(unused_variables, reason = "the empty tuple is a bundle too")]
            fn copy(source: &BundleSource<'_>) -> Result<Self::Removed> {
                Ok(($($name::copy(source)?,)*))
            }
            #[allow(unused_variables, reason = "the empty tuple is a bundle too")]
            fn take(source: &BundleSource<'_>) -> Result<Self> {
                Ok(($($name::take(source)?,)*))
            }
        }
    };
}

tuple_bundle!();
for_tuples!(tuple_bundle);
