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
    world: &'w mut World,
    /// What is put back; `None` once committed.
    before: Option<Arc<Root>>,
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
        let before = Some(self.root.clone());
        let restore = Restore { world: self, before, change_set };
        if !restore.change_set.is_empty() {
            let applied = restore.world.apply(restore.world.lsn().next(), &restore.change_set)?;
            debug_assert!(applied.skipped == 0, "the operations are on what exists");
        }
        Ok(restore)
    }
}

impl Restore<'_> {
    /// What is to be logged; empty when the world was in this state already.
    pub fn change_set(&self) -> ChangeSet<'_> {
        ChangeSet { inline: &self.change_set, shared: &[] }
    }

    /// Makes the change permanent under `lsn`, the one under which the change set was logged; with an empty change
    /// set, the last commit's. O(1), and dropping what is no longer needed.
    pub fn commit(mut self, lsn: Lsn) {
        if !self.change_set.is_empty() {
            self.world.undefined.clear();
        }
        self.world.advance_lsn(lsn);
        self.before = None;
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            self.world.root = before;
            self.world.placement.follow(&self.world.root);
        }
    }
}
