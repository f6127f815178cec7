//! The command line, as a user runs it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test, which also spoils files")]

mod advice;
mod calls;
mod closed;
mod directories;
mod dump;
mod edited;
mod examples;
mod export;
mod fixture;
mod followed;
mod keys;
mod odd;
mod page;
mod places;
mod reading;
mod refused;
mod settings;
mod signals;
mod tail;
mod targets;
mod terminal;
mod together;
mod told;
mod tree;
mod writing;
