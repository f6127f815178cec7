//! The archetype: the entities with one set of components, in chunks of columns.

use bytemuck::TransparentWrapper;
use triomphe::Arc;

use crate::component::Component;
use crate::entity::Entity;
use crate::raw::{Block, Ops, TypeOps};
use crate::schema::{ComponentId, Schema};
use crate::shells::unshared;
use crate::spine::Spine;

/// Aim for the bytes of the widest column of a chunk.
const CHUNK_BYTES: usize = 32 * 1024;
const ROWS_LOG2_MIN: u32 = 6;
const ROWS_LOG2_MAX: u32 = 12;

/// What all chunks of an archetype have in common.
#[derive(Debug)]
pub struct Shape {
    /// Sorted; the order of the columns.
    pub(crate) components: Box<[ComponentId]>,
    /// Rows of a chunk, as a power of two.
    rows_log2: u32,
}

impl Shape {
    pub(crate) fn new(components: Box<[ComponentId]>, schema: &Schema) -> Self {
        let widest = components.iter().map(|&id| schema.known(id).ops.size()).max().unwrap_or(0);
        let rows = CHUNK_BYTES / widest.max(size_of::<Entity>());
        let rows_log2 = rows.max(1).ilog2().clamp(ROWS_LOG2_MIN, ROWS_LOG2_MAX);
        Shape { components, rows_log2 }
    }

    /// The shape of stored chunks, which keep the rows they were made for; `None` when out of bounds.
    pub(crate) fn stored(components: Box<[ComponentId]>, rows_log2: u32) -> Option<Self> {
        (ROWS_LOG2_MIN..=ROWS_LOG2_MAX).contains(&rows_log2).then_some(Shape { components, rows_log2 })
    }

    #[inline]
    pub(crate) fn rows_per_chunk(&self) -> usize {
        1 << self.rows_log2
    }

    /// Chunk and row within it.
    #[inline]
    pub(crate) fn split(&self, row: u32) -> (usize, usize) {
        ((row >> self.rows_log2) as usize, row as usize & (self.rows_per_chunk() - 1))
    }

    pub(crate) fn join(&self, chunk: usize, row: usize) -> u32 {
        ((chunk << self.rows_log2) + row) as u32
    }

    /// Chunks are numbered so that a row's number fits 32 bits.
    pub(crate) fn chunks_max(&self) -> usize {
        1 << (32 - self.rows_log2)
    }

    #[inline]
    pub(crate) fn column_of(&self, id: ComponentId) -> Option<usize> {
        self.components.iter().position(|&c| c == id)
    }
}

/// One column of one chunk.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) block: Arc<Block>,
    /// LSN of the last transaction that may have changed it.
    pub(crate) changed: u64,
    /// The marks of the transaction under way.
    pub(crate) marks: Stamp,
}

/// Which transaction has marks of something, and where in its list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
    pub(crate) index: u32,
}

impl Column {
    pub(crate) fn new(block: Block, changed: u64) -> Self {
        Column { block: Arc::new(block), changed, marks: Stamp::default() }
    }

    /// The block for writing in place: copied first if a view, an image or the log still needs it.
    #[inline]
    pub(crate) fn write(&mut self, lsn: u64) -> &mut Block {
        self.changed = lsn;
        unshared(&mut self.block)
    }
}

/// Rows of an archetype: one block per column, and one for the ids.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Stable name of this chunk in snapshots.
    pub(crate) uid: u64,
    pub(crate) entities: Column,
    pub(crate) columns: Box<[Column]>,
}

impl Chunk {
    pub(crate) fn new(uid: u64, shape: &Shape, schema: &Schema, lsn: u64) -> Self {
        let column = |ops| Column::new(Block::new(ops, 0), lsn);
        Chunk {
            uid,
            entities: column(Ops::Typed(TypeOps::of::<EntityRow>())),
            columns: shape.components.iter().map(|&id| column(schema.known(id).ops)).collect(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entities.block.len()
    }

    #[inline]
    pub(crate) fn ids(&self) -> &[Entity] {
        ids_of(&self.entities.block)
    }

    /// Copies whatever is shared, so that the structural change that follows cannot be stopped half-way by a
    /// panicking `clone`.
    pub(crate) fn unshare(&mut self, lsn: u64) {
        self.entities.write(lsn);
        for column in &mut self.columns {
            column.write(lsn);
        }
    }

    pub(crate) fn push_id(&mut self, entity: Entity, lsn: u64, max: usize) {
        self.entities.write(lsn).push(EntityRow(entity), max);
    }
}

/// The ids in a block of them.
#[inline]
pub(crate) fn ids_of(block: &Block) -> &[Entity] {
    EntityRow::peel_slice(block.slice::<EntityRow>().unwrap_or(&[]))
}

/// The ids as a column like any other.
#[derive(Clone, Copy, bytemuck::TransparentWrapper)]
#[repr(transparent)]
pub(crate) struct EntityRow(pub(crate) Entity);

impl Component for EntityRow {
    // Never registered: it is in every chunk.
    const NAME: &'static str = "";
    const VERSION: u32 = 0;
    const STORAGE: crate::component::Storage<Self> = crate::component::Storage::plain();

    fn description() -> &'static crate::describe::Description {
        const { &crate::describe::Description::none() }
    }

    fn type_slot() -> u32 {
        0
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Archetype {
    pub(crate) shape: Arc<Shape>,
    pub(crate) chunks: Spine<Chunk>,
    /// Entities.
    pub(crate) len: usize,
}

impl Archetype {
    pub(crate) fn new(shape: Shape) -> Self {
        Archetype { shape: Arc::new(shape), chunks: Spine::default(), len: 0 }
    }
}
