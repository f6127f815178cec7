//! What recovery may do about damage.

use serde::{Deserialize, Serialize};

/// What is done about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Any damage but a torn tail refuses to open, that of a snapshot which is not needed included.
    Strict,
    /// A torn tail is cut, a damaged snapshot is passed over for an older one; damage to what had been acknowledged
    /// refuses to open.
    #[default]
    TruncateTail,
    /// Goes on with what was before the first loss: a state that there was. What comes after it was made for another one; it is set aside
    /// whole, and listed.
    Salvage,
}

/// Whether there has to be a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existence {
    /// It is opened, or made where there is none.
    #[default]
    Any,
    /// There must be one; nothing is made, not even a directory.
    Required,
    /// There must be none.
    Refused,
}

/// How a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether there has to be one.
    pub existence: Existence,
    /// What is done about damage.
    pub policy: Policy,
    /// Threads that load snapshots.
    pub threads: usize,
    /// Turn stored columns into this program's component types; tools that have none leave them as bytes.
    pub register: bool,
}
