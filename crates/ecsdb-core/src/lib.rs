//! The in-memory half of ecsdb: entities, components, archetypes, queries, transactions and views.
//!
//! A [`World`] is written by one [`Transaction`] at a time and read through any number of [`View`]s. It keeps
//! its entities in archetypes, whose columns are cut into chunks of 16 to 32 KiB; what a view, a before-image or
//! the log still needs is copied on write, chunk by chunk.
//!
//! Nothing here touches a file: a transaction gives a [`ChangeSet`] to be logged, [`World::apply`] takes it back,
//! and [`parts`] takes a view apart into blocks and puts a world together again.
//!
//! `unsafe` lives in the module `raw` alone.

#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("ecsdb stores memory bytes as little-endian: big-endian machines are not supported");

// So that the derive macros' paths hold within this crate, too.
#[allow(unused_extern_crates, reason = "used by what the derive macros write")]
extern crate self as ecsdb_core;

mod archetype;
mod backlinks;
mod buffers;
mod bundle;
mod change_set;
mod codec;
mod compact;
mod component;
pub mod describe;
mod difference;
mod digest;
mod entity;
mod error;
mod index;
mod limits;
mod memory;
mod open_chunks;
pub mod parts;
mod placement;
mod query;
#[allow(unsafe_code, reason = "the raw column: the one home of unsafe code")]
mod raw;
mod replay;
mod restore;
mod root;
mod schema;
mod shells;
mod spine;
mod stored_value;
mod transaction;
mod tuples;
mod view;
mod world;

pub use bundle::Bundle;
#[doc(hidden)]
pub use bundle::{BundleSink, BundleSource, BundleTypes};
pub use change_set::{Change, ChangeSet, changes};
pub use compact::Compacted;
#[doc(hidden)]
pub use component::{Buffer, ComponentType, TypeSlot};
pub use component::{CodecError, Component, Storage, StorageKind};
pub use describe::{Describe, Description};
pub use digest::Digest;
pub use ecsdb_derive::{Bundle, Component, Describe};
pub use ecsdb_id::Lsn;
pub use entity::{Entity, ParseEntityError};
#[doc(hidden)]
pub use error::Error as BundleError;
pub use error::{Error, Result};
pub use query::{
    Access, Chunks, EntityMut, EntityRef, Filter, Has, Mode, Or, Prepared, Query, QueryIter, ReadQuery, With,
    Without,
};
pub use raw::{Plain, memory_in_use};
pub use replay::Applied;
pub use restore::Restore;
pub use schema::{ComponentDef, ComponentId};
pub use transaction::{OpenTransaction, PreparedTransaction, Transaction};
pub use view::{View, WeakView};
pub use world::{Unreadable, World};

/// What the derive macros name.
#[doc(hidden)]
pub mod __private {
    pub use bytemuck;
    pub use inventory;

    pub use crate::describe::{NoArchive, Probe, Stored};
}

/// What the derive macros and queries refuse at compile time. Each refused piece differs in one place from this one,
/// which compiles:
///
/// ```
/// use ecsdb_core::{Component, World};
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain)]
/// #[repr(C)]
/// struct P { x: u32, y: u32 }
/// World::new().begin().transaction().query::<&mut P>();
/// ```
/// Padding:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain)]
/// #[repr(C)]
/// struct P { x: u32, y: u64 }
/// ```
/// A plain component without a fixed layout:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain)]
/// struct P { x: u32, y: u32 }
/// ```
/// A plain component with a pointer in it:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// #[derive(Component, Clone)]
/// #[component(name = "p", plain)]
/// #[repr(C)]
/// struct P { x: Box<u32> }
/// ```
/// No name:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// #[derive(Component, Clone, Copy)]
/// #[component(plain)]
/// #[repr(C)]
/// struct P { x: u32, y: u32 }
/// ```
/// Two kinds of storage:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain, transient)]
/// #[repr(C)]
/// struct P { x: u32, y: u32 }
/// ```
/// Type parameters:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", transient)]
/// struct P<T> { x: T }
/// ```
/// One component twice, once of it mutably:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "p", plain)]
/// # #[repr(C)]
/// # struct P { x: u32, y: u32 }
/// World::new().begin().transaction().query::<(&mut P, &P)>();
/// ```
/// Writing through a view:
/// ```compile_fail
/// # use ecsdb_core::{Component, World};
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "p", plain)]
/// # #[repr(C)]
/// # struct P { x: u32, y: u32 }
/// World::new().view().query::<&mut P>();
/// ```
/// A step of the protocol in what a closure gets:
/// ```compile_fail
/// # use ecsdb_core::World;
/// World::new().begin().transaction().prepare();
/// ```
/// A type that can change behind a shared reference, so that the change would be neither seen nor logged (and the same with
/// `u32`, which compiles):
/// ```compile_fail
/// #[derive(ecsdb_core::Describe)]
/// struct Counter { n: std::sync::atomic::AtomicU32 }
/// ```
/// ```
/// #[derive(ecsdb_core::Describe)]
/// struct Counter { n: u32 }
/// ```
/// The same in an archived component:
/// ```compile_fail
/// # use ecsdb_core::Component;
/// #[derive(Component, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[component(name = "p", archived)]
/// struct P { x: std::sync::Arc<std::sync::Mutex<u32>> }
/// ```
/// A part whose archive has a form that is not described (with `#[describe(opaque = "p.x", version = 1)]` it compiles):
/// ```compile_fail
/// # use ecsdb_core::Component;
/// #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[component(name = "p", archived)]
/// struct P { #[rkyv(with = rkyv::with::AsVec)] x: std::collections::BTreeMap<u32, u32> }
/// ```
/// ```
/// # use ecsdb_core::Component;
/// #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[component(name = "p", archived)]
/// struct P {
///     #[rkyv(with = rkyv::with::AsVec)]
///     #[describe(opaque = "p.x", version = 1)]
///     x: std::collections::BTreeMap<u32, u32>,
/// }
/// ```
/// A plain component that is opaque as a whole:
/// ```compile_fail
/// # use ecsdb_core::Component;
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain)]
/// #[describe(opaque = "p", version = 1)]
/// #[repr(C)]
/// struct P { x: u32 }
/// ```
/// A plain enum without a number type:
/// ```compile_fail
/// # use ecsdb_core::Component;
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain)]
/// enum P { A, B }
/// ```
/// A plain part that is not said to be plain:
/// ```compile_fail
/// # use ecsdb_core::{Component, Describe};
/// #[derive(Describe, Clone, Copy)]
/// #[repr(C)]
/// struct Part(u32);
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "p", plain)]
/// #[repr(C)]
/// struct P { x: Part }
/// ```
#[cfg(doctest)]
pub struct Refused;
