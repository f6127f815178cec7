//! What the tests in `it/` share with the attackers of `cargo xtask`: components, scripts, and what must hold after a crash.
//! `golden/` holds databases written by released versions.

#![allow(missing_docs, clippy::missing_errors_doc, reason = "nobody else uses it")]

pub mod around;
pub mod components;
pub mod crashed;
pub mod scripts;
