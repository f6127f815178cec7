//! How much memory the rows of a world take, and how much of it for nothing.

use crate::archetype::Shape;
use crate::compact::is_sparse;
use crate::entity::Entity;
use crate::root::Root;
use crate::view::View;

impl View {
    /// Bytes of its rows: entity ids, components of all kinds, and resources. What an archived value has on the heap is
    /// not counted, nor is memory that is only kept ready; see [`memory_in_use`](crate::memory_in_use) for what the process
    /// holds. O(archetypes).
    pub fn live_bytes(&self) -> u64 {
        let root = self.root();
        let rows = root.archetypes.iter().map(|archetype| archetype.len * root.row_bytes(&archetype.shape));
        let resources = root.resources.iter().map(|resource| resource.block.ops().size());
        rows.chain(resources).sum::<usize>() as u64
    }

    /// The part of its rows' memory, from 0 to 1, that [`World::compact_chunks`](crate::World::compact_chunks)
    /// would free. O(chunks).
    pub fn sparsity(&self) -> f64 {
        let root = self.root();
        let (mut held, mut spare) = (0, 0);
        for archetype in root.archetypes.iter() {
            let rows_max = archetype.shape.rows_per_chunk();
            let (mut all, mut empty, mut sparse, mut sparse_rows) = (0, 0, 0, 0usize);
            for chunk in archetype.chunks.iter() {
                let capacity = chunk.entities.block.capacity();
                all += capacity;
                if chunk.len() == 0 {
                    empty += capacity;
                } else if is_sparse(chunk.len(), rows_max) {
                    sparse += capacity;
                    sparse_rows += chunk.len();
                }
            }
            let row = root.row_bytes(&archetype.shape);
            held += all * row;
            spare += (empty + sparse.saturating_sub(sparse_rows.next_multiple_of(rows_max))) * row;
        }
        if held == 0 { 0.0 } else { spare as f64 / held as f64 }
    }
}

impl Root {
    /// Bytes of a row over all columns.
    fn row_bytes(&self, shape: &Shape) -> usize {
        let components = shape.components.iter().map(|&id| self.schema.known(id).ops.size());
        size_of::<Entity>() + components.sum::<usize>()
    }
}
