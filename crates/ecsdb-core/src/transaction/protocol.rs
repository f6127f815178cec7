//! The steps of a transaction, as types: open, prepared, committed. What a user's closure gets is the
//! [`Transaction`] inside, which can do none of them.

use ecsdb_id::Lsn;
use triomphe::Arc;

use super::Transaction;
use crate::change_set::ChangeSet;
use crate::error::{Error, Result};
use crate::world::World;

/// A transaction under way. Dropping it undoes everything.
///
/// ```
/// use ecsdb_core::{Component, Lsn, World};
///
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "hp", plain)]
/// #[repr(C)]
/// struct Hp(u32);
///
/// let mut world = World::new();
/// let mut open = world.begin();
/// let entity = open.transaction().spawn(Hp(10));
/// let prepared = open.prepare()?;
/// let _to_be_logged = prepared.change_set().to_vec();
/// prepared.commit(Lsn(1));
/// assert_eq!(world.view().get::<Hp>(entity)?.0, 10);
/// # Ok::<(), ecsdb_core::Error>(())
/// ```
#[must_use = "dropping it rolls it back"]
#[derive(Debug)]
pub struct OpenTransaction<'w> {
    tx: Transaction<'w>,
    finished: bool,
}

/// A transaction whose change set is complete. Dropping it undoes everything.
#[must_use = "dropping it rolls it back"]
#[derive(Debug)]
pub struct PreparedTransaction<'w>(OpenTransaction<'w>);

impl World {
    /// Begins a transaction.
    pub fn begin(&mut self) -> OpenTransaction<'_> {
        self.end_forgotten();
        self.tx.begin();
        OpenTransaction { tx: Transaction { world: self }, finished: false }
    }

    /// Undoes a transaction or a restore that somebody has forgotten rather than dropped, before the world is changed.
    pub(crate) fn end_forgotten(&mut self) {
        self.put_back();
        if self.tx.open {
            self.roll_back();
            self.tx.end();
        }
    }
}

impl<'w> OpenTransaction<'w> {
    /// What makes the changes.
    pub fn transaction(&mut self) -> &mut Transaction<'w> {
        &mut self.tx
    }

    /// Completes the change set, to be logged before [`PreparedTransaction::commit`]. O(what was changed).
    ///
    /// # Errors
    /// What an infallible method (such as [`Transaction::spawn`]) could not do, [`Error::Interrupted`] after a panic within an
    /// operation that was caught, or a value that cannot be encoded. The transaction is rolled back.
    pub fn prepare(self) -> Result<PreparedTransaction<'w>> {
        let world = &mut *self.tx.world;
        if world.poisoned {
            return Err(Error::Poisoned);
        }
        if world.tx.busy || world.tx.interrupted {
            return Err(Error::Interrupted);
        }
        if let Some(e) = world.tx.failed.take() {
            return Err(e);
        }
        world.encode_changes()?;
        Ok(PreparedTransaction(self))
    }
}

impl PreparedTransaction<'_> {
    /// What is to be logged; empty when nothing that is stored was changed.
    pub fn change_set(&self) -> ChangeSet<'_> {
        self.0.tx.world.tx.encoder.change_set()
    }

    /// Makes the changes permanent under `lsn`, the one under which the change set was logged; with an empty
    /// change set, the last commit's. O(entities despawned).
    ///
    /// A panic in the destructor of a value that is no more is caught: the commit stands.
    pub fn commit(mut self, lsn: Lsn) {
        let lsn = lsn.0;
        self.0.finished = true;
        let world = &mut *self.0.tx.world;
        if world.tx.encoder.is_empty() {
            world.renumber_moved_chunks();
        } else {
            world.undefined.clear();
        }
        let World { root, tx, .. } = world;
        if !tx.freed.is_empty() || root.lsn != lsn {
            let root = Arc::make_mut(root);
            root.index.floor_logged();
            for &slot in &tx.freed {
                root.index.list_free(slot);
            }
            root.lsn = lsn;
        }
        tx.end();
    }
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.tx.world.roll_back();
            self.tx.world.tx.end();
        }
    }
}
