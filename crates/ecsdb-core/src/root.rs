//! The root: the state that a view captures, and how a row is found in it.

use triomphe::Arc;

use crate::archetype::{Archetype, Chunk};
use crate::index::{EntityIndex, Location};
use crate::raw::Block;
use crate::schema::{ComponentId, Schema};
use crate::spine::Spine;

/// The state that a view captures. Everything below is copied on write.
#[derive(Clone, Default)]
pub(crate) struct Root {
    /// LSN of the last committed transaction.
    pub(crate) lsn: u64,
    pub(crate) schema: Arc<Schema>,
    pub(crate) archetypes: Spine<Archetype>,
    pub(crate) index: EntityIndex,
    pub(crate) resources: Vec<Resource>,
    /// The next chunk's [`Chunk::uid`].
    pub(crate) next_chunk: u64,
}

/// A world resource: a single value.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) id: ComponentId,
    /// One row.
    pub(crate) block: Arc<Block>,
    pub(crate) changed: u64,
}

impl Root {
    pub(crate) fn resource(&self, id: ComponentId) -> Option<&Resource> {
        self.resources.iter().find(|r| r.id == id)
    }

    #[inline]
    pub(crate) fn archetype(&self, id: u32) -> &Archetype {
        // Ids come from the index and from the writer's tables, which hold existing archetypes only.
        self.archetypes.get(id as usize).unwrap_or_else(|| unreachable!("archetype {id} does not exist"))
    }

    #[inline]
    pub(crate) fn archetype_mut(&mut self, id: u32) -> &mut Archetype {
        self.archetypes.get_mut(id as usize).unwrap_or_else(|| unreachable!("archetype {id} does not exist"))
    }

    /// The chunk and the row of an entity.
    #[inline]
    pub(crate) fn row(&self, location: Location) -> (&Archetype, &Chunk, usize) {
        let archetype = self.archetype(location.archetype);
        let (chunk, row) = archetype.shape.split(location.row);
        match archetype.chunks.get(chunk) {
            Some(chunk) => (archetype, chunk, row),
            None => unreachable!("chunk {chunk} does not exist"),
        }
    }

    #[inline]
    pub(crate) fn chunk_mut(&mut self, archetype: u32, chunk: usize) -> &mut Chunk {
        match self.archetype_mut(archetype).chunks.get_mut(chunk) {
            Some(chunk) => chunk,
            None => unreachable!("chunk {chunk} of archetype {archetype} does not exist"),
        }
    }

    /// Puts or replaces a resource; returns what was there.
    pub(crate) fn set_resource(&mut self, id: ComponentId, new: Option<Resource>) -> Option<Resource> {
        match (self.resources.iter().position(|r| r.id == id), new) {
            (Some(at), Some(new)) => Some(std::mem::replace(&mut self.resources[at], new)),
            (Some(at), None) => Some(self.resources.remove(at)),
            (None, Some(new)) => {
                let at = self.resources.partition_point(|r| r.id < id);
                self.resources.insert(at, new);
                None
            }
            (None, None) => None,
        }
    }
}
