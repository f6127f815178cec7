//! Compaction in memory: after many despawns the rows that are left are moved together, and the memory of the chunks
//! they came from is freed.
//!
//! Only places change: ids, values, the LSN and the order of the free ids stay, nothing is logged, and views keep
//! their picture, since what they share is copied before it is changed.
//!
//! An incremental snapshot takes a column for unchanged when its parent has the same chunk number and the same LSN
//! of the last change. Compaction has no LSN of its own, so each chunk that rows leave or enter goes on under a new
//! number, which no snapshot knows; the next one writes it anew.

use triomphe::Arc;

use crate::archetype::{Archetype, Chunk};
use crate::entity::Entity;
use crate::index::Location;
use crate::root::Root;
use crate::world::World;

/// Looking at a chunk costs about as much as moving so many rows.
const LOOK: usize = 4;

/// What one call of [`World::compact_chunks`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Rows moved to another chunk.
    pub rows_moved: u64,
    /// Chunks whose memory was freed.
    pub chunks_emptied: u64,
    /// The pass over the world is not at its end: call again.
    pub more: bool,
}

/// How far the pass over all chunks is. Only a hint: transactions may change anything between two calls.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    archetype: u32,
    /// The chunk to look at next.
    chunk: usize,
    /// The chunk that rows are moved into.
    target: Option<usize>,
    moved: bool,
}

/// True when a chunk's rows are to be moved together with others': it is at most half full. Two such chunks always
/// fit into one, and what is left of any number of them is one such chunk at most, so that a second pass finds
/// nothing to do.
pub(crate) fn is_sparse(rows: usize, rows_max: usize) -> bool {
    rows > 0 && rows <= rows_max / 2
}

impl World {
    /// Goes on with moving the rows of sparse chunks together, and with freeing the memory of empty ones: moves at
    /// most `rows_max` rows, and looks at as many chunks as takes about as long. Call it again while there is
    /// [more](Compacted::more), other transactions in between or not; [`View::sparsity`](crate::View::sparsity) tells
    /// whether it is worth while to begin. O(`rows_max`), and per chunk touched that a view shares a copy of it.
    ///
    /// # Panics
    /// When a component's `clone` does, for values that a view shares; the world is as it was then.
    pub fn compact_chunks(&mut self, rows_max: usize) -> Compacted {
        self.end_forgotten();
        let mut cursor = std::mem::take(&mut self.placement.compaction);
        let mut done = Compacted { more: true, ..Compacted::default() };
        let (mut work, rows_max) = (0, rows_max.max(1));
        while work < rows_max {
            let Some(archetype) = self.root.archetypes.get(cursor.archetype as usize) else {
                done.more = false;
                return done;
            };
            let left = rows_max - work;
            work += LOOK;
            let full = archetype.shape.rows_per_chunk();
            let Some(chunk) = archetype.chunks.get(cursor.chunk) else {
                if is_last_empty(archetype) {
                    let chunks = &mut self.archetype_mut(cursor.archetype).0.chunks;
                    chunks.pop();
                    let popped = chunks.len();
                    self.placement.note_room(cursor.archetype, popped, false);
                } else {
                    cursor = self.next_archetype(&cursor);
                }
                continue;
            };
            let rows = chunk.len();
            if !is_sparse(rows, full) {
                if rows == 0 && chunk.entities.block.capacity() > 0 {
                    self.replace_chunk(cursor.archetype, cursor.chunk);
                    done.chunks_emptied += 1;
                }
                cursor.chunk += 1;
                continue;
            }
            let target = cursor.target.filter(|&target| target != cursor.chunk).and_then(|target| {
                let rows = archetype.chunks.get(target)?.len();
                (rows > 0 && rows < full).then_some((target, full - rows))
            });
            let Some((target, room)) = target else {
                cursor.target = Some(cursor.chunk);
                cursor.chunk += 1;
                continue;
            };
            let n = rows.min(room).min(left);
            self.move_rows(cursor.archetype, cursor.chunk, target, n);
            cursor.moved = true;
            done.rows_moved += n as u64;
            work += n;
            if n == rows {
                done.chunks_emptied += 1;
                cursor.chunk += 1;
            }
        }
        self.placement.compaction = cursor;
        done
    }

