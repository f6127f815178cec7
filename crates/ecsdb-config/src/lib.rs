//! The settings of a persistent database: defaults, a TOML file, the environment, in this order.
//!
//! [`PersistenceConfig`] is plain data, documented field by field; each crate below has options of its own, which
//! are made from it here. `docs/configuration.md` lists every setting with its unit and default.

#![forbid(unsafe_code)]

mod error;
mod load;
mod settings;

pub use bytesize::ByteSize;
pub use error::{Error, Result};
pub use load::ENVIRONMENT_PREFIX;
pub use settings::{
    ArchiveSettings, CompactionSettings, LogSettings, PersistenceConfig, RecoverySettings, RetentionSettings,
    SnapshotSettings,
};
