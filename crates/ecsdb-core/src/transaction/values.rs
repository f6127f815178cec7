//! Reading and changing values: by entity, by query, and resources.

use triomphe::Arc;

use super::undo::Step;
use super::{ColumnPlace, Transaction};
use crate::component::Component;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::query::{Query, QueryIter, Walk};
use crate::raw::{Block, Ops, TypeOps};
use crate::root::Resource;

impl Transaction<'_> {
    /// True when the entity is alive. O(1).
    pub fn contains(&self, entity: Entity) -> bool {
        self.world.root.index.get(entity).is_some()
    }

    /// Entities alive. O(1).
    pub fn len(&self) -> usize {
        self.world.root.index.live() as usize
    }

    /// True without entities. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of an entity's component, this transaction's changes included. O(1).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], [`Error::MissingComponent`], or [`Error::NotRegistered`].
    pub fn get<T: Component>(&self, entity: Entity) -> Result<&T> {
        self.world.root.get(entity)
    }

    /// The value of an entity's component, to be changed. O(1).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], [`Error::MissingComponent`], or when the layout is not the stored one.
    pub fn get_mut<T: Component>(&mut self, entity: Entity) -> Result<&mut T> {
        let id = self.world.register::<T>()?;
        let lsn = self.lsn();
        let location = self.world.locate(entity)?;
        let missing = || Error::MissingComponent { entity, component: T::NAME };
        let world = &mut *self.world;
        // Looked up before anything is copied, so that an error costs nothing.
        let shape = &world.root.archetype(location.archetype).shape;
        let column = shape.column_of(id).ok_or_else(missing)?;
        let (number, row) = shape.split(location.row);
        let rows_max = shape.rows_per_chunk();
        let place =
            ColumnPlace { archetype: location.archetype, chunk: number as u32, column: column as u32 };
        world.tx.enter();
        let chunk = Arc::make_mut(&mut world.root).chunk_mut(location.archetype, number);
        let block = world.tx.cell(chunk, place, row, rows_max, lsn);
        world.tx.busy = false;
        block.slice_mut::<T>().and_then(|rows| rows.get_mut(row)).ok_or_else(missing)
    }

    /// Iterates over the entities that have what the query asks for. Every chunk that is handed out to be
    /// written is kept as it was, once a transaction (a copy of 16 to 32 KiB), and compared at the commit, so that
    /// only what was really changed is logged.
    pub fn query<Q: Query>(&mut self) -> QueryIter<'_, Q> {
        let () = Q::VALID;
        if let Err(e) = Q::register(self.world) {
            self.world.tx.fail(e);
            return QueryIter::new(None, self.world.root.schema.clone());
        }
        if !Q::WRITES {
            return self.world.root.query();
        }
        let lsn = self.lsn();
        let world = &mut *self.world;
        let schema = world.root.schema.clone();
        let archetypes = Arc::make_mut(&mut world.root).archetypes.iter_mut().enumerate();
        QueryIter::new(Some(Walk::Unique { archetypes, chunks: None, state: &mut world.tx, lsn }), schema)
    }

    /// The value of a resource.
    ///
    /// # Errors
    /// [`Error::NoSuchResource`], or [`Error::NotRegistered`].
    pub fn resource<T: Component>(&self) -> Result<&T> {
        self.world.root.resource_value()
    }

    /// The value of a resource, to be changed. O(resources).
    ///
    /// # Errors
    /// [`Error::NoSuchResource`], or when the layout is not the stored one.
    pub fn resource_mut<T: Component>(&mut self) -> Result<&mut T> {
        let id = self.world.register::<T>()?;
        let lsn = self.lsn();
        let world = &mut *self.world;
        let resource = Arc::make_mut(&mut world.root)
            .resources
            .iter_mut()
            .find(|resource| resource.id == id)
            .ok_or(Error::NoSuchResource(T::NAME))?;
        // Copied first, since a `clone` may panic: nothing has happened then.
        world.tx.enter();
        let copy = Arc::new(Block::clone(&resource.block));
        world.tx.leave();
        let block = std::mem::replace(&mut resource.block, copy);
        let old = Resource { id, block, changed: resource.changed };
        world.tx.undo.push(Step::Resource { id, old: Some(old) });
        resource.changed = lsn;
        Arc::get_mut(&mut resource.block)
            .and_then(|block| block.slice_mut::<T>())
            .and_then(|rows| rows.first_mut())
            .ok_or(Error::NoSuchResource(T::NAME))
    }

    /// Puts a resource into the world, replacing the one of that type. O(resources).
    ///
    /// Like [`Transaction::spawn`] it cannot fail by itself: a layout that is not the stored one fails the
    /// commit.
    pub fn insert_resource<T: Component>(&mut self, value: T) {
        match self.world.register::<T>() {
            Ok(id) => {
                let mut block = Block::new(Ops::Typed(TypeOps::of::<T>()), 1);
                block.push(value, 1);
                let new = Resource { id, block: Arc::new(block), changed: self.lsn() };
                let old = Arc::make_mut(&mut self.world.root).set_resource(id, Some(new));
                self.world.tx.undo.push(Step::Resource { id, old });
            }
            Err(e) => self.world.tx.fail(e),
        }
    }

    /// Removes a resource. True when there was one. O(resources).
    ///
    /// # Errors
    /// When the layout is not the stored one.
    pub fn remove_resource<T: Component>(&mut self) -> Result<bool> {
        let id = self.world.register::<T>()?;
        let old = Arc::make_mut(&mut self.world.root).set_resource(id, None);
        let had = old.is_some();
        if had {
            self.world.tx.undo.push(Step::Resource { id, old });
        }
        Ok(had)
    }
}
