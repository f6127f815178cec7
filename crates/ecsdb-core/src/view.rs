//! Views: consistent pictures of the world for readers, snapshots and exports.

use std::sync::{Arc as SharedArc, Weak};

use ecsdb_id::Lsn;
use triomphe::Arc;

use crate::component::Component;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::query::{EntityRef, QueryIter, ReadQuery, ReadWalk, Walk};
use crate::root::Root;

/// A consistent picture of the world at one commit, for any thread, for as long as it lives.
///
/// Taking a view costs O(1); reading one never waits for the writer, and the writer never waits for views. While
/// a view lives, each chunk that the writer changes exists twice, so a view kept for ever keeps the old values of
/// everything changed since. Clones share the picture.
#[derive(Clone)]
pub struct View {
    /// Counted twice: once for the world, whose check for being the only owner has to be cheap, and once for
    /// [`WeakView`].
    root: SharedArc<Arc<Root>>,
}

/// A [`View`] for as long as somebody else keeps it: holds nothing in memory.
#[derive(Clone, Default)]
pub struct WeakView(Weak<Arc<Root>>);

impl WeakView {
    /// The view, if anybody still has it.
    pub fn upgrade(&self) -> Option<View> {
        self.0.upgrade().map(|root| View { root })
    }
}

impl View {
    /// A reference that does not keep the picture in memory.
    pub fn downgrade(&self) -> WeakView {
        WeakView(SharedArc::downgrade(&self.root))
    }

    pub(crate) fn new(root: Arc<Root>) -> Self {
        View { root: SharedArc::new(root) }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// LSN of the last transaction in the picture; [`Lsn::ZERO`] for an empty world.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.root.lsn)
    }

    /// Entities alive. O(1).
    pub fn len(&self) -> usize {
        self.root.index.live() as usize
    }

    /// True without entities. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when the entity is alive. O(1).
    pub fn contains(&self, entity: Entity) -> bool {
        self.root.index.get(entity).is_some()
    }

    /// The value of an entity's component. O(1).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], [`Error::MissingComponent`], or [`Error::NotRegistered`].
    pub fn get<T: Component>(&self, entity: Entity) -> Result<&T> {
        self.root.get(entity)
    }

    /// The value of a resource.
    ///
    /// # Errors
    /// [`Error::NoSuchResource`], or [`Error::NotRegistered`].
    pub fn resource<T: Component>(&self) -> Result<&T> {
        self.root.resource_value()
    }

    /// Iterates over the entities that have what the query asks for.
    ///
    /// # Errors
    /// [`Error::NotRegistered`] when a component's Rust type was not known at the time of the capture.
    pub fn query<Q: ReadQuery>(&self) -> Result<QueryIter<'_, Q>> {
        let () = Q::VALID;
        Q::check(&self.root.schema)?;
        Ok(self.root.query())
    }

    /// One entity, of which several components are read at once.
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`].
    pub fn entity(&self, entity: Entity) -> Result<EntityRef<'_>> {
        EntityRef::new(&self.root, entity)
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({} entities at LSN {})", self.len(), self.lsn())
    }
}

impl Root {
    #[inline]
    pub(crate) fn get<T: Component>(&self, entity: Entity) -> Result<&T> {
        let location = self.index.get(entity).ok_or(Error::NoSuchEntity(entity))?;
        let missing = || match self.schema.id_of::<T>() {
            None => self.schema.not_registered::<T>(),
            Some(_) => None,
        };
        let missing = || missing().unwrap_or(Error::MissingComponent { entity, component: T::NAME });
        let id = self.schema.id_of::<T>().ok_or_else(missing)?;
        let archetype = self.archetype(location.archetype);
        let column = archetype.shape.column_of(id).ok_or_else(missing)?;
        let (chunk, row) = archetype.shape.split(location.row);
        archetype
            .chunks
            .get(chunk)
            .and_then(|chunk| chunk.columns[column].block.slice::<T>()?.get(row))
            .ok_or_else(missing)
    }

    pub(crate) fn resource_value<T: Component>(&self) -> Result<&T> {
        match self.schema.id_of::<T>() {
            Some(id) => self
                .resource(id)
                .and_then(|resource| resource.block.slice::<T>()?.first())
                .ok_or(Error::NoSuchResource(T::NAME)),
            None => Err(self.schema.not_registered::<T>().unwrap_or(Error::NoSuchResource(T::NAME))),
        }
    }

    pub(crate) fn query<Q: ReadQuery>(&self) -> QueryIter<'_, Q> {
        QueryIter::new(Walk::Read(ReadWalk::new(self, None)))
    }
}
