//! The settings of a persistent database: defaults, a TOML file, the environment, in this order.
//!
//! [`PersistenceConfig`] is plain data, documented field by field; each crate below has options of its own, which
//! are made from it here. `docs/configuration.md` lists every setting with its unit and default.

#![forbid(unsafe_code)]

mod changes;
mod check;
mod environment;
mod error;
mod load;
mod options;
mod position;
mod reference;
mod setting;
mod settings;
mod text;
mod validate;
mod with;

pub use bytesize::ByteSize;
pub use changes::Changes;
pub use environment::ENVIRONMENT_PREFIX;
pub use error::{Error, Origin, Problem, Result};
pub use reference::{example, schema, settings, table};
pub use setting::{Applies, Setting, Unit};
pub use settings::{
    ArchiveSettings, CompactionSettings, PersistenceConfig, RecoverySettings, RetentionSettings,
    SnapshotSettings, WalSettings,
};
