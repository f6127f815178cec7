//! What the tests in `it/` share with the attackers of `cargo xtask`: components, scripts, and what must hold after a crash.
//! `golden/` holds databases written by released versions.

#![allow(missing_docs, clippy::missing_errors_doc, reason = "nobody else uses it")]

pub mod components;
pub mod crashed;
pub mod scripts;

/// Changes settings of a running database.
pub fn reconfigure(
    db: &ecsdb::Database,
    change: impl FnMut(&mut ecsdb::PersistenceConfig),
) -> ecsdb::Result<()> {
    db.reconfigure_with(change).map(drop)
}
