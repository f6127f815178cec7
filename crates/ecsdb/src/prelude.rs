//! What most programs use: `use ecsdb::prelude::*;`.

pub use crate::{Bundle, Component, Database, Durability, Entity, Transaction, View, With, Without};
