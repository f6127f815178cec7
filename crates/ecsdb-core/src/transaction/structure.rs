//! What changes which entities there are, and which components they have.

use triomphe::Arc;

use super::marks::{ColumnPlace, Origin, Saved};
use super::undo::Step;
use super::{Transaction, TransactionState};
use crate::archetype::{Archetype, Chunk};
use crate::bundle::{Bundle, BundleInfo, BundleSink, BundleSource};
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::placement::Reshape;
use crate::raw::Room;
use crate::root::Root;
use crate::world::World;

impl Transaction<'_> {
    /// Makes an entity with these components. O(components).
    ///
    /// Cannot fail by itself: what could go wrong (a layout that is not the stored one, say) fails the commit,
    /// and the id returned here is then never seen again.
    pub fn spawn<B: Bundle>(&mut self, bundle: B) -> Entity {
        let mut spawned = None;
        self.spawn_all(std::iter::once(bundle), |entity| spawned = Some(entity));
        spawned.unwrap_or(Entity::NONE)
    }

    /// Makes many entities with the same set of components. O(values).
    pub fn spawn_batch<B: Bundle>(&mut self, bundles: impl IntoIterator<Item = B>) -> Vec<Entity> {
        let bundles = bundles.into_iter();
        let mut entities = Vec::with_capacity(bundles.size_hint().0.min(1 << 20));
        self.spawn_all(bundles, |entity| entities.push(entity));
        entities
    }

    fn spawn_all<B: Bundle>(&mut self, bundles: impl Iterator<Item = B>, each: impl FnMut(Entity)) {
        self.world.tx.enter();
        if let Err(e) = self.world.spawn_all(bundles, each) {
            self.world.tx.fail(e);
        }
        self.world.tx.leave();
    }

    /// Ends the life of an entity and drops its components. O(components).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], or [`Error::Full`] when the transaction cannot keep more to be undone.
    pub fn despawn(&mut self, entity: Entity) -> Result<()> {
        self.operation(|world| world.despawn(entity))
    }

    /// Gives an entity components, replacing those it has already. O(components).
    ///
    /// # Errors
    /// As of [`Transaction::despawn`], or when a component's layout is not the stored one.
    pub fn insert<B: Bundle>(&mut self, entity: Entity, bundle: B) -> Result<()> {
        self.operation(|world| {
            let put = world.bundle::<B>()?;
            world.reshape(entity, None, Some((put, bundle)))
        })
    }

    /// Takes the components of `B` from an entity, those that it has, and gives their values back: an `Option` for each
    /// component. O(components).
    ///
    /// # Errors
    /// As of [`Transaction::despawn`], or when a component's layout is not the stored one.
    pub fn remove<B: Bundle>(&mut self, entity: Entity) -> Result<B::Removed> {
        self.operation(|world| {
            let out = world.bundle::<B>()?;
            world.locate(entity)?;
            let removed = B::copy(&BundleSource { root: &world.root, entity })?;
            world.reshape::<()>(entity, Some(out), None)?;
            Ok(removed)
        })
    }

    /// Takes all components of `B` from an entity and gives them back. O(components).
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], [`Error::MissingComponent`] when it lacks one of them, or when a component's layout is not the
    /// stored one. The entity keeps what it has.
    pub fn take<B: Bundle>(&mut self, entity: Entity) -> Result<B> {
        self.operation(|world| {
            let out = world.bundle::<B>()?;
            let taken = B::take(&BundleSource { root: &world.root, entity })?;
            world.reshape::<()>(entity, Some(out), None)?;
            Ok(taken)
        })
    }

    /// Takes the components of `Out` from an entity, those that it has, and gives it others, in one step. O(components).
    ///
    /// # Errors
    /// As of [`Transaction::insert`].
    pub fn exchange<Out: Bundle, In: Bundle>(&mut self, entity: Entity, bundle: In) -> Result<Out::Removed> {
        self.operation(|world| {
            let (out, put) = (world.bundle::<Out>()?, world.bundle::<In>()?);
            world.locate(entity)?;
            let removed = Out::copy(&BundleSource { root: &world.root, entity })?;
            world.reshape(entity, Some(out), Some((put, bundle)))?;
            Ok(removed)
        })
    }

    /// Runs an operation; a panic within it leaves the mark that it did not end.
    #[inline]
    pub(crate) fn operation<T>(&mut self, run: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.world.tx.enter();
        let result = run(self.world);
        self.world.tx.leave();
        result
    }
}

