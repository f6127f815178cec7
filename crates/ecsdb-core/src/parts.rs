//! Taking a view apart into blocks of bytes, and putting a world together from them: what a snapshot is made of.
//!
//! Transient components are left out. A chunk has a stable number ([`ChunkPart::uid`]) and each of its columns the
//! LSN of its last change, so that an incremental snapshot can tell what its parent already has.
//!
//! A [`ColumnPart`] holds its block and nothing else of the view. Whoever works through many of them drops the view
//! first and each part when it is done with: the writer then stops copying the one block after the other, rather
//! than all of them until the end.

use std::sync::Arc as SharedArc;

use ecsdb_id::Lsn;
use triomphe::Arc;

use crate::archetype::{Archetype, Chunk, Column, EntityRow, Shape, ids_of};
use crate::codec::{Reader, put_bytes, put_varint};
use crate::component::StorageKind;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::{EntityIndex, Location};
use crate::raw::{Block, Ops, TypeOps};
use crate::root::{Resource, Root};
use crate::schema::{ComponentDef, ComponentId, Schema, put_def, take_def};
use crate::shells;
use crate::view::View;
use crate::world::World;

/// A chunk of a view.
#[derive(Clone, Copy)]
pub struct ChunkPart<'a> {
    schema: &'a Schema,
    shape: &'a Shape,
    chunk: &'a Chunk,
    /// Of the view.
    lsn: u64,
}

/// A column of a chunk, or a resource: keeps its own memory alive, whatever becomes of the view.
#[derive(Debug, Clone)]
pub struct ColumnPart {
    /// The component; `None` for the column of entity ids.
    pub component: Option<ComponentId>,
    /// LSN of its last change.
    pub changed: u64,
    /// The component's name, for errors.
    name: Option<SharedArc<str>>,
    block: Arc<Block>,
}

impl Drop for ColumnPart {
    fn drop(&mut self) {
        shells::give_back(&mut self.block);
    }
}

impl View {
    /// The stored components, by id.
    pub fn components(&self) -> impl Iterator<Item = &ComponentDef> {
        self.root().schema.defs().filter(|def| def.kind != StorageKind::Transient)
    }

    /// The definitions of the stored components, as [`WorldBuilder::schema`] takes them.
    pub fn schema(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.components().count() as u64);
        for def in self.components() {
            put_def(&mut out, def);
        }
        out
    }

    /// The chunks with at least one entity.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkPart<'_>> {
        let root = self.root();
        root.archetypes.iter().flat_map(move |archetype| {
            archetype.chunks.iter().filter(|chunk| chunk.len() > 0).map(move |chunk| ChunkPart {
                schema: &root.schema,
                shape: &archetype.shape,
                chunk,
                lsn: root.lsn,
            })
        })
    }

    /// Where an entity stands: its chunk, and its row there. O(1).
    pub fn find(&self, entity: Entity) -> Option<(ChunkPart<'_>, usize)> {
        let root = self.root();
        let location = root.index.get(entity)?;
        let (archetype, chunk, row) = root.row(location);
        let (schema, lsn) = (&*root.schema, root.lsn);
        Some((ChunkPart { schema, shape: &archetype.shape, chunk, lsn }, row))
    }

    /// The resources.
    pub fn resources(&self) -> impl Iterator<Item = ColumnPart> + '_ {
        let root = self.root();
        root.resources.iter().filter_map(|resource| {
            let def = &root.schema.known(resource.id).def;
            (def.kind != StorageKind::Transient).then_some(ColumnPart {
                component: Some(resource.id),
                changed: resource.changed,
                name: Some(def.name.clone()),
                block: resource.block.clone(),
            })
        })
    }

    /// The allocators: entity slots used, the next chunk number, the floor of generations, and the free list, as [`WorldBuilder::finish`]
    /// takes them. O(free slots).
    pub fn allocators(&self) -> Vec<u8> {
        Allocators::of(self).to_bytes()
    }
}

/// What gives out entity ids and numbers of chunks: where it stands, so that no id comes to mean another entity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocators {
    /// Entity slots ever used: every index is below.
    pub slots: u32,
    /// The next chunk's number.
    pub next_chunk: u64,
    /// Ids of lower generations are not given out any more.
    pub floor: u32,
    /// The free slots in the order in which they are given out, each with its next generation.
    pub free: Vec<(u32, u32)>,
}

