//! The transaction: changes to the live world, with what it takes to undo them and to write them down.

use bytes::Bytes;
use triomphe::Arc;

use crate::archetype::Column;
use crate::bundle::{Bundle, BundleInfo, BundleSink, BundleVisitor};
use crate::codec::{Op, put_entity, put_varint};
use crate::component::{Component, StorageKind};
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::query::{Query, QueryIter, Walk};
use crate::raw::{Block, Ops, TypeOps};
use crate::schema::ComponentId;
use crate::undo::{Image, Old, Undo};
use crate::world::{Resource, World};

/// The buffers of the transaction under way, kept by the world so that a small transaction allocates nothing.
#[derive(Default)]
pub(crate) struct TransactionState {
    /// Counts transactions, rolled back ones included; marks what this one has an image of.
    pub(crate) sequence: u64,
    pub(crate) ops: Vec<u8>,
    /// Blocks that belong into `ops` at an offset.
    pub(crate) shared: Vec<(usize, Bytes)>,
    pub(crate) undo: Vec<Undo>,
    /// Before-images of plain values.
    pub(crate) undo_bytes: Vec<u8>,
    /// Positions in `undo` of the column images, in order; `None` once logged.
    pub(crate) images: Vec<Option<usize>>,
    /// Slots vacated, to be given out again once this is committed.
    freed: Vec<u32>,
    /// What a method that returns no `Result` could not do: the commit will fail with it.
    failed: Option<Error>,
    prepared: bool,
    pub(crate) scratch: Vec<u8>,
    pub(crate) values: Vec<u8>,
}

impl TransactionState {
    /// Keeps the column as it is, once a transaction: for rollback, and to tell at the end what was changed.
    pub(crate) fn image(
        &mut self,
        column: &mut Column,
        archetype: u32,
        chunk: usize,
        index: usize,
        lsn: u64,
    ) {
        column.changed = lsn;
        if column.imaged.0 != self.sequence {
            let old = column.clone();
            column.imaged = (self.sequence, self.images.len() as u32);
            self.images.push(Some(self.undo.len()));
            self.undo.push(Undo::Image(Image { archetype, chunk: chunk as u32, column: index as u32, old }));
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    fn clear(&mut self) {
        self.ops.clear();
        self.shared.clear();
        self.undo.clear();
        self.undo_bytes.clear();
        self.images.clear();
        self.freed.clear();
        self.failed = None;
        self.prepared = false;
    }
}

/// What a transaction changed, as bytes for a log: `inline`, with each of `shared` inserted before the byte of
/// `inline` at its offset. Empty when nothing that is stored was changed.
#[derive(Debug, Clone, Copy)]
pub struct ChangeSet<'a> {
    /// The encoded operations.
    pub inline: &'a [u8],
    /// Whole columns, by reference: (offset in `inline`, bytes), offsets ascending.
    pub shared: &'a [(usize, Bytes)],
}

impl ChangeSet<'_> {
    /// True when there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.inline.is_empty()
    }

    /// The bytes in one piece. O(n).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut from = 0;
        for (at, block) in self.shared {
            bytes.extend_from_slice(&self.inline[from..*at]);
            bytes.extend_from_slice(block);
            from = *at;
        }
        bytes.extend_from_slice(&self.inline[from..]);
        bytes
    }
}

/// Changes to the world that happen together or not at all.
///
/// The changes are visible to this transaction at once. Dropping it, or an error of [`Transaction::prepare`],
/// undoes them all.
pub struct Transaction<'w> {
    world: &'w mut World,
    finished: bool,
}

impl<'w> Transaction<'w> {
    pub(crate) fn begin(world: &'w mut World) -> Self {
        world.tx.clear();
        world.tx.sequence += 1;
        Transaction { world, finished: false }
    }

    /// The LSN this transaction will have at the least: what changed chunks are marked with.
    #[inline]
    fn lsn(&self) -> u64 {
        self.world.root.lsn + 1
    }

    /// Makes an entity with these components. O(components).
    ///
    /// Cannot fail by itself: what could go wrong (a layout that is not the stored one, say) fails the commit,
    /// and the id returned here is then never seen again.
    pub fn spawn<B: Bundle>(&mut self, bundle: B) -> Entity {
        match self.try_spawn(bundle) {
            Ok(entity) => entity,
            Err(e) => {
                self.world.tx.fail(e);
                Entity::NONE
            }
        }
    }