impl World {
    pub(crate) fn locate(&self, entity: Entity) -> Result<Location> {
        self.root.index.get(entity).ok_or(Error::NoSuchEntity(entity))
    }

    fn bundle_info(&self, bundle: u32) -> Arc<BundleInfo> {
        self.placement.bundle_infos[bundle as usize].clone()
    }

    fn spawn_all<B: Bundle>(
        &mut self,
        mut bundles: impl Iterator<Item = B>,
        mut each: impl FnMut(Entity),
    ) -> Result<()> {
        let bundle = self.bundle::<B>()?;
        let info = self.bundle_info(bundle);
        let lsn = self.root.lsn + 1;
        // Nothing is replaced.
        let room = self.tx.arena.room_for([].into_iter(), 0)?;
        let mut next = bundles.next();
        while next.is_some() {
            let World { root, placement, tx, .. } = self;
            let root = Arc::make_mut(root);
            let number = placement.open_chunk(root, info.archetype, lsn)?;
            let Root { archetypes, index, .. } = root;
            let Some(Archetype { shape, chunks, len, .. }) = archetypes.get_mut(info.archetype as usize)
            else {
                return Ok(());
            };
            let rows_max = shape.rows_per_chunk();
            let Some(chunk) = chunks.get_mut(number) else { return Ok(()) };
            chunk.unshare(lsn);
            tx.marks.admit(chunk);
            while chunk.len() < rows_max
                && let Some(bundle) = next.take()
            {
                let row = chunk.len();
                let entity = index.allocate()?;
                bundle.put(&mut BundleSink {
                    chunk,
                    row,
                    columns: info.columns.iter(),
                    lsn,
                    rows_max,
                    arena: &mut tx.arena,
                    room,
                    places: &mut tx.places,
                });
                debug_assert!(
                    chunk.columns.iter().all(|c| c.block.len() == row + 1),
                    "a value for each column"
                );
                chunk.push_id(entity, lsn, rows_max);
                index.place(entity, Location { archetype: info.archetype, row: shape.join(number, row) });
                *len += 1;
                tx.marks.chunk(chunk, info.archetype, number).arrive(row, Origin::New, rows_max);
                match tx.undo.last_mut() {
                    Some(Step::Spawned { archetype, chunk, rows })
                        if (*archetype, *chunk) == (info.archetype, number as u32) =>
                    {
                        *rows += 1;
                    }
                    _ => tx.undo.push(Step::Spawned {
                        archetype: info.archetype,
                        chunk: number as u32,
                        rows: 1,
                    }),
                }
                each(entity);
                next = bundles.next();
            }
            if chunk.len() == rows_max {
                placement.note_room(info.archetype, number, false);
            }
        }
        Ok(())
    }

    fn despawn(&mut self, entity: Entity) -> Result<()> {
        let location = self.locate(entity)?;
        let lsn = self.root.lsn + 1;
        let World { root, placement, tx, .. } = self;
        let root = Arc::make_mut(root);
        let (origin, room) = depart(root, tx, location, lsn)?;
        let places = tx.places.len() as u32;
        placement.take_row(root, location, lsn, (&mut tx.arena, room), &mut tx.places);
        root.index.vacate(entity);
        tx.freed.push(entity.index());
        match origin {
            Origin::New => tx.lost_generation = tx.lost_generation.max(entity.generation()),
            Origin::Here | Origin::Archetype(_) => tx.despawned.push(entity),
        }
        tx.undo.push(Step::Despawned { entity, location, places });
        Ok(())
    }