impl Allocators {
    /// Those of a view. O(free slots).
    pub fn of(view: &View) -> Allocators {
        let root = view.root();
        Allocators {
            slots: root.index.len(),
            next_chunk: root.next_chunk,
            floor: root.index.floor_next(),
            free: root.index.free_list().collect(),
        }
    }

    /// As [`WorldBuilder::finish`] takes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.free.len() * 4);
        put_varint(&mut out, u64::from(self.slots));
        put_varint(&mut out, self.next_chunk);
        put_varint(&mut out, u64::from(self.floor));
        put_varint(&mut out, self.free.len() as u64);
        for &(index, generation) in &self.free {
            put_varint(&mut out, u64::from(index));
            put_varint(&mut out, u64::from(generation));
        }
        out
    }
}

impl<'a> ChunkPart<'a> {
    /// Its stable number.
    pub fn uid(&self) -> u64 {
        self.chunk.uid
    }

    /// Rows of a full chunk of its archetype, as a power of two.
    pub fn rows_log2(&self) -> u32 {
        self.shape.rows_per_chunk().ilog2()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.chunk.len()
    }

    /// The stored components, sorted.
    pub fn components(&self) -> impl Iterator<Item = ComponentId> + 'a {
        let schema = self.schema;
        let stored = move |id: &ComponentId| schema.known(*id).def.kind != StorageKind::Transient;
        self.shape.components.iter().copied().filter(stored)
    }

    /// The columns: the ids first, then one for each of [`ChunkPart::components`]. A reference count each.
    pub fn columns(&self) -> impl Iterator<Item = ColumnPart> + 'a {
        let ChunkPart { schema, shape, chunk, lsn } = *self;
        // A transaction that was rolled back leaves columns marked with an LSN that another one will use, for
        // another change; what they hold is what they held before.
        let ids = ColumnPart {
            component: None,
            changed: chunk.entities.changed.min(lsn),
            name: None,
            block: chunk.entities.block.clone(),
        };
        let columns = shape.components.iter().zip(&chunk.columns).filter_map(move |(&id, column)| {
            let def = &schema.known(id).def;
            (def.kind != StorageKind::Transient).then_some(ColumnPart {
                component: Some(id),
                changed: column.changed.min(lsn),
                name: Some(def.name.clone()),
                block: column.block.clone(),
            })
        });
        std::iter::once(ids).chain(columns)
    }
}

impl ColumnPart {
    /// The stored bytes where they are the memory's: ids (8 bytes each: index, generation) and plain components.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.block.bytes()
    }

    /// Appends the stored bytes of one row to `out`.
    ///
    /// # Errors
    /// When the value cannot be encoded, or there is no such row.
    pub fn encode_row(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if row >= self.block.len() {
            return Err(Error::Malformed { offset: 0, what: "a column has no such row" });
        }
        let encoded = self.block.encode_row(row, out);
        encoded.map_err(|e| Error::codec(self.name.as_deref().unwrap_or(""), e))
    }

    /// The entity ids, when it is the column of them.
    pub fn entities(&self) -> Option<&[Entity]> {
        self.block.is::<EntityRow>().then(|| ids_of(&self.block))
    }

    /// Appends the stored bytes to `out`: the memory's, or for archived components each row's length (varint) and
    /// bytes.
    ///
    /// # Errors
    /// When a value cannot be encoded.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        if let Some(bytes) = self.bytes() {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let mut value = Vec::new();
        for row in 0..self.block.len() {
            value.clear();
            let encoded = self.block.encode_row(row, &mut value);
            encoded.map_err(|e| Error::codec(self.name.as_deref().unwrap_or(""), e))?;
            put_bytes(out, &value);
        }
        Ok(())
    }
}

/// A column put together from stored bytes; made on any thread.
pub struct LoadedColumn(Column);

/// Puts a world together from stored parts, checking each.
#[derive(Default)]
pub struct WorldBuilder {
    root: Root,
    /// Archetypes by their components.
    archetypes: rustc_hash::FxHashMap<Box<[ComponentId]>, usize>,
}

