//! The plugin in an application with the mock runtime, with permissions as they are in a real one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod arguments;
mod killed;
mod lifecycle;
mod model;
mod permissions;
mod stores;
mod world;
