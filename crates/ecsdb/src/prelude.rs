//! What most programs use: `use ecsdb::prelude::*;`.

pub use crate::{
    Bundle, Component, Database, Describe, Durability, Entity, Lsn, Moment, PersistenceConfig, Transaction,
    View, With, Without,
};
