//! What most programs use: `use ecsdb::prelude::*;`.

pub use crate::{
    Abort, Bundle, Component, Database, Describe, Durability, Entity, ErrorKind, Lsn, Moment,
    PersistenceConfig, Transaction, View, With, Without,
};
