//! One entity, of which several components are read or changed at once.

use triomphe::Arc;

use super::iter::take_columns;
use super::{Found, Place, Query, ReadQuery, Slot, Slots};
use crate::archetype::Shape;
use crate::component::Component;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::root::Root;
use crate::schema::Schema;
use crate::transaction::ColumnPlace;
use crate::world::World;

/// An entity to be read.
#[derive(Clone, Copy)]
pub struct EntityRef<'a> {
    root: &'a Root,
    entity: Entity,
    location: Location,
}

/// An entity to be changed.
pub struct EntityMut<'a> {
    world: &'a mut World,
    entity: Entity,
    location: Location,
}

fn find<Q: Query>(schema: &Schema, shape: &Shape, entity: Entity) -> Result<Found> {
    let mut found = Found::new();
    if Q::find(schema, shape, &mut found) { Ok(found) } else { Err(Error::NoMatch(entity)) }
}

impl<'a> EntityRef<'a> {
    pub(crate) fn new(root: &'a Root, entity: Entity) -> Result<Self> {
        let location = root.index.get(entity).ok_or(Error::NoSuchEntity(entity))?;
        Ok(EntityRef { root, entity, location })
    }

    /// Its id.
    pub fn id(&self) -> Entity {
        self.entity
    }

    /// True when it has the component.
    pub fn has<T: Component>(&self) -> bool {
        let shape = &self.root.archetype(self.location.archetype).shape;
        self.root.schema.id_of::<T>().is_some_and(|id| shape.column_of(id).is_some())
    }

    /// What the query asks for. O(terms).
    ///
    /// # Errors
    /// [`Error::NoMatch`] when it does not have all that, or [`Error::NotRegistered`].
    pub fn get<Q: ReadQuery>(&self) -> Result<Q::Item<'a>> {
        let () = Q::VALID;
        Q::check(&self.root.schema)?;
        let (archetype, chunk, row) = self.root.row(self.location);
        let found = find::<Q>(&self.root.schema, &archetype.shape, self.entity)?;
        let mut slots = Slots::new();
        for place in &found {
            if let Place::Read(column) = *place {
                slots.push((column, Slot::Shared(&chunk.columns[column].block)));
            }
        }
        let slices = Q::slices(&mut found.iter(), &mut slots, chunk.ids());
        slices.and_then(|slices| Q::rows(slices).nth(row)).ok_or(Error::NoMatch(self.entity))
    }
}

impl<'a> EntityMut<'a> {
    pub(crate) fn new(world: &'a mut World, entity: Entity) -> Result<Self> {
        let location = world.locate(entity)?;
        Ok(EntityMut { world, entity, location })
    }

    /// Its id.
    pub fn id(&self) -> Entity {
        self.entity
    }

    /// True when it has the component.
    pub fn has<T: Component>(&self) -> bool {
        EntityRef { root: &self.world.root, entity: self.entity, location: self.location }.has::<T>()
    }

    /// What the query asks for. Values to be changed are kept as they were, as [`get_mut`](crate::Transaction::get_mut) does.
    /// O(terms).
    ///
    /// # Errors
    /// [`Error::NoMatch`] when it does not have all that, [`Error::Full`], or when a component's type is not the stored one.
    pub fn get<Q: Query>(self) -> Result<Q::Item<'a>> {
        let () = Q::VALID;
        Q::register(self.world)?;
        let World { root, tx, .. } = self.world;
        let (lsn, entity) = (root.lsn + 1, self.entity);
        let root = Arc::make_mut(root);
        let archetype = root.archetype(self.location.archetype);
        let found = find::<Q>(&root.schema, &archetype.shape, entity)?;
        let (number, row) = archetype.shape.split(self.location.row);
        let rows_max = archetype.shape.rows_per_chunk();
        let chunk = root.chunk_mut(self.location.archetype, number);
        tx.enter();
        let kept = found.iter().try_for_each(|place| {
            if let Place::Write(column) = *place {
                let (archetype, chunk_number) = (self.location.archetype, number as u32);
                let place = ColumnPlace { archetype, chunk: chunk_number, column: column as u32 };
                tx.cell(chunk, place, row, rows_max, lsn)?;
            }
            Ok(())
        });
        tx.leave();
        kept?;
        let mut slots = Slots::new();
        let ids = take_columns(chunk, &found, &mut slots);
        let slices = Q::slices(&mut found.iter(), &mut slots, ids);
        slices.and_then(|slices| Q::rows(slices).nth(row)).ok_or(Error::NoMatch(entity))
    }
}
