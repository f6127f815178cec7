//! Reading and changing values: by entity, by query, and resources.

use triomphe::Arc;

use super::{ColumnPlace, Transaction};
use crate::component::Component;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::query::{EntityMut, EntityRef, Query, QueryIter, ReadQuery, Walk};
use crate::raw::{Block, Ops, TypeOps, disjoint_rows};
use crate::root::{Resource, Root};
use crate::shells::unshared;
use crate::view::View;

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
    /// [`Error::NoSuchEntity`], [`Error::MissingComponent`], [`Error::Full`], or when the layout is not the stored one.
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
        world.tx.leave();
        block?.slice_mut::<T>().and_then(|rows| rows.get_mut(row)).ok_or_else(missing)
    }

    /// Iterates over the entities that have what the query asks for. Every chunk that is handed out to be
    /// written is kept as it was, once a transaction (a copy of 16 to 32 KiB), and compared at the commit, so that
    /// only what was really changed is logged. Where it cannot be kept ([`Error::Full`]) the iteration ends, and the commit fails.
    ///
    /// To look at other entities meanwhile, iterate [`Transaction::read`], which shares the transaction, or over a
    /// [`Transaction::view`], which leaves it free to be written.
    pub fn query<Q: Query>(&mut self) -> QueryIter<'_, Q> {
        let () = Q::VALID;
        if let Err(e) = Q::register(self.world) {
            self.world.tx.fail(e);
            return QueryIter::new(Walk::Nothing);
        }
        QueryIter::of_transaction(self.world, None)
    }

    /// Iterates over entities to be read only, while others are read by [`Transaction::get`] or another query: this
    /// transaction's changes included.
    ///
    /// ```
    /// # use ecsdb_core::{Component, Entity, World};
    /// # #[derive(Component, Clone, Copy)]
    /// # #[component(name = "hp", plain)]
    /// # #[repr(C)]
    /// # struct Hp(u32);
    /// # #[derive(Component, Clone, Copy)]
    /// # #[component(name = "target", plain)]
    /// # #[repr(C)]
    /// # struct Target(Entity);
    /// # let mut world = World::new();
    /// # let mut open = world.begin();
    /// # let tx = open.transaction();
    /// # let victim = tx.spawn(Hp(10));
    /// # tx.spawn((Hp(1), Target(victim)));
    /// let mut hits = Vec::new();
    /// for (hp, target) in tx.read::<(&Hp, &Target)>()? {
    ///     if tx.get::<Hp>(target.0)?.0 > hp.0 {
    ///         hits.push(target.0);
    ///     }
    /// }
    /// for victim in hits {
    ///     tx.get_mut::<Hp>(victim)?.0 -= 1;
    /// }
    /// assert_eq!(tx.get::<Hp>(victim)?.0, 9);
    /// # Ok::<(), ecsdb_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotRegistered`] when a component is stored, but its Rust type is not known yet.
    pub fn read<Q: ReadQuery>(&self) -> Result<QueryIter<'_, Q>> {
        let () = Q::VALID;
        Q::check(&self.world.root.schema)?;
        Ok(self.world.root.query())
    }

    /// A picture of the world as this transaction has it now, which stays what it is while the transaction goes on: for loops
    /// that write, spawn and despawn while they iterate. O(1); what is written after it is copied first, 16 to 32 KiB at a time. It
    /// is no state that was committed, and has the LSN of the last one that was.
    ///
    /// ```
    /// # use ecsdb_core::{Component, Entity, World};
    /// # #[derive(Component, Clone, Copy)]
    /// # #[component(name = "hp", plain)]
    /// # #[repr(C)]
    /// # struct Hp(u32);
    /// # let mut world = World::new();
    /// # let mut open = world.begin();
    /// # let tx = open.transaction();
    /// # tx.spawn_batch([Hp(0), Hp(1)]);
    /// let now = tx.view();
    /// for (entity, hp) in now.query::<(Entity, &Hp)>()? {
    ///     if hp.0 == 0 {
    ///         tx.despawn(entity)?;
    ///     }
    /// }
    /// assert_eq!((now.len(), tx.len()), (2, 1));
    /// # Ok::<(), ecsdb_core::Error>(())
    /// ```
    pub fn view(&mut self) -> View {
        self.world.tx.viewed = true;
        View::new(self.world.root.clone())
    }

    /// One entity, of which several components are read at once.
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`].
    pub fn entity(&self, entity: Entity) -> Result<EntityRef<'_>> {
        EntityRef::new(&self.world.root, entity)
    }

    /// One entity, of which several components are read or changed at once.
    ///
    /// ```
    /// # use ecsdb_core::{Component, World};
    /// # #[derive(Component, Clone, Copy)]
    /// # #[component(name = "hp", plain)]
    /// # #[repr(C)]
    /// # struct Hp(u32);
    /// # #[derive(Component, Clone, Copy)]
    /// # #[component(name = "shield", plain)]
    /// # #[repr(C)]
    /// # struct Shield(u32);
    /// # let mut world = World::new();
    /// # let mut open = world.begin();
    /// # let tx = open.transaction();
    /// # let ship = tx.spawn((Hp(10), Shield(3)));
    /// let (hp, shield) = tx.entity_mut(ship)?.get::<(&mut Hp, Option<&mut Shield>)>()?;
    /// hp.0 -= 1;
    /// if let Some(shield) = shield {
    ///     shield.0 -= 1;
    /// }
    /// # Ok::<(), ecsdb_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`].
    pub fn entity_mut(&mut self, entity: Entity) -> Result<EntityMut<'_>> {
        EntityMut::new(self.world, entity)
    }

    /// The values of one component of several entities, to be changed together. O(n²) comparisons of positions.
    ///
    /// # Errors
    /// As of [`Transaction::get_mut`], or [`Error::EntityTwice`].
    pub fn get_many_mut<T: Component, const N: usize>(
        &mut self,
        entities: [Entity; N],
    ) -> Result<[&mut T; N]> {
        for (i, entity) in entities.iter().enumerate() {
            if entities[..i].contains(entity) {
                return Err(Error::EntityTwice(*entity));
            }
            // Each is looked up, and kept as it was, before any is handed out.
            self.get_mut::<T>(*entity)?;
        }
        let world = &mut *self.world;
        let id = world.register::<T>()?;
        let lsn = world.root.lsn + 1;
        let mut row = |root: &mut Root, i: usize| {
            let location = root.index.get(entities[i])?;
            let column = root.archetype(location.archetype).shape.column_of(id)?;
            let (chunk, row) = root.archetype(location.archetype).shape.split(location.row);
            root.chunk_mut(location.archetype, chunk).columns[column].write(lsn).row_pointer::<T>(row)
        };
        let entity = entities.first().copied().unwrap_or(Entity::NONE);
        disjoint_rows(Arc::make_mut(&mut world.root), &mut row)
            .ok_or(Error::MissingComponent { entity, component: T::NAME })
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
        if world.tx.resources_kept.contains(&id) {
            // What it was at the beginning is kept; a view of the transaction may share what it is now.
            unshared(&mut resource.block);
        } else {
            let copy = Arc::new(Block::clone(&resource.block));
            let block = std::mem::replace(&mut resource.block, copy);
            let old = Resource { id, block, changed: resource.changed };
            world.tx.keep_resource(id, Some(old));
        }
        world.tx.leave();
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
                self.world.tx.keep_resource(id, old);
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
            self.world.tx.keep_resource(id, old);
        }
        Ok(had)
    }
}