    fn archetype_mut(&mut self, id: u32) -> (&mut Archetype, Numbers<'_>) {
        let Root { archetypes, schema, next_chunk, lsn, .. } = Arc::make_mut(&mut self.root);
        match archetypes.get_mut(id as usize) {
            Some(archetype) => (archetype, Numbers { schema, next_chunk, lsn: *lsn }),
            None => unreachable!("archetype {id} does not exist"),
        }
    }

    /// After the pass over an archetype.
    fn next_archetype(&mut self, cursor: &Cursor) -> Cursor {
        if let Some(target) = cursor.target.filter(|_| cursor.moved) {
            // The fullest first, so that new rows do not begin new sparse chunks.
            self.placement.open[cursor.archetype as usize].raise(target);
        }
        Cursor { archetype: cursor.archetype + 1, ..Cursor::default() }
    }

    /// Replaces an empty chunk by one without memory. It stays in the list of those with room.
    fn replace_chunk(&mut self, archetype: u32, index: usize) {
        let (archetype, mut numbers) = self.archetype_mut(archetype);
        let fresh = numbers.chunk(archetype);
        if let Some(chunk) = archetype.chunks.get_mut(index) {
            *chunk = fresh;
        }
    }

    /// Moves the last `n` rows of a chunk to the end of another.
    fn move_rows(&mut self, id: u32, from: usize, to: usize, n: usize) {
        let (archetype, mut numbers) = self.archetype_mut(id);
        // Copying is what may panic, so it is done before anything is changed.
        for chunk in [from, to] {
            if let Some(chunk) = archetype.chunks.get_mut(chunk) {
                chunk.unshare(numbers.lsn);
            }
        }
        let fresh = numbers.chunk(archetype);
        let full = archetype.shape.rows_per_chunk();
        let Some(source) = archetype.chunks.get_mut(from) else { return };
        let mut source = std::mem::replace(source, fresh);
        let Some(target) = archetype.chunks.get_mut(to) else { return };
        let first = target.len();
        target.uid = numbers.uid();
        for (from, to) in source.columns.iter_mut().zip(&mut target.columns) {
            from.write(numbers.lsn).move_last_into(n, to.write(numbers.lsn), full);
        }
        let ids = target.entities.write(numbers.lsn);
        source.entities.write(numbers.lsn).move_last_into(n, ids, full);
        let moved: Vec<Entity> = target.ids()[first..].to_vec();
        if source.len() > 0
            && let Some(chunk) = archetype.chunks.get_mut(from)
        {
            source.uid = chunk.uid;
            *chunk = source;
        }
        let row = archetype.shape.join(to, first);
        self.placement.note_room(id, to, first + n < full);
        let index = &mut Arc::make_mut(&mut self.root).index;
        for (row, entity) in (row..).zip(moved) {
            index.place(entity, Location { archetype: id, row });
        }
    }
}

fn is_last_empty(archetype: &Archetype) -> bool {
    let last = archetype.chunks.len().checked_sub(1).and_then(|last| archetype.chunks.get(last));
    last.is_some_and(|chunk| chunk.len() == 0)
}

/// What new chunks are made with.
struct Numbers<'a> {
    schema: &'a crate::schema::Schema,
    next_chunk: &'a mut u64,
    lsn: u64,
}

impl Numbers<'_> {
    fn uid(&mut self) -> u64 {
        *self.next_chunk += 1;
        *self.next_chunk - 1
    }

    fn chunk(&mut self, archetype: &Archetype) -> Chunk {
        Chunk::new(self.uid(), &archetype.shape, self.schema, self.lsn)
    }
}
