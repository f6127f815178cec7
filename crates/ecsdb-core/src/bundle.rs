//! Bundles: several components given at once.

use crate::archetype::Chunk;
use crate::component::{CodecError, Component, ComponentType, StorageKind};
use crate::schema::{ComponentId, Schema};

/// Components to spawn or insert together: a component, a tuple of bundles (up to 12), or a struct with
/// `#[derive(Bundle)]`.
pub trait Bundle: Sized + 'static {
    /// Names the component types, in the order in which [`Bundle::visit`] and [`Bundle::put`] give the values.
    #[doc(hidden)]
    fn types(sink: &mut BundleTypes<'_>);

    /// Shows the values.
    #[doc(hidden)]
    fn visit(&self, visitor: &mut BundleVisitor<'_>);

    /// Hands the values over.
    #[doc(hidden)]
    fn put(self, sink: &mut BundleSink<'_>);
}

#[doc(hidden)]
pub struct BundleTypes<'a>(pub(crate) &'a mut dyn FnMut(ComponentType));

/// Encodes the stored form of each value: component id, then the value.
#[doc(hidden)]
pub struct BundleVisitor<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) scratch: &'a mut Vec<u8>,
    pub(crate) failed: Option<(&'static str, CodecError)>,
}

/// Appends each value to its column.
#[doc(hidden)]
pub struct BundleSink<'a> {
    pub(crate) chunk: &'a mut Chunk,
    /// Columns in the bundle's order.
    pub(crate) columns: std::slice::Iter<'a, usize>,
    pub(crate) lsn: u64,
    pub(crate) rows_max: usize,
}

impl<C: Component> Bundle for C {
    fn types(sink: &mut BundleTypes<'_>) {
        (sink.0)(ComponentType::of::<C>());
    }

    #[inline]
    fn visit(&self, visitor: &mut BundleVisitor<'_>) {
        visitor.value(self);
    }

    #[inline]
    fn put(self, sink: &mut BundleSink<'_>) {
        if let Some(&column) = sink.columns.next() {
            sink.chunk.columns[column].write(sink.lsn).push(self, sink.rows_max);
        }
    }
}

impl BundleVisitor<'_> {
    fn value<C: Component>(&mut self, value: &C) {
        let Some(id) = self.schema.id_of::<C>() else { return };
        let encoded = match C::STORAGE.kind() {
            StorageKind::Transient => return,
            StorageKind::Plain => {
                put_varint(self.out, u64::from(id.0));
                C::STORAGE.encode(value, self.out)
            }
            StorageKind::Archived => {
                put_varint(self.out, u64::from(id.0));
                self.scratch.clear();
                let encoded = C::STORAGE.encode(value, self.scratch);
                put_varint(self.out, self.scratch.len() as u64);
                self.out.extend_from_slice(self.scratch);
                encoded
            }
        };
        if let Err(e) = encoded
            && self.failed.is_none()
        {
            self.failed = Some((C::NAME, e));
        }
    }
}

use crate::codec::put_varint;

/// A bundle's place in the world: its archetype, and its components in its own order.
#[derive(Debug)]
pub(crate) struct BundleInfo {
    pub(crate) archetype: u32,
    /// Component ids in the bundle's order.
    pub(crate) components: Box<[ComponentId]>,
    /// Columns of the archetype in the bundle's order.
    pub(crate) columns: Box<[usize]>,
    /// Components that are stored.
    pub(crate) stored: usize,
}

macro_rules! tuple_bundle {
    ($($name:ident),*) => {
        impl<$($name: Bundle),*> Bundle for ($($name,)*) {
            #[allow(unused_variables, reason = "the empty tuple is a bundle too")]
            fn types(sink: &mut BundleTypes<'_>) {
                $($name::types(sink);)*
            }
            #[inline]
            #[allow(unused_variables, non_snake_case, reason = "the empty tuple is a bundle too")]
            fn visit(&self, visitor: &mut BundleVisitor<'_>) {
                let ($($name,)*) = self;
                $($name.visit(visitor);)*
            }
            #[inline]
            #[allow(unused_variables, non_snake_case, reason = "the empty tuple is a bundle too")]
            fn put(self, sink: &mut BundleSink<'_>) {
                let ($($name,)*) = self;
                $($name.put(sink);)*
            }
        }
    };
}

tuple_bundle!();
tuple_bundle!(A);
tuple_bundle!(A, B);
tuple_bundle!(A, B, C);
tuple_bundle!(A, B, C, D);
tuple_bundle!(A, B, C, D, E);
tuple_bundle!(A, B, C, D, E, F);
tuple_bundle!(A, B, C, D, E, F, G);
tuple_bundle!(A, B, C, D, E, F, G, H);
tuple_bundle!(A, B, C, D, E, F, G, H, I);
tuple_bundle!(A, B, C, D, E, F, G, H, I, J);
tuple_bundle!(A, B, C, D, E, F, G, H, I, J, K);
tuple_bundle!(A, B, C, D, E, F, G, H, I, J, K, L);
