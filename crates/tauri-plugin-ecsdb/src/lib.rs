//! [ecsdb] in a [tauri] application: commands for a durable world, and a store for settings that a power cut
//! takes nothing from. `docs/tauri.md` has the JavaScript side and the permissions.
//!
//! ```no_run
//! use tauri_plugin_ecsdb::EcsdbExt;
//!
//! # fn main() {}
//! # fn context<R: tauri::Runtime>() -> tauri::Context<R> { unimplemented!() }
//! # fn run<R: tauri::Runtime>() -> tauri::Result<()> {
//! tauri::Builder::<R>::new()
//!     .plugin(tauri_plugin_ecsdb::Builder::new().build())
//!     .setup(|app| {
//!         let world = app.ecsdb().world()?; // in the application's data directory, under `world`
//!         println!("{} entities", world.view()?.len());
//!         Ok(())
//!     })
//!     .run(context())
//! # }
//! ```
#![forbid(unsafe_code)]

mod args;
mod blocking;
mod builder;
mod commands;
mod error;
mod lifecycle;
mod look;
mod settings;
mod state;
mod stores;
mod subscriptions;

pub use builder::Builder;
pub use error::{Error, Result};
pub use state::{Ecsdb, EcsdbExt};
pub use stores::{Import, Loaded, Options, StoreName, Stores};
