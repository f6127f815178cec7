//! Bringing an old state back into a running world, as one transaction.
//!
//! The change set that does it is applied to the live world by the code that replays it from a log, so that both
//! come out the same. The old root is kept until the change set is logged, and put back when it cannot be.

use ecsdb_id::Lsn;
use triomphe::Arc;

use crate::change_set::{ChangeSet, Encoder};
use crate::difference::difference;
use crate::error::Result;
use crate::root::Root;
use crate::view::View;
use crate::world::World;

/// A world brought to an earlier state, or to another database's, to be logged and then committed. As long as it is
/// not committed, dropping it puts back what was there before.
///
/// ```
/// # use ecsdb_core::{Component, Lsn, World};
/// # #[derive(Component, Clone, Copy)]
/// # #[component(name = "hp", plain)]
/// # #[repr(C)]
/// # struct Hp(u32);
/// # let mut world = World::new();
/// # let mut open = world.begin();
/// # let entity = open.transaction().spawn(Hp(10));
/// # open.prepare()?.commit(Lsn(1));
/// let good = world.view();
/// let mut open = world.begin();
/// open.transaction().despawn(entity)?;
/// open.prepare()?.commit(Lsn(2));
///
/// let restore = world.restore(&good)?;
/// let _to_be_logged = restore.change_set().to_vec();
/// restore.commit(Lsn(3));
/// assert_eq!(world.view().get::<Hp>(entity)?.0, 10);
/// # Ok::<(), ecsdb_core::Error>(())
/// ```
#[must_use = "dropping it puts the world back"]
pub struct Restore<'w> {
    /// Which has all that belongs to the restore, so that it is put back even when this is forgotten.
    world: &'w mut World,
}

/// A restore that is not committed.
pub(crate) struct Restored {
    /// What is put back.
    pub(crate) before: Arc<Root>,
    change_set: Vec<u8>,
}

impl World {
    /// Makes the stored entities, components and resources those of `target`: a view of this world taken earlier, or one of
    /// another world, which may number its components differently. What is equal already costs nothing in the
    /// change set. O(chunks + values that the two do not share).
    ///
    /// Entities get back the ids they had in `target`. **Ids given out after the moment that `target` shows become
    /// invalid**; none of them comes to mean another entity.
    ///
    /// Transient components stay with the entities that stay, and are missing from those that come back. Components that
    /// are new to this world have no Rust type yet, as after replay: see [`World::register_linked`].
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`](crate::Error::SchemaMismatch) when a component of `target` is stored here in another
    /// layout, [`Error::Codec`](crate::Error::Codec) when a value cannot be encoded, or
    /// [`Error::Full`](crate::Error::Full). The world is as it was then.
    pub fn restore(&mut self, target: &View) -> Result<Restore<'_>> {
        self.end_forgotten();
        let mut encoder = Encoder::default();
        difference(&self.root, target.root(), &self.undefined, &mut encoder)?;
        let change_set = encoder.change_set().to_vec();
        // Made first, so that an error or a panic half-way puts everything back.
        self.restored = Some(Restored { before: self.root.clone(), change_set: Vec::new() });
        let restore = Restore { world: self };
        if !change_set.is_empty() {
            let applied = restore.world.replay(restore.world.lsn().next(), &change_set)?;
            debug_assert!(applied.skipped == 0, "the operations are on what exists");
        }
        if let Some(restored) = &mut restore.world.restored {
            restored.change_set = change_set;
        }
        Ok(restore)
    }
}

impl Restore<'_> {
    /// What is to be logged; empty when the world was in this state already.
    pub fn change_set(&self) -> ChangeSet<'_> {
        let inline = self.world.restored.as_ref().map_or(&[][..], |restored| &restored.change_set);
        ChangeSet { inline, shared: &[] }
    }

    /// Makes the change permanent under `lsn`, the one under which the change set was logged; with an empty change
    /// set, the last commit's. O(1), and dropping what is no longer needed.
    pub fn commit(self, lsn: Lsn) {
        let restored = self.world.restored.take();
        if restored.is_some_and(|restored| !restored.change_set.is_empty()) {
            self.world.undefined.clear();
        }
        self.world.advance_lsn(lsn);
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.world.put_back();
    }
}

impl World {
    /// Undoes a restore that was not committed, if there is one.
    #[inline]
    pub(crate) fn put_back(&mut self) {
        if let Some(restored) = self.restored.take() {
            self.root = restored.before;
            self.placement.follow(&self.root);
            // A replay that failed half-way may have left values on their way in it.
            self.tx.end();
        }
    }
}