    /// Takes the components of the bundle `out` from an entity and gives it those of another.
    fn reshape<B: Bundle>(&mut self, entity: Entity, out: Option<u32>, put: Option<(u32, B)>) -> Result<()> {
        let from = self.locate(entity)?;
        let put_bundle = put.as_ref().map(|(bundle, _)| *bundle);
        let reshape = self.placement.reshape(&mut self.root, from.archetype, out, put_bundle)?;
        match (put, reshape.to == from.archetype) {
            (Some((_, bundle)), true) => self.replace(from, &reshape, bundle)?,
            (None, true) => {}
            (put, false) => self.move_row(entity, from, reshape, put.map(|(_, bundle)| bundle))?,
        }
        Ok(())
    }

    /// Puts the values of a bundle in the place of those that a row has.
    fn replace<B: Bundle>(&mut self, location: Location, reshape: &Reshape, bundle: B) -> Result<()> {
        let lsn = self.root.lsn + 1;
        let World { root, tx, .. } = self;
        let archetype = Arc::make_mut(root).archetype_mut(location.archetype);
        let (number, row) = archetype.shape.split(location.row);
        let rows_max = archetype.shape.rows_per_chunk();
        let Some(chunk) = archetype.chunks.get_mut(number) else { return Ok(()) };
        let replaced = reshape.filled.iter().map(|&(column, _)| chunk.columns[column].block.ops());
        let room = tx.arena.room_for(replaced, 1)?;
        // Copied first, since a `clone` may panic: nothing has happened then.
        for &(column, _) in &reshape.filled {
            chunk.columns[column].write(lsn);
        }
        let place = ColumnPlace { archetype: location.archetype, chunk: number as u32, column: 0 };
        put_values(bundle, chunk, place, row, reshape, lsn, rows_max, tx, room);
        Ok(())
    }

    /// Moves a row to another archetype.
    fn move_row<B: Bundle>(
        &mut self,
        entity: Entity,
        from: Location,
        reshape: Arc<Reshape>,
        bundle: Option<B>,
    ) -> Result<()> {
        let lsn = self.root.lsn + 1;
        let World { root, placement, tx, .. } = self;
        let root = Arc::make_mut(root);
        // Room first, so that nothing can fail, or call foreign code, once the row is taken out.
        let number = placement.open_chunk(root, reshape.to, lsn)?;
        root.chunk_mut(reshape.to, number).unshare(lsn);
        let (_, chunk, row) = root.row(from);
        tx.on_the_way.clear();
        for &(here, there) in &reshape.carried {
            if let Some(saved) = tx.marks.departing(&chunk.columns[here], row) {
                tx.on_the_way.push((there, saved));
            }
        }
        let (origin, room) = depart(root, tx, from, lsn)?;
        let places = tx.places.len();
        placement.take_row(root, from, lsn, (&mut tx.arena, room), &mut tx.places);

        let beginning = match origin {
            Origin::Here => Origin::Archetype(from.archetype),
            other => other,
        };
        let beginning_shape = match beginning {
            Origin::Archetype(id) => Some(root.archetype(id).shape.clone()),
            Origin::New | Origin::Here => None,
        };
        let Root { archetypes, index, .. } = root;
        let Some(Archetype { shape, chunks, len, .. }) = archetypes.get_mut(reshape.to as usize) else {
            return Ok(());
        };
        let rows_max = shape.rows_per_chunk();
        let Some(chunk) = chunks.get_mut(number) else { return Ok(()) };
        let row = chunk.len();
        for &(here, there) in &reshape.carried {
            let at = tx.places[places + here];
            chunk.columns[there].write(lsn).put_row(row, at, &mut tx.arena, rows_max);
        }
        chunk.push_id(entity, lsn, rows_max);
        index.place(entity, Location { archetype: reshape.to, row: shape.join(number, row) });
        *len += 1;
        if row + 1 == rows_max {
            placement.note_room(reshape.to, number, false);
        }

        tx.marks.admit(chunk);
        tx.undo.push(Step::Moved { entity, from, reshape: reshape.clone(), places: places as u32 });
        tx.marks.chunk(chunk, reshape.to, number).arrive(row, beginning, rows_max);
        let place = ColumnPlace { archetype: reshape.to, chunk: number as u32, column: 0 };
        for (column, saved) in tx.on_the_way.drain(..) {
            let place = ColumnPlace { column: column as u32, ..place };
            tx.marks.column(&mut chunk.columns[column], place).mark(row, saved, rows_max);
        }
        // What was there at the beginning and has come back has another value, as far as anybody knows.
        for &(column, _) in reshape.filled.iter().filter(|(_, fresh)| *fresh) {
            let id = shape.components[column];
            if beginning_shape.as_ref().is_some_and(|beginning| beginning.column_of(id).is_some()) {
                let place = ColumnPlace { column: column as u32, ..place };
                tx.marks.column(&mut chunk.columns[column], place).mark(row, Saved::Changed, rows_max);
            }
        }
        if let Some(bundle) = bundle {
            put_values(bundle, chunk, place, row, &reshape, lsn, rows_max, tx, room);
        }
        Ok(())
    }
}

