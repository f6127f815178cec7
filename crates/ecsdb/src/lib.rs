//! An embedded Entity-Component-System database: a world of entities in memory, iterated at the speed of a plain
//! array, of which every committed transaction is durable.
//!
//! - [`Database::open`] makes a database or recovers it to the last acknowledged commit; [`Database::builder`] and
//!   [`PersistenceConfig`] are for choices, [`Database::in_memory`] is for worlds without files.
//! - [`Database::write`] runs a [`Transaction`]; [`Database::submit`] gives a [`Ticket`] to wait or `.await` with.
//! - [`Database::view`] gives a consistent [`View`] to any thread.
//! - Snapshots, compaction and archiving happen by themselves; [`Database::snapshot`], [`Database::compact`],
//!   [`Database::backup_to`], [`Database::restore`] and [`restore_copy`] are for doing it now. [`Database::events`] and
//!   [`Database::stats`] tell what goes on.
//! - [`Database::reconfigure`] and [`Database::watch_config`] change settings while the database runs; [`config`] has their list.
//! - `#[derive(Component)]` and `#[derive(Bundle)]` make types that entities can have.
//!
//! Start with `use ecsdb::prelude::*;`.
//!
#![doc = include_str!("../../../README.md")]
#![forbid(unsafe_code)]

// So that the derive macros' paths hold within this crate, too.
#[allow(unused_extern_crates, reason = "used by what the derive macros write")]
extern crate self as ecsdb;

mod blocking;
mod builder;
mod database;
mod error;
mod giving_way;
mod job;
mod maintenance;
mod nesting;
mod operations;
mod persistence;
pub mod prelude;
mod reconfigure;
mod restore;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod watch;

pub use builder::Builder;
pub use database::Database;
pub use error::{Abort, Error, ErrorKind, Result};
pub use job::Job;
pub use restore::{restore_copy, verify};
pub use stats::Stats;
pub use ticket::Ticket;
pub use watch::ConfigWatch;

pub use ecsdb_config as config;

pub use ecsdb_compactor::{
    CompactionInfo, Error as StoreError, Event, Events, Failure, Progress, SnapshotInfo, StoreStats, Task,
};
pub use ecsdb_config::{
    ArchiveSettings, ByteSize, CompactionSettings, Error as ConfigError, PersistenceConfig, RecoverySettings,
    RetentionSettings, SnapshotSettings, WalSettings,
};
#[doc(hidden)]
pub use ecsdb_core::{
    __private, BundleError, BundleSink, BundleSource, BundleTypes, ComponentType, Storage, TypeSlot,
};
pub use ecsdb_core::{
    Access, Bundle, Chunks, CodecError, Component, ComponentDef, ComponentId, Describe, Description, Digest,
    Entity, EntityMut, EntityRef, Error as WorldError, Filter, Has, Mode, Or, ParseEntityError, Plain,
    Prepared, Query, QueryIter, ReadQuery, StorageKind, Transaction, View, WeakView, With, Without, describe,
};
pub use ecsdb_io::{
    Around, DirEntry, DirLock, Disk, FileOp, Forked, Hooks, IoError, LockError, LockKind, Make, OpenMode,
    Priority, PriorityStats, SchedulerStats, Vfs, VfsFile,
};
pub use ecsdb_recovery::{
    ClosedComponent, DataLoss, Error as RecoveryError, LoadedSnapshot, Lost, Moment, Policy, RecoveryReport,
    Rejected, Step, Verified,
};
pub use ecsdb_snapshot::SnapshotEntry;
pub use ecsdb_wal::{Damage, Durability, LogError, LogStats, Lsn};

/// The example of the page on components.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/components.md")]
pub struct Components;
