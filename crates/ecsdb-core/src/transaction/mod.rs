//! The transaction: changes to the live world that happen together or not at all.
//!
//! While it runs nothing is encoded. Writes go to the live world and leave marks ([`marks`]) and what it takes to undo
//! them ([`undo`]); what is logged is the difference between beginning and end, computed once, at the commit
//! ([`changes`]). So the log says what the world became, whatever happened in between (TX-1).

mod changes;
mod marks;
mod protocol;
mod rows;
mod state;
mod structure;
mod undo;
mod values;

pub(crate) use marks::ColumnPlace;
pub use protocol::{OpenTransaction, PreparedTransaction};
pub(crate) use state::TransactionState;

use crate::world::World;

/// Changes to the world that happen together or not at all.
///
/// The changes are visible to this transaction at once. An operation that returns an error has done nothing, so that one
/// may ask and go on.
pub struct Transaction<'w> {
    pub(crate) world: &'w mut World,
}

impl Transaction<'_> {
    /// The LSN this transaction will have at the least: what changed chunks are marked with.
    #[inline]
    pub(crate) fn lsn(&self) -> u64 {
        self.world.root.lsn + 1
    }
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} entities after LSN {})", self.world.root.index.live(), self.world.root.lsn)
    }
}
