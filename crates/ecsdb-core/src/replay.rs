//! Replay: applying a logged change set to the world.

use ecsdb_id::Lsn;
use triomphe::Arc;

use crate::archetype::{Archetype, Chunk};
use crate::backlinks::Backlinks;
use crate::change_set::{Columns, Components, IdRun, Ids, Operation};
use crate::codec::Reader;
use crate::component::StorageKind;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::raw::{Block, Ops};
use crate::root::{Resource, Root};
use crate::schema::{ComponentDef, ComponentId};
use crate::world::World;

/// How much was replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Operations: one for each entity of a run.
    pub operations: u64,
    /// Operations on entities or components that are not there. Without damage there are none: a change set
    /// names what existed when it was made.
    pub skipped: u64,
}

impl World {
    /// Has on its way what applying this change set will look at first: most of the time of small ones is spent waiting for memory. Of any
    /// bytes.
    #[inline]
    pub fn prefetch(&self, change_set: &[u8]) {
        if let Some(entity) = Operation::first_id(change_set) {
            self.root.index.prefetch(entity.index());
        }
    }

    /// Applies a change set that was logged under `lsn`. Change sets are applied in the order of their LSNs; one
    /// that the world holds already (`lsn` not above [`World::lsn`]) is not applied again (REC-6).
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Codec`] when the bytes are no change set, with the offset. The world may
    /// then hold a part of it and must be dropped.
    pub fn apply(&mut self, lsn: Lsn, change_set: &[u8]) -> Result<Applied> {
        self.end_forgotten();
        self.replay(lsn, change_set)
    }

    /// As [`World::apply`], when nothing is forgotten.
    pub(crate) fn replay(&mut self, lsn: Lsn, change_set: &[u8]) -> Result<Applied> {
        let lsn = lsn.0;
        if lsn <= self.root.lsn {
            return Ok(Applied::default());
        }
        let mut replay = Replay {
            world: self,
            lsn,
            freed: Vec::new(),
            links: Backlinks::default(),
            applied: Applied::default(),
        };
        let mut reader = Reader::new(change_set);
        while !reader.is_empty() {
            let at = reader.at();
            let applied = Operation::decode(&mut reader).and_then(|operation| replay.operation(operation));
            applied.map_err(|e| match e {
                // Deeper layers know what is wrong, but not where.
                Error::Malformed { offset: 0, what } => Error::Malformed { offset: at, what },
                other => other,
            })?;
        }
        let Replay { world, freed, applied, .. } = replay;
        world.tx.places.clear();
        let root = Arc::make_mut(&mut world.root);
        for slot in freed {
            root.index.list_free(slot);
        }
        root.lsn = lsn;
        Ok(applied)
    }
}

struct Replay<'a> {
    world: &'a mut World,
    lsn: u64,
    freed: Vec<u32>,
    links: Backlinks,
    applied: Applied,
}

fn malformed<T>(what: &'static str) -> Result<T> {
    Err(Error::Malformed { offset: 0, what })
}

impl Replay<'_> {
    fn operation(&mut self, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Define(def) => {
                let root = Arc::make_mut(&mut self.world.root);
                Arc::make_mut(&mut root.schema).define(def)?;
            }
            Operation::Spawn { ids, columns } => self.spawn(ids, columns)?,
            Operation::Despawn { ids } => {
                for entity in ids.entities() {
                    self.applied.operations += 1;
                    let Some(location) = self.find(entity) else { continue };
                    self.take(location)?;
                    Arc::make_mut(&mut self.world.root).index.vacate(entity);
                    self.freed.push(entity.index());
                }
            }
            Operation::Put { ids, columns } => self.put(ids, columns)?,
            Operation::Remove { ids, components } => self.remove(ids, components)?,
            Operation::PutResource { id, value } => {
                self.applied.operations += 1;
                let mut block = Block::new(self.ops(id)?, 1);
                block.push_stored(value, 1).map_err(|e| self.codec(id, e))?;
                let new = Resource { id, block: Arc::new(block), changed: self.lsn };
                Arc::make_mut(&mut self.world.root).set_resource(id, Some(new));
            }
            Operation::RemoveResource { id } => {
                self.applied.operations += 1;
                Arc::make_mut(&mut self.world.root).set_resource(id, None);
            }
            Operation::Floor(floor) => Arc::make_mut(&mut self.world.root).index.raise_floor(floor),
        }
        Ok(())
    }

    /// New rows, in the order of the ids, so that they are iterated in the order in which they were.
    fn spawn(&mut self, ids: Ids<'_>, columns: Columns<'_>) -> Result<()> {
        let mut values = self.values(columns, ids.total)?;
        let components: Vec<ComponentId> = values.iter().map(|(id, _)| *id).collect();
        let World { root, placement, .. } = &mut *self.world;
        let archetype = placement.archetype_of(root, &components)?;
        let (mut left, mut entities) = (ids.total, ids.entities());
        while left > 0 {
            let root = Arc::make_mut(root);
            let number = placement.open_chunk(root, archetype, self.lsn)?;
            let Root { archetypes, index, schema, .. } = root;
            let Some(Archetype { shape, chunks, len, .. }) = archetypes.get_mut(archetype as usize) else {
                return Ok(());
            };
            let rows_max = shape.rows_per_chunk();
            let Some(chunk) = chunks.get_mut(number) else { return Ok(()) };
            chunk.unshare(self.lsn);
            let first = chunk.len();
            let rows = left.min(rows_max - first);
            for (column, (id, values)) in chunk.columns.iter_mut().zip(&mut values) {
                values.append(rows, column.write(self.lsn), rows_max, &schema.known(*id).def)?;
            }
            for (row, entity) in (first..first + rows).zip(&mut entities) {
                index.claim(entity, &mut self.links)?;
                chunk.push_id(entity, self.lsn, rows_max);
                index.place(entity, Location { archetype, row: shape.join(number, row) });
            }
            *len += rows;
            left -= rows;
            if first + rows == rows_max {
                placement.note_room(archetype, number, false);
            }
            self.applied.operations += rows as u64;
        }
        if values.iter().all(|(_, values)| values.is_empty()) {
            Ok(())
        } else {
            malformed("a column is longer than its values")
        }
    }

    /// The values of some columns, by component.
    fn values<'v>(
        &self,
        columns: impl Iterator<Item = (ComponentId, &'v [u8])>,
        rows: usize,
    ) -> Result<Vec<(ComponentId, Values<'v>)>> {
        let mut values = Vec::new();
        for (id, bytes) in columns {
            values.push((id, Values::new(self.def(id)?, bytes, rows)?));
        }
        values.sort_unstable_by_key(|(id, _)| *id);
        match values.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            true => Ok(values),
            false => malformed("an entity has one component twice"),
        }
    }

    /// Values of components, for entities that have them, or get them by this.
    fn put(&mut self, ids: Ids<'_>, mut columns: Columns<'_>) -> Result<()> {
        // Most of the time it is one column, which takes no allocation.
        let (mut one, mut several);
        let values = match (columns.len(), columns.next()) {
            (1, Some((id, bytes))) => {
                one = [(id, Values::new(self.def(id)?, bytes, ids.total)?)];
                &mut one[..]
            }
            (_, first) => {
                several = self.values(first.into_iter().chain(columns), ids.total)?;
                &mut several[..]
            }
        };
        for run in ids {
            let mut i = 0;
            while i < run.len {
                let entity = run.entity(i);
                let Some(location) = self.find(entity) else {
                    values.iter_mut().try_for_each(|(_, values)| values.skip())?;
                    i += 1;
                    continue;
                };
                let (archetype, chunk, row) = self.world.root.row(location);
                if values.iter().all(|(id, _)| archetype.shape.column_of(*id).is_some()) {
                    let span = span(chunk, row, run, i);
                    self.overwrite(location, span, values)?;
                    i += span as u32;
                } else {
                    self.add(entity, location, values)?;
                    i += 1;
                }
            }
            self.applied.operations += u64::from(run.len);
        }
        if values.iter().all(|(_, values)| values.is_empty()) {
            Ok(())
        } else {
            malformed("a column is longer than its values")
        }
    }

    /// Values of rows side by side, which have all these components: one copy where they are plain.
    fn overwrite(
        &mut self,
        location: Location,
        span: usize,
        values: &mut [(ComponentId, Values<'_>)],
    ) -> Result<()> {
        let Root { archetypes, schema, .. } = Arc::make_mut(&mut self.world.root);
        let Some(archetype) = archetypes.get_mut(location.archetype as usize) else { return Ok(()) };
        let (number, row) = archetype.shape.split(location.row);
        let Some(chunk) = archetype.chunks.get_mut(number) else { return Ok(()) };
        for (id, values) in values {
            let Some(column) = archetype.shape.column_of(*id) else { continue };
            let block = chunk.columns[column].write(self.lsn);
            let codec = |e| Error::codec(&schema.known(*id).def.name, e);
            match values.plain(span)? {
                Some(bytes) => block.overwrite_plain(row, bytes).map_err(codec)?,
                None => {
                    for row in row..row + span {
                        block.overwrite_stored(row, values.next()?).map_err(codec)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Values for an entity that does not have all the components yet: those that it lacks come in one move, as they did when it was
    /// logged, so that no row is copied, and no chunk filled, on the way to where it ends.
    fn add(
        &mut self,
        entity: Entity,
        location: Location,
        values: &mut [(ComponentId, Values<'_>)],
    ) -> Result<()> {
        let mut components = self.world.root.archetype(location.archetype).shape.components.to_vec();
        let had = components.len();
        for (id, _) in &*values {
            if !components[..had].contains(id) {
                components.push(*id);
            }
        }
        components.sort_unstable();
        self.move_row(entity, location, &components, values)
    }

    fn remove(&mut self, ids: Ids<'_>, components: Components<'_>) -> Result<()> {
        for entity in ids.entities() {
            self.applied.operations += 1;
            let Some(location) = self.find(entity) else { continue };
            let mut left = self.world.root.archetype(location.archetype).shape.components.to_vec();
            left.retain(|id| !components.clone().any(|gone| gone == *id));
            self.move_row(entity, location, &left, &mut [])?;
        }
        Ok(())
    }

    /// Moves a row to the archetype with these components. Those that it does not have get the next of these values, and so do those
    /// of which there are some.
    fn move_row(
        &mut self,
        entity: Entity,
        from: Location,
        components: &[ComponentId],
        values: &mut [(ComponentId, Values<'_>)],
    ) -> Result<()> {
        let lsn = self.lsn;
        let World { root, placement, tx, .. } = &mut *self.world;
        let to = placement.archetype_of(root, components)?;
        if to == from.archetype {
            return Ok(());
        }
        let root = Arc::make_mut(root);
        let old = root.archetype(from.archetype).shape.clone();
        let number = placement.open_chunk(root, to, lsn)?;
        root.chunk_mut(to, number).unshare(lsn);
        let chunk = root.chunk_mut(from.archetype, old.split(from.row).0);
        chunk.unshare(lsn);
        tx.places.clear();
        let room = tx.room_for_row(chunk, 1)?;
        placement.take_row(root, from, lsn, (&mut tx.arena, room), &mut tx.places);
        let Root { archetypes, index, schema, .. } = root;
        let Some(Archetype { shape, chunks, len, .. }) = archetypes.get_mut(to as usize) else {
            return Ok(());
        };
        let rows_max = shape.rows_per_chunk();
        let Some(chunk) = chunks.get_mut(number) else { return Ok(()) };
        let row = chunk.len();
        for (&id, column) in shape.components.iter().zip(&mut chunk.columns) {
            let block = column.write(lsn);
            let codec = |e| Error::codec(&schema.known(id).def.name, e);
            let new = values.iter_mut().find(|(new, _)| *new == id);
            match (old.column_of(id), new) {
                (_, Some((_, values))) => block.push_stored(values.next()?, rows_max).map_err(codec)?,
                (Some(here), None) => block.put_row(row, tx.places[here], &mut tx.arena, rows_max),
                (None, None) => return malformed("a row lacks a component of its archetype"),
            }
        }
        chunk.push_id(entity, lsn, rows_max);
        index.place(entity, Location { archetype: to, row: shape.join(number, row) });
        *len += 1;
        if row + 1 == rows_max {
            placement.note_room(to, number, false);
        }
        // Nothing is undone here, so that one row is kept at a time, however many there are.
        tx.arena.clear();
        Ok(())
    }

    /// Takes a row out for good.
    fn take(&mut self, location: Location) -> Result<()> {
        let World { root, placement, tx, .. } = &mut *self.world;
        let root = Arc::make_mut(root);
        let chunk = root.archetype(location.archetype).shape.split(location.row).0;
        let chunk = root.chunk_mut(location.archetype, chunk);
        chunk.unshare(self.lsn);
        tx.places.clear();
        let room = tx.room_for_row(chunk, 1)?;
        placement.take_row(root, location, self.lsn, (&mut tx.arena, room), &mut tx.places);
        tx.arena.clear();
        Ok(())
    }

    fn find(&mut self, entity: Entity) -> Option<Location> {
        let location = self.world.root.index.get(entity);
        self.applied.skipped += u64::from(location.is_none());
        location
    }

    /// The definition of a stored component.
    fn def(&self, id: ComponentId) -> Result<&ComponentDef> {
        match self.world.root.schema.entry(id) {
            Some(entry) if entry.def.kind != StorageKind::Transient => Ok(&entry.def),
            _ => malformed("a component is used before it is defined"),
        }
    }

    fn ops(&self, id: ComponentId) -> Result<Ops> {
        self.def(id).map(|def| self.world.root.schema.known(def.id).ops)
    }

    fn codec(&self, id: ComponentId, e: crate::CodecError) -> Error {
        Error::codec(&self.world.root.schema.known(id).def.name, e)
    }
}

/// How many ids of a run, from its `i`-th on, stand in this order in a chunk, from `row` on, where the `i`-th is. A single one costs no look.
fn span(chunk: &Chunk, row: usize, run: IdRun, i: u32) -> usize {
    let more = (i + 1..run.len).zip(row + 1..);
    1 + more.take_while(|&(i, row)| chunk.ids().get(row) == Some(&run.entity(i))).count()
}

/// The values of a column.
struct Values<'a> {
    reader: Reader<'a>,
    /// Bytes of a value; `None` when each has its length before it.
    size: Option<usize>,
}

impl<'a> Values<'a> {
    fn new(def: &ComponentDef, bytes: &'a [u8], rows: usize) -> Result<Self> {
        let size = (def.kind == StorageKind::Plain).then_some(def.size as usize);
        if size.is_some_and(|size| size.checked_mul(rows) != Some(bytes.len())) {
            return malformed("a column has not as many bytes as its values");
        }
        Ok(Values { reader: Reader::new(bytes), size })
    }

    fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The next values, where they are plain.
    fn plain(&mut self, rows: usize) -> Result<Option<&'a [u8]>> {
        self.size.map(|size| self.reader.take(size * rows)).transpose()
    }

    fn next(&mut self) -> Result<&'a [u8]> {
        match self.size {
            Some(size) => self.reader.take(size),
            None => self.reader.bytes(),
        }
    }

    fn skip(&mut self) -> Result<()> {
        self.next().map(drop)
    }

    /// Appends the next values to a block.
    fn append(&mut self, rows: usize, block: &mut Block, rows_max: usize, def: &ComponentDef) -> Result<()> {
        let codec = |e| Error::codec(&def.name, e);
        if let Some(bytes) = self.plain(rows)? {
            return block.push_plain(bytes, rows, rows_max).map_err(codec);
        }
        for _ in 0..rows {
            block.push_stored(self.next()?, rows_max).map_err(codec)?;
        }
        Ok(())
    }
}
