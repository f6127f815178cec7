//! Questions to an [`ecsdb`] world as text, and its values as JSON, by what components say of themselves: for whoever does not have
//! their Rust types, such as the command line and the guests of a Tauri application. `docs/command-line.md` has the table of how
//! values look.
//!
//! ```
//! use ecsdb::prelude::*;
//! use ecsdb_query::{Components, Question, Search};
//!
//! #[derive(Component, Clone, Copy)]
//! #[component(name = "game.health", plain)]
//! #[repr(C)]
//! struct Health { now: u32, max: u32 }
//!
//! let db = Database::in_memory();
//! db.write(|tx| Ok(tx.spawn(Health { now: 3, max: 100 })))?;
//! db.write(|tx| Ok(tx.spawn(Health { now: 100, max: 100 })))?;
//!
//! let view = db.view()?;
//! let components = Components::of(&view);
//! let question = Question {
//!     conditions: vec!["game.health.now < 10 and game.health.max = 100".into()],
//!     select: vec!["game.health.now".into()],
//!     ..Question::default()
//! };
//! let mut found = Vec::new();
//! Search::parse(&question, &components)?.each(&view, |row| {
//!     found.push(row.values);
//!     Ok::<(), ecsdb_query::Error>(())
//! })?;
//! assert_eq!(found, [[3]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod condition;
mod error;
mod grammar;
mod hex;
mod json;
mod literal;
mod path;
#[cfg(test)]
mod recursive_tests;
mod search;
mod shape;
mod stored;

pub use error::{Error, Result, Unfit, shortened, unknown};
pub use hex::{from_hex, hex};
pub use json::{JSON_DEPTH_MAX, brief, from_json, to_json};
pub use search::{Question, Row, Search};
pub use shape::{ROOT, inner};
pub use stored::{Components, Reader, Stored};