/// Puts the values of a bundle into a row, of which some columns have a value yet. What they had before is kept, unless that was done.
#[allow(clippy::too_many_arguments, reason = "one place for both callers")]
fn put_values<B: Bundle>(
    bundle: B,
    chunk: &mut Chunk,
    place: ColumnPlace,
    row: usize,
    reshape: &Reshape,
    lsn: u64,
    rows_max: usize,
    tx: &mut TransactionState,
    room: Room,
) {
    let first = tx.places.len();
    let columns = reshape.filled.iter();
    bundle.put(&mut BundleSink {
        chunk,
        row,
        columns,
        lsn,
        rows_max,
        arena: &mut tx.arena,
        room,
        places: &mut tx.places,
    });
    let new = tx.marks.of_chunk(chunk).is_some_and(|marks| marks.new.contains(row));
    let replaced = reshape.filled.iter().filter(|(_, fresh)| !fresh).enumerate();
    for (i, &(column, _)) in replaced.filter(|_| !new) {
        let place = ColumnPlace { column: column as u32, ..place };
        let at = tx.places[first + i];
        let column = &mut chunk.columns[column];
        if !tx.marks.column(column, place).is_marked(row) {
            tx.saved(column, place, row, rows_max, at);
        }
    }
    tx.places.truncate(first);
}

/// Makes the chunk of a row private and takes the row out of the marks. There is room for its values, and for as many that come into their
/// place.
///
/// # Errors
/// [`Error::Full`]: nothing has happened.
fn depart(
    root: &mut Root,
    tx: &mut TransactionState,
    location: Location,
    lsn: u64,
) -> Result<(Origin, Room)> {
    let archetype = root.archetype_mut(location.archetype);
    let (number, row) = archetype.shape.split(location.row);
    let Some(chunk) = archetype.chunks.get_mut(number) else {
        unreachable!("chunk {number} of archetype {} does not exist", location.archetype)
    };
    let room = tx.room_for_row(chunk, 2)?;
    // The rows that change places are on their way while their blocks are made private.
    for column in chunk.columns.iter().chain([&chunk.entities]) {
        column.block.prefetch_row(row);
        column.block.prefetch_row(chunk.entities.block.len() - 1);
    }
    chunk.unshare(lsn);
    Ok((tx.marks.take_row(chunk, row, chunk.len() - 1), room))
}