    fn try_spawn<B: Bundle>(&mut self, bundle: B) -> Result<Entity> {
        let info = self.world.bundle::<B>()?;
        self.encode_values(&bundle)?;
        let (entity, _) = self.add_row(bundle, &info)?;
        let tx = &mut self.world.tx;
        tx.ops.push(Op::Spawn as u8);
        put_entity(&mut tx.ops, entity);
        put_varint(&mut tx.ops, info.stored as u64);
        tx.ops.extend_from_slice(&tx.values);
        Ok(entity)
    }

    /// A new entity with a row of its own; the values are not logged yet.
    fn add_row<B: Bundle>(&mut self, bundle: B, info: &BundleInfo) -> Result<(Entity, Location)> {
        let lsn = self.lsn();
        self.make_room(info.archetype)?;
        let entity = Arc::make_mut(&mut self.world.root).index.allocate()?;
        let location = self.world.push_row(entity, info.archetype, lsn, |chunk, rows_max| {
            bundle.put(&mut BundleSink { chunk, columns: info.columns.iter(), lsn, rows_max });
        })?;
        self.world.tx.undo.push(Undo::Spawn(entity));
        Ok((entity, location))
    }

    /// Makes many entities with the same set of components; logged as runs of columns. O(values).
    pub fn spawn_batch<B: Bundle>(&mut self, bundles: impl IntoIterator<Item = B>) -> Vec<Entity> {
        let bundles = bundles.into_iter();
        let mut entities = Vec::with_capacity(bundles.size_hint().0);
        if let Err(e) = self.try_spawn_batch(bundles, &mut entities) {
            self.world.tx.fail(e);
        }
        entities
    }

    fn try_spawn_batch<B: Bundle>(
        &mut self,
        bundles: impl Iterator<Item = B>,
        entities: &mut Vec<Entity>,
    ) -> Result<()> {
        let info = self.world.bundle::<B>()?;
        let shape = self.world.root.archetype(info.archetype).shape.clone();
        let mut logged = entities.len();
        let mut start: Option<Location> = None;
        for bundle in bundles {
            let (entity, location) = self.add_row(bundle, &info)?;
            if let Some(first) = start
                && shape.split(first.row).0 != shape.split(location.row).0
            {
                self.log_spawned(first, &entities[logged..])?;
                logged = entities.len();
                start = None;
            }
            entities.push(entity);
            start.get_or_insert(location);
        }
        match start {
            Some(first) => self.log_spawned(first, &entities[logged..]),
            None => Ok(()),
        }
    }

    /// Ends the life of an entity and drops its components. O(components).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`].
    pub fn despawn(&mut self, entity: Entity) -> Result<()> {
        let location = self.locate(entity)?;
        let lsn = self.lsn();
        self.close_images(location)?;
        let values = self.world.take_row(location, lsn);
        Arc::make_mut(&mut self.world.root).index.vacate(entity);
        let tx = &mut self.world.tx;
        tx.freed.push(entity.index());
        tx.undo.push(Undo::Despawn { entity, location, values });
        tx.ops.push(Op::Despawn as u8);
        put_entity(&mut tx.ops, entity);
        Ok(())
    }

    /// Gives an entity components, replacing those it has already. O(components).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], or when a component's layout is not the stored one.
    pub fn insert<B: Bundle>(&mut self, entity: Entity, bundle: B) -> Result<()> {
        let info = self.world.bundle::<B>()?;
        let from = self.locate(entity)?;
        self.encode_values(&bundle)?;
        let lsn = self.lsn();
        let old_shape = self.world.root.archetype(from.archetype).shape.clone();
        let mut components: Vec<ComponentId> = old_shape.components.to_vec();
        components.extend(info.components.iter().filter(|&&id| old_shape.column_of(id).is_none()));
        components.sort_unstable();

        // The new values land in a chunk of the bundle's own archetype first, and are moved from there: one
        // way for values to come in, whatever the target.
        let to = self.world.archetype_of(&components)?;
        self.make_room(info.archetype)?;
        let staged = self.world.push_row(entity, info.archetype, lsn, |chunk, rows_max| {
            bundle.put(&mut BundleSink { chunk, columns: info.columns.iter(), lsn, rows_max });
        })?;
        let new_values = self.world.take_row(staged, lsn);
        let mut sorted = info.components.to_vec();
        sorted.sort_unstable();
        let root = Arc::make_mut(&mut self.world.root);
        root.index.place(entity, from);

        if to == from.archetype {
            for (id, mut value) in sorted.into_iter().zip(new_values) {
                let column = old_shape.column_of(id).unwrap_or_else(|| unreachable!("the archetype has it"));
                let (chunk, row) = old_shape.split(from.row);
                let block = self.world.chunk_mut(from.archetype, chunk).columns[column].write(lsn);
                block.exchange(row, &mut value);
                self.world.tx.undo.push(Undo::Write {
                    entity,
                    component: id,
                    old: Old::Value(value),
                    log: false,
                });
            }
        } else {
            // Room first, so that nothing can fail once the row is taken out.
            self.make_room(to)?;
            self.close_images(from)?;
            let old_values = self.world.take_row(from, lsn);
            let mut replaced = Vec::new();
            let mut all: Vec<(ComponentId, Block)> =
                old_shape.components.iter().copied().zip(old_values).collect();
            for (id, value) in sorted.into_iter().zip(new_values) {
                match all.iter_mut().find(|(have, _)| *have == id) {
                    Some((_, old)) => replaced.push((id, std::mem::replace(old, value))),
                    None => all.push((id, value)),
                }
            }
            all.sort_unstable_by_key(|(id, _)| *id);
            self.place_row(entity, to, all, lsn)?;
            self.world.tx.undo.push(Undo::Migrate { entity, from, missing: replaced });
        }
        if info.stored > 0 {
            let tx = &mut self.world.tx;
            tx.ops.push(Op::Insert as u8);
            put_entity(&mut tx.ops, entity);
            put_varint(&mut tx.ops, info.stored as u64);
            tx.ops.extend_from_slice(&tx.values);
        }
        Ok(())
    }

