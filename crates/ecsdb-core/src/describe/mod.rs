//! Descriptions: what a component's type consists of, all the way down, so that stored bytes are only read as what they
//! were written as (TX-5).
//!
//! A type describes itself by [`Describe`]: primitives and the containers of the standard library do, and
//! `#[derive(Describe)]` (which `#[derive(Component)]` implies) does it for structs and enums. The [`Description`] is stored with
//! the component's definition and compared when a database is opened.

mod compare;
mod description;
mod display;
mod dynamic;
mod foreign;
mod standard;
mod visit;

pub(crate) use description::nested_bytes_max;
pub use description::{Description, Field, Primitive, Shape, TypeIndex, Types, Variant};
pub use dynamic::{LEVELS_MAX, Value, ValueError, Values};
pub use visit::{TooDeep, Visitor};
pub(crate) use visit::{canonical, check_depth};

/// A type that can say what it consists of. Derive it.
///
/// Types whose values can change behind a shared reference (cells, locks, atomics) have no description, since such a
/// change would be neither seen nor logged. A type that cannot be described is declared opaque, with a version that its
/// user keeps: `#[describe(opaque = "name", version = 1)]` on the field.
///
/// ```
/// use ecsdb_core::{Component, Describe};
///
/// #[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// enum Order { Hold, Move { x: f32, y: f32 } }
///
/// #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[component(name = "game.orders", archived)]
/// struct Orders(Vec<Order>);
///
/// let text = Orders::description().to_string();
/// assert!(text.contains("Move { x: f32, y: f32 }"), "{text}");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not describe itself",
    note = "derive `Describe` for it, or declare the field opaque: `#[describe(opaque = \"name\", version = 1)]`"
)]
pub trait Describe: 'static {
    /// What the type consists of.
    fn shape(types: &mut Types) -> Shape;

    /// Bytes and alignment of what is stored: of the value itself where it is stored as its memory, else of its archive, where
    /// that is known.
    #[doc(hidden)]
    fn layout(stored: Stored) -> (usize, usize);

    /// Shows the value to the visitor, part by part.
    #[doc(hidden)]
    fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep>;
}

/// How the values described are stored.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As their memory bytes.
    Memory,
    /// As rkyv archives.
    Archive,
}

/// Finds out whether a type has an archive, without asking for it in a bound: the inherent constant is there only for types
/// that do, and hides the trait's.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T>(std::marker::PhantomData<T>);

#[doc(hidden)]
pub trait NoArchive {
    const ARCHIVE: (usize, usize) = (0, 0);
}

impl<T> NoArchive for Probe<T> {}

impl<T: rkyv::Archive> Probe<T> {
    /// Size and alignment of the archive.
    pub const ARCHIVE: (usize, usize) = (size_of::<T::Archived>(), align_of::<T::Archived>());
}
