//! A simulated disk with faults, a virtual clock, and schedules of crashes.
//!
//! - [`SimDisk`]: an `ecsdb_io::Vfs` in memory. It keeps apart what is live and what is durable, for the bytes
//!   of each file and the names in each directory, and can be [crashed](SimDisk::crash) at any moment.
//! - [`CrashVariant`]: which of the un-synced changes a crash keeps.
//! - [`Fault`]: input/output errors, full disks, short writes and power cuts at a chosen operation.
//! - [`explore`], [`explore_from`], [`explore_faults`]: every crash of a workload, a crash within the recovery
//!   from a crash, every fault in a workload.
//!
//! # The model
//!
//! - A sync that succeeded is kept. Everything since may be kept or lost, change by change, in any order, over
//!   all files and directories; a write may be torn between sectors of 512 bytes. The disk does not lie.
//! - A sector that reaches the disk holds what the page cache held after one of the writes to it, never a
//!   mixture.
//! - Beyond the old end of a file, what was lost is missing, or zeros, or garbage.
//! - After a failed sync, what it should have synced is orphaned: reads see it, no later sync makes it durable
//!   (but a later write to the same sector takes its bytes along, as a page cache does). The same holds for the
//!   names of a directory whose sync failed.
//! - A name is durable when its directory was synced. A rename is kept or lost as a whole, and between two
//!   directories it is undecided until both were synced, unless a synced change of one of them came after it.
//! - A file's data and length are one: syncing the data syncs the length. Bits do not rot by themselves.
//!
//! This crate knows nothing of logs, snapshots or transactions.

#![forbid(unsafe_code)]

mod content;
mod crash;
mod damage;
mod disk;
mod explore;
mod fault;
mod file;
mod handle;
mod journal;
mod machine;
mod names;
mod report;
mod state;
mod variant;
mod vfs;

pub use disk::SimDisk;
pub use explore::{CrashCase, Exploration, explore, explore_faults, explore_from};
pub use fault::{Failure, Fault, is_power_lost};
pub use journal::Journal;
pub use report::{Counterexample, Explored};
pub use variant::{CrashPattern, CrashVariant, NameOrder};
