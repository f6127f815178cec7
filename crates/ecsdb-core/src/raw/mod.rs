//! The raw column: the one place with `unsafe`.
//!
//! [`TypeOps`] is what is known of a component's Rust type once the type itself is erased; [`Block`] is the memory
//! of one column of one chunk; [`Arena`] keeps what a transaction may have to put back; the pool is where blocks come from. Everything above them is safe code.

mod arena;
mod block;
mod memory;
mod ops;
mod plain;
mod pool;
mod prefetch;
mod rows;

pub(crate) use arena::{Arena, At, Room};
pub(crate) use block::Block;
pub use block::memory_in_use;
pub(crate) use ops::{Ops, TypeOps, discard};
pub use plain::Plain;
pub(crate) use plain::bytes_of;
pub(crate) use prefetch::prefetch;
pub(crate) use rows::disjoint_rows;