    /// Takes the components of `B` from an entity, those that it has. True when it had any. O(components).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`].
    pub fn remove<B: Bundle>(&mut self, entity: Entity) -> Result<bool> {
        let info = self.world.bundle::<B>()?;
        let from = self.locate(entity)?;
        let lsn = self.lsn();
        let old_shape = self.world.root.archetype(from.archetype).shape.clone();
        let kept: Vec<ComponentId> =
            old_shape.components.iter().copied().filter(|id| !info.components.contains(id)).collect();
        if kept.len() == old_shape.components.len() {
            return Ok(false);
        }
        let to = self.world.archetype_of(&kept)?;
        self.make_room(to)?;
        self.close_images(from)?;
        let values = self.world.take_row(from, lsn);
        let (all, missing): (Vec<_>, Vec<_>) =
            old_shape.components.iter().copied().zip(values).partition(|(id, _)| kept.contains(id));
        let World { root, tx, .. } = &mut *self.world;
        let stored: Vec<_> = missing
            .iter()
            .map(|(id, _)| *id)
            .filter(|&id| root.schema.known(id).def.kind != StorageKind::Transient)
            .collect();
        if !stored.is_empty() {
            tx.ops.push(Op::Remove as u8);
            put_entity(&mut tx.ops, entity);
            put_varint(&mut tx.ops, stored.len() as u64);
            for id in stored {
                put_varint(&mut tx.ops, u64::from(id.0));
            }
        }
        self.place_row(entity, to, all, lsn)?;
        self.world.tx.undo.push(Undo::Migrate { entity, from, missing });
        Ok(true)
    }

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
        let location = self.locate(entity)?;
        let World { root, tx, .. } = &mut *self.world;
        let missing = || Error::MissingComponent { entity, component: T::NAME };
        // Looked up before anything is copied, so that an error costs nothing.
        let shape = &root.archetype(location.archetype).shape;
        let column = shape.column_of(id).ok_or_else(missing)?;
        let (chunk, row) = shape.split(location.row);
        let block = Arc::make_mut(root)
            .archetypes
            .get_mut(location.archetype as usize)
            .and_then(|archetype| archetype.chunks.get_mut(chunk))
            .map(|chunk| chunk.columns[column].write(lsn))
            .ok_or_else(missing)?;
        let old = match block.row_bytes(row) {
            Some(bytes) => {
                let at = tx.undo_bytes.len();
                tx.undo_bytes.extend_from_slice(bytes);
                Old::Bytes { at, len: bytes.len() as u32 }
            }
            None => Old::Value(block.clone_row(row)),
        };
        tx.undo.push(Undo::Write {
            entity,
            component: id,
            old,
            log: T::STORAGE.kind() != StorageKind::Transient,
        });
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
        let World { root, tx, .. } = &mut *self.world;
        let schema = root.schema.clone();
        let archetypes = Arc::make_mut(root).archetypes.iter_mut().enumerate();
        QueryIter::new(Some(Walk::Unique { archetypes, chunks: None, state: tx, lsn }), schema)
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
        let World { root, tx, .. } = &mut *self.world;
        let resource = Arc::make_mut(root)
            .resources
            .iter_mut()
            .find(|resource| resource.id == id)
            .ok_or(Error::NoSuchResource(T::NAME))?;
        tx.undo.push(Undo::Resource { id, old: Some(resource.clone()) });
        resource.changed = lsn;
        Arc::make_mut(&mut resource.block)
            .slice_mut::<T>()
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
                let old = self.world.set_resource(id, Some(new));
                self.world.tx.undo.push(Undo::Resource { id, old });
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
        let old = self.world.set_resource(id, None);
        let had = old.is_some();
        if had {
            self.world.tx.undo.push(Undo::Resource { id, old });
        }
        Ok(had)
    }

    /// Finishes the change set, to be logged before [`Transaction::commit`]. No change may follow.
    ///
    /// # Errors
    /// What an infallible method (such as [`Transaction::spawn`]) could not do, or a value that cannot be encoded.
    /// The transaction is to be dropped then, which rolls it back.
    pub fn prepare(&mut self) -> Result<ChangeSet<'_>> {
        if let Some(e) = self.world.tx.failed.take() {
            return Err(e);
        }
        if !self.world.tx.prepared {
            self.world.log_changes()?;
            self.world.tx.prepared = true;
        }
        Ok(ChangeSet { inline: &self.world.tx.ops, shared: &self.world.tx.shared })
    }

    /// Makes the changes permanent under `lsn`, the one under which the change set was logged; with an empty
    /// change set, the last commit's. O(entities despawned).
    pub fn commit(mut self, lsn: u64) {
        self.finished = true;
        let World { root, writer, tx } = &mut *self.world;
        if !tx.ops.is_empty() {
            writer.undefined.clear();
            writer.retired.clear();
        }
        if !tx.freed.is_empty() || root.lsn != lsn {
            let root = Arc::make_mut(root);
            for &slot in &tx.freed {
                root.index.list_free(slot);
            }
            root.lsn = lsn;
        }
        tx.clear();
    }

    fn locate(&self, entity: Entity) -> Result<Location> {
        self.world.root.index.get(entity).ok_or(Error::NoSuchEntity(entity))
    }

    /// Encodes a bundle's stored values into the scratch buffer for the operation to come. An archived value
    /// that cannot be encoded is refused here, before anything is changed (WAL-1).
    fn encode_values<B: Bundle>(&mut self, bundle: &B) -> Result<()> {
        let World { root, tx, .. } = &mut *self.world;
        tx.values.clear();
        let mut visitor = BundleVisitor {
            schema: &root.schema,
            out: &mut tx.values,
            scratch: &mut tx.scratch,
            failed: None,
        };
        bundle.visit(&mut visitor);
        match visitor.failed {
            Some((component, e)) => Err(Error::codec(component, e)),
            None => Ok(()),
        }
    }

    /// Appends a row of given values, sorted by component.
    fn place_row(
        &mut self,
        entity: Entity,
        archetype: u32,
        values: Vec<(ComponentId, Block)>,
        lsn: u64,
    ) -> Result<()> {
        self.world.push_row(entity, archetype, lsn, |chunk, rows_max| {
            for (column, (_, mut value)) in chunk.columns.iter_mut().zip(values) {
                value.swap_remove_into(0, column.write(lsn), rows_max);
            }
        })?;
        Ok(())
    }

    /// Makes sure that the next row of an archetype has a chunk to go to, and that its coming disturbs no image.
    fn make_room(&mut self, archetype: u32) -> Result<()> {
        let lsn = self.lsn();
        let (_, chunk) = self.world.open_chunk(archetype, lsn)?;
        let row = self.world.root.archetype(archetype).shape.join(chunk, 0);
        self.close_images(Location { archetype, row })
    }

    /// Before a row enters or leaves a chunk: what was changed in columns handed out whole is logged now, while
    /// rows and images still correspond, and what is changed from here on needs an image of its own, to be undone
    /// before the row's coming or going is.
    fn close_images(&mut self, location: Location) -> Result<()> {
        let sequence = self.world.tx.sequence;
        let archetype = self.world.root.archetype(location.archetype);
        let (chunk_index, _) = archetype.shape.split(location.row);
        let Some(chunk) = archetype.chunks.get(chunk_index) else { return Ok(()) };
        if !chunk.columns.iter().any(|column| column.imaged.0 == sequence) {
            return Ok(());
        }
        for column in 0..chunk.columns.len() {
            let (imaged_by, image) =
                self.world.chunk_mut(location.archetype, chunk_index).columns[column].imaged;
            if imaged_by == sequence {
                self.world.log_image(image as usize)?;
                self.world.chunk_mut(location.archetype, chunk_index).columns[column].imaged = (0, 0);
            }
        }
        Ok(())
    }

    fn log_spawned(&mut self, first: Location, entities: &[Entity]) -> Result<()> {
        self.world.log_spawn_run(first, entities)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.world.roll_back();
            self.world.tx.clear();
        }
    }
}
