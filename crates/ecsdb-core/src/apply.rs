//! Replay: applying a logged change set to the world.

use triomphe::Arc;

use crate::backlinks::Backlinks;
use crate::codec::{IdRun, Op, Reader};
use crate::component::StorageKind;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::raw::{Block, Ops};
use crate::schema::{ComponentDef, ComponentId};
use crate::world::{Resource, World};

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
    /// Applies a change set that was logged under `lsn`. Change sets are applied in the order of their LSNs; one
    /// that the world holds already (`lsn` not above [`World::lsn`]) is not applied again (REC-6).
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Codec`] when the bytes are no change set, with the offset. The world may
    /// then hold a part of it and must be dropped.
    pub fn apply(&mut self, lsn: u64, change_set: &[u8]) -> Result<Applied> {
        let mut applied = Applied::default();
        if lsn <= self.root.lsn {
            return Ok(applied);
        }
        let mut replay = Replay {
            world: self,
            lsn,
            reader: Reader::new(change_set),
            runs: Vec::new(),
            freed: Vec::new(),
            links: Backlinks::default(),
            applied: &mut applied,
        };
        while !replay.reader.is_empty() {
            let at = replay.reader.at();
            replay.operation().map_err(|e| match e {
                // Deeper layers know what is wrong, but not where.
                Error::Malformed { offset: 0, what } => Error::Malformed { offset: at, what },
                other => other,
            })?;
        }
        let freed = replay.freed;
        let root = Arc::make_mut(&mut self.root);
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
    reader: Reader<'a>,
    runs: Vec<IdRun>,
    freed: Vec<u32>,
    links: Backlinks,
    applied: &'a mut Applied,
}

impl<'a> Replay<'a> {
    fn operation(&mut self) -> Result<()> {
        let Some(op) = Op::from_byte(self.reader.byte()?) else {
            return self.reader.malformed("this is no operation that this version knows");
        };
        self.applied.operations += 1;
        match op {
            Op::DefineComponent => {
                let def = take_def(&mut self.reader)?;
                let root = Arc::make_mut(&mut self.world.root);
                Arc::make_mut(&mut root.schema).define(def)?;
                Ok(())
            }
            Op::Spawn => {
                let entity = self.reader.entity()?;
                let values = self.values()?;
                self.claim(entity)?;
                self.place(entity, values)
            }
            Op::SpawnRun => self.spawn_run(),
            Op::Despawn => {
                let entity = self.reader.entity()?;
                let Some(location) = self.find(entity) else { return Ok(()) };
                self.world.take_row(location, self.lsn);
                Arc::make_mut(&mut self.world.root).index.vacate(entity);
                self.freed.push(entity.index());
                Ok(())
            }
            Op::Insert => {
                let entity = self.reader.entity()?;
                let mut values = self.values()?;
                let Some(location) = self.find(entity) else { return Ok(()) };
                let kept = self.take(location);
                values.extend(
                    kept.into_iter()
                        .filter(|(id, _)| !values.iter().any(|(new, _)| new == id))
                        .collect::<Vec<_>>(),
                );
                self.place(entity, values)
            }
            Op::Remove => {
                let entity = self.reader.entity()?;
                let n = self.reader.varint()?;
                let mut removed = Vec::new();
                for _ in 0..n {
                    removed.push(ComponentId(self.reader.varint_u32()?));
                }
                let Some(location) = self.find(entity) else { return Ok(()) };
                let mut values = self.take(location);
                values.retain(|(id, _)| !removed.contains(id));
                self.place(entity, values)
            }
            Op::Write => {
                let entity = self.reader.entity()?;
                let id = self.component()?;
                let value = self.value(id)?;
                if let Some(location) = self.find(entity) {
                    self.write(location, id, value)?;
                }
                Ok(())
            }
            Op::WriteRun => self.write_run(),
            Op::PutResource => {
                let id = self.component()?;
                let value = self.value(id)?;
                let mut block = Block::new(self.ops(id), 1);
                block.push_stored(value, 1).map_err(|e| self.codec(id, e))?;
                self.world.set_resource(id, Some(Resource { id, block: Arc::new(block), changed: self.lsn }));
                Ok(())
            }
            Op::RemoveResource => {
                let id = self.component()?;
                self.world.set_resource(id, None);
                Ok(())
            }
            Op::Retire => {
                let (index, generation) = (self.reader.varint_u32()?, self.reader.varint_u32()?);
                Arc::make_mut(&mut self.world.root).index.retire(index, generation, &mut self.links)
            }
        }
    }

    fn spawn_run(&mut self) -> Result<()> {
        let n = self.reader.varint()?;
        let mut components = Vec::new();
        for _ in 0..n {
            components.push(self.component()?);
        }
        let mut runs = std::mem::take(&mut self.runs);
        let total = self.reader.ids(&mut runs)?;
        let mut columns: Vec<(ComponentId, Block)> =
            components.iter().map(|&id| (id, Block::new(self.ops(id), 0))).collect();
        for (id, block) in &mut columns {
            for _ in 0..total {
                let value = self.value(*id)?;
                block.push_stored(value, total).map_err(|e| self.codec(*id, e))?;
            }
        }
        if !sort_distinct(&mut columns) {
            return self.reader.malformed("an entity has one component twice");
        }
        let sorted: Vec<_> = columns.iter().map(|(id, _)| *id).collect();
        let archetype = self.world.archetype_of(&sorted)?;
        // From the last id to the first, since a block gives up its last row without moving another.
        let entities: Vec<Entity> = runs.iter().flat_map(|run| run.ids()).collect();
        for &entity in &entities {
            self.claim(entity)?;
        }
        for (row, &entity) in entities.iter().enumerate().rev() {
            self.world.push_row(entity, archetype, self.lsn, |chunk, rows_max| {
                for (column, (_, values)) in chunk.columns.iter_mut().zip(&mut columns) {
                    values.swap_remove_into(row, column.write(self.lsn), rows_max);
                }
            })?;
        }
        self.applied.operations += total as u64;
        self.runs = runs;
        Ok(())
    }

    fn write_run(&mut self) -> Result<()> {
        let id = self.component()?;
        let mut runs = std::mem::take(&mut self.runs);
        self.reader.ids(&mut runs)?;
        for run in &runs {
            let mut i = 0;
            while i < run.len {
                let entity = run.entity(i);
                i += match self.find(entity) {
                    Some(location) => self.write_span(location, id, *run, i)?,
                    None => {
                        self.value(id)?;
                        1
                    }
                };
            }
            self.applied.operations += u64::from(run.len);
        }
        self.runs = runs;
        Ok(())
    }

    /// Writes the values of as many ids of a run, from its `i`-th on, as stand in this order in one chunk: one
    /// copy where they are plain. Returns their number, at least 1.
    fn write_span(&mut self, location: Location, id: ComponentId, run: IdRun, i: u32) -> Result<u32> {
        let archetype = self.world.root.archetype(location.archetype);
        let (chunk_index, row) = archetype.shape.split(location.row);
        let size = self.ops(id).size();
        let column = archetype.shape.column_of(id);
        let (Some(column), true, Some(chunk)) =
            (column, self.ops(id).is_plain(), archetype.chunks.get(chunk_index))
        else {
            let value = self.value(id)?;
            self.write(location, id, value)?;
            return Ok(1);
        };
        let span = chunk.ids()[row..]
            .iter()
            .zip(i..run.len)
            .take_while(|&(&found, i)| found == run.entity(i))
            .count();
        let bytes = self.reader.take(size * span)?;
        let block = self.world.chunk_mut(location.archetype, chunk_index).columns[column].write(self.lsn);
        if let Some(rows) = block.bytes_mut().and_then(|rows| rows.get_mut(row * size..(row + span) * size)) {
            rows.copy_from_slice(bytes);
        }
        Ok(span as u32)
    }

    /// Writes one value from its stored form.
    fn write(&mut self, location: Location, id: ComponentId, value: &[u8]) -> Result<()> {
        let shape = self.world.root.archetype(location.archetype).shape.clone();
        let Some(column) = shape.column_of(id) else {
            self.applied.skipped += 1;
            return Ok(());
        };
        let mut new = Block::new(self.ops(id), 1);
        new.push_stored(value, 1).map_err(|e| self.codec(id, e))?;
        let (chunk, row) = shape.split(location.row);
        self.world.chunk_mut(location.archetype, chunk).columns[column]
            .write(self.lsn)
            .exchange(row, &mut new);
        Ok(())
    }

    fn find(&mut self, entity: Entity) -> Option<Location> {
        let location = self.world.root.index.get(entity);
        self.applied.skipped += u64::from(location.is_none());
        location
    }

    fn claim(&mut self, entity: Entity) -> Result<()> {
        Arc::make_mut(&mut self.world.root).index.claim(entity, &mut self.links)
    }

    /// Takes an entity's row out, with the components of its values.
    fn take(&mut self, location: Location) -> Vec<(ComponentId, Block)> {
        let shape = self.world.root.archetype(location.archetype).shape.clone();
        let values = self.world.take_row(location, self.lsn);
        shape.components.iter().copied().zip(values).collect()
    }

    /// Puts a row where its components belong.
    fn place(&mut self, entity: Entity, mut values: Vec<(ComponentId, Block)>) -> Result<()> {
        if !sort_distinct(&mut values) {
            return self.reader.malformed("an entity has one component twice");
        }
        let components: Vec<_> = values.iter().map(|(id, _)| *id).collect();
        let archetype = self.world.archetype_of(&components)?;
        self.world.push_row(entity, archetype, self.lsn, |chunk, rows_max| {
            for (column, (_, value)) in chunk.columns.iter_mut().zip(&mut values) {
                value.swap_remove_into(0, column.write(self.lsn), rows_max);
            }
        })?;
        Ok(())
    }

    fn values(&mut self) -> Result<Vec<(ComponentId, Block)>> {
        let n = self.reader.varint()?;
        let mut values = Vec::new();
        for _ in 0..n {
            let id = self.component()?;
            let value = self.value(id)?;
            let mut block = Block::new(self.ops(id), 1);
            block.push_stored(value, 1).map_err(|e| self.codec(id, e))?;
            values.push((id, block));
        }
        Ok(values)
    }

    /// A component id that is defined.
    fn component(&mut self) -> Result<ComponentId> {
        let id = ComponentId(self.reader.varint_u32()?);
        match self.world.root.schema.entry(id) {
            Some(entry) if entry.def.kind != StorageKind::Transient => Ok(id),
            _ => self.reader.malformed("a component is used before it is defined"),
        }
    }

    fn value(&mut self, id: ComponentId) -> Result<&'a [u8]> {
        let def = &self.world.root.schema.known(id).def;
        match def.kind {
            StorageKind::Plain => self.reader.take(def.size as usize),
            _ => {
                let len = self.reader.varint()?;
                self.reader.take(usize::try_from(len).unwrap_or(usize::MAX))
            }
        }
    }

    fn ops(&self, id: ComponentId) -> Ops {
        self.world.root.schema.known(id).ops
    }

    fn codec(&self, id: ComponentId, e: crate::CodecError) -> Error {
        Error::codec(&self.world.root.schema.known(id).def.name, e)
    }
}

pub(crate) fn take_def(reader: &mut Reader<'_>) -> Result<ComponentDef> {
    let id = ComponentId(reader.varint_u32()?);
    let kind = match StorageKind::from_byte(reader.byte()?) {
        Some(kind) if kind != StorageKind::Transient => kind,
        _ => return reader.malformed("this is no kind of component that this version knows"),
    };
    let (version, size, fingerprint) = (reader.varint_u32()?, reader.varint_u32()?, reader.u64()?);
    let len = reader.varint()?;
    let Ok(name) = std::str::from_utf8(reader.take(usize::try_from(len).unwrap_or(usize::MAX))?) else {
        return reader.malformed("a component name is not UTF-8");
    };
    Ok(ComponentDef { id, name: name.into(), version, kind, size, fingerprint })
}

/// Sorts values by component; false when one stands twice.
fn sort_distinct<T>(values: &mut [(ComponentId, T)]) -> bool {
    values.sort_unstable_by_key(|(id, _)| *id);
    values.windows(2).all(|pair| pair[0].0 != pair[1].0)
}
