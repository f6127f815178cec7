//! The raw column: the one place with `unsafe`.
//!
//! [`TypeOps`] is what is known of a component's Rust type once the type itself is erased; [`Block`] is the memory
//! of one column of one chunk; the pool is where that memory comes from. Everything above them is safe code.

mod block;
mod memory;
mod ops;
mod pool;
mod prefetch;

pub(crate) use block::Block;
pub use block::memory_in_use;
pub(crate) use ops::{Ops, TypeOps};
pub(crate) use prefetch::prefetch;