impl WorldBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Defines a stored component.
    ///
    /// # Errors
    /// When its id or name is taken.
    pub fn define(&mut self, def: ComponentDef) -> Result<()> {
        Arc::make_mut(&mut self.root.schema).define(def).map(drop)
    }

    /// Defines the components of [`View::schema`]'s bytes.
    ///
    /// # Errors
    /// When the bytes are no schema.
    pub fn schema(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes);
        for _ in 0..reader.varint()? {
            self.define(take_def(&mut reader)?)?;
        }
        if reader.is_empty() { Ok(()) } else { reader.malformed("the schema is longer than its components") }
    }

    /// Makes the components known which this program has Rust types for, so that columns are loaded as such.
    ///
    /// # Errors
    /// When the stored layout of one is another than the type's.
    pub fn register_linked(&mut self) -> Result<()> {
        let mut world = World::with_root(std::mem::take(&mut self.root));
        let registered = world.register_linked();
        self.root = Arc::unwrap_or_clone(world.root);
        registered.map(drop)
    }

    /// What turns stored bytes into columns, for the threads that load them. All components are defined first.
    pub fn columns(&self) -> ColumnLoader {
        ColumnLoader(self.root.schema.clone())
    }

    /// Adds a chunk: its number, its components (sorted), and its columns: the ids first.
    ///
    /// # Errors
    /// When the columns do not fit the components or one another.
    pub fn chunk(
        &mut self,
        uid: u64,
        rows_log2: u32,
        components: &[ComponentId],
        columns: Vec<LoadedColumn>,
    ) -> Result<()> {
        let malformed = |what| Err(Error::Malformed { offset: 0, what });
        if !components.windows(2).all(|pair| pair[0] < pair[1]) || columns.len() != components.len() + 1 {
            return malformed("the columns of a chunk are not those of its components");
        }
        let schema = &self.root.schema;
        for (id, column) in components.iter().zip(&columns[1..]) {
            let fits = schema.entry(*id).is_some_and(|entry| {
                entry.def.kind != StorageKind::Transient
                    && entry.ops.is_plain() == column.0.block.ops().is_plain()
                    && entry.ops.size() == column.0.block.ops().size()
            });
            if !fits {
                return malformed("a column of a chunk is of no defined component");
            }
        }
        let mut columns = columns.into_iter().map(|column| column.0);
        let Some(entities) = columns.next().filter(|ids| ids.block.is::<EntityRow>()) else {
            return malformed("the first column of a chunk is not of entity ids");
        };
        let chunk = Chunk { uid, entities, columns: columns.collect() };
        let rows = chunk.len();
        if chunk.columns.iter().any(|column| column.block.len() != rows) {
            return malformed("the columns of a chunk have different lengths");
        }
        let id = match self.archetypes.get(components) {
            Some(&id) => id,
            None => {
                let Some(shape) = Shape::stored(components.into(), rows_log2) else {
                    return malformed("an archetype's rows per chunk are out of bounds");
                };
                let id = self.root.archetypes.len();
                self.root.archetypes.push(Archetype::new(shape));
                self.archetypes.insert(components.into(), id);
                id
            }
        };
        let Some(archetype) = self.root.archetypes.get_mut(id) else { return malformed("no such archetype") };
        if rows > archetype.shape.rows_per_chunk() || archetype.chunks.len() >= archetype.shape.chunks_max() {
            return malformed("a chunk has more rows than its archetype's chunks have");
        }
        archetype.len += rows;
        archetype.chunks.push(chunk);
        Ok(())
    }

    /// Adds a resource.
    ///
    /// # Errors
    /// When its component is not defined, or it does not decode.
    pub fn resource(&mut self, id: ComponentId, changed: u64, bytes: &[u8]) -> Result<()> {
        let column = self.columns().load(Some(id), 1, changed, bytes)?.0;
        if self.root.resource(id).is_some() {
            return Err(Error::Malformed { offset: 0, what: "a resource is stored twice" });
        }
        let at = self.root.resources.partition_point(|r| r.id < id);
        self.root.resources.insert(at, Resource { id, block: column.block, changed });
        Ok(())
    }

    /// Finishes the world: builds the entity index from the chunks (it is never trusted from a file), restores the
    /// allocators from [`View::allocators`]' bytes, and goes on after `lsn`.
    ///
    /// # Errors
    /// When an entity stands twice, or the allocators do not fit the entities.
    pub fn finish(mut self, lsn: Lsn, allocators: &[u8]) -> Result<World> {
        let mut reader = Reader::new(allocators);
        let len = reader.varint_u32()?;
        let next_chunk = reader.varint()?;
        let floor = reader.varint_u32()?;
        let mut chunks = 0;
        // Slots are only allocated as far as entities or free ids vouch for them.
        let n = reader.varint()?;
        let mut free = Vec::new();
        for _ in 0..n {
            free.push((reader.varint_u32()?, reader.varint_u32()?));
        }
        let entities: usize = self.root.archetypes.iter().map(|archetype| archetype.len).sum();
        let listed = entities as u64 + free.len() as u64;
        if u64::from(len) < listed || u64::from(len) > listed + RETIRED_SLOTS_MAX {
            return reader.malformed("the number of entity slots does not fit the entities");
        }
        let mut index = EntityIndex::with_len(len)?;
        for (id, archetype) in self.root.archetypes.iter().enumerate() {
            for (number, chunk) in archetype.chunks.iter().enumerate() {
                chunks = chunks.max(chunk.uid.saturating_add(1));
                let placed = chunk.ids().iter().enumerate().map(|(row, &entity)| {
                    (entity, Location { archetype: id as u32, row: archetype.shape.join(number, row) })
                });
                if !index.load(placed) {
                    return reader.malformed("an entity stands twice, or has no slot");
                }
            }
        }
        if !index.load_free_list(&free) {
            return reader.malformed("a free entity slot is listed twice, or taken");
        }
        index.raise_floor(floor);
        self.root.index = index;
        // REC-7: the maximum over all sources.
        self.root.next_chunk = next_chunk.max(chunks);
        self.root.lsn = lsn.0;
        Ok(World::with_root(self.root))
    }
}

