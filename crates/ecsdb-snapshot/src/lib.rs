//! The snapshot file and the manifest.
//!
//! - [`write()`] makes a snapshot of a view: a file of blocks, each checked by itself, found through a directory.
//!   With a parent it is incremental: blocks which the parent has already are pointed to, not written again.
//! - [`Snapshot`] opens one, verifies it, and loads the world in it, in parallel, straight into columns.
//! - [`Manifest`] says which snapshots and log segments are live, in two generations.
//!
//! When snapshots are taken and which are kept is decided elsewhere. `docs/format/snapshot.md` and
//! `docs/format/manifest.md` specify the files byte for byte.

#![forbid(unsafe_code)]

mod directory;
mod encode;
mod error;
mod format;
mod manifest;
mod merge;
mod output;
mod own_blocks;
mod read;
mod window;
mod write;

pub use directory::{ChunkEntry, ColumnEntry, Directory, FileRef};
pub use error::{Error, Result};
pub use format::{BlockHeader, Header};
pub use manifest::{Kept, Manifest, Numbers, SnapshotEntry};
pub use merge::merge;
pub use output::{Follow, Progress, Stopped};
pub use read::{LoadOptions, Loaded, Snapshot};
pub use write::{WriteOptions, Written, write};