/// Slots that are neither used nor free: their generations are used up (each took 2^32 despawns), or nobody knows which they gave out.
pub const RETIRED_SLOTS_MAX: u64 = 1 << 16;

/// Turns stored bytes into columns.
#[derive(Clone)]
pub struct ColumnLoader(Arc<Schema>);

impl ColumnLoader {
    /// Makes a column of `rows` rows from its stored bytes; `None` is the column of entity ids. O(bytes).
    ///
    /// # Errors
    /// When the component is not defined, or the bytes are not `rows` values of it.
    pub fn load(
        &self,
        component: Option<ComponentId>,
        rows: usize,
        changed: u64,
        bytes: &[u8],
    ) -> Result<LoadedColumn> {
        let malformed = |what| Err(Error::Malformed { offset: 0, what });
        let (ops, name) = match component {
            None => (Ops::Typed(TypeOps::of::<EntityRow>()), "the entity ids"),
            Some(id) => match self.0.entry(id) {
                Some(entry) if entry.def.kind != StorageKind::Transient => (entry.ops, &*entry.def.name),
                _ => return malformed("a stored column is of no defined component"),
            },
        };
        if rows > ROWS_MAX {
            return malformed("a chunk has more than 4,096 rows");
        }
        let mut block = Block::new(ops, rows);
        if ops.is_plain() {
            block.push_plain(bytes, rows, rows).map_err(|e| Error::codec(name, e))?;
        } else {
            let mut reader = Reader::new(bytes);
            for _ in 0..rows {
                block.push_stored(reader.bytes()?, rows).map_err(|e| Error::codec(name, e))?;
            }
            if !reader.is_empty() {
                return reader.malformed("a stored column is longer than its rows");
            }
        }
        Ok(LoadedColumn(Column::new(block, changed)))
    }
}

/// Rows of any chunk at most.
const ROWS_MAX: usize = 1 << 12;

impl LoadedColumn {
    /// The entity ids, when it is a column of them.
    pub fn entities(&self) -> Option<&[Entity]> {
        self.0.block.is::<EntityRow>().then(|| ids_of(&self.0.block))
    }
}
