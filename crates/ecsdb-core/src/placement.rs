//! The placement of rows: which archetype and chunk a row goes to, and how rows come and go.

use std::any::TypeId;

use rustc_hash::FxHashMap;
use triomphe::Arc;

use crate::archetype::{Archetype, Chunk, EntityRow, Shape};
use crate::bundle::BundleInfo;
use crate::compact::Cursor;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::raw::{Arena, At, Room};
use crate::root::Root;
use crate::schema::ComponentId;

/// What only the writer needs to know where rows go; derived from the root.
#[derive(Default)]
pub(crate) struct Placement {
    by_components: FxHashMap<Box<[ComponentId]>, u32>,
    pub(crate) bundles: FxHashMap<TypeId, u32>,
    pub(crate) bundle_infos: Vec<Arc<BundleInfo>>,
    pub(crate) reshapes: FxHashMap<(u32, Option<u32>, Option<u32>), Arc<Reshape>>,
    /// Per archetype, chunks that may have room. Every chunk with room is listed.
    pub(crate) open: Vec<Vec<u32>>,
    pub(crate) compaction: Cursor,
}

/// How rows of one archetype become rows of another, when a bundle is taken out and one put in.
#[derive(Debug)]
pub(crate) struct Reshape {
    pub(crate) to: u32,
    /// Columns that both have: here and there.
    pub(crate) carried: Box<[(usize, usize)]>,
    /// In the order of the bundle that is put in: the column there, and whether the row has no value in it yet.
    pub(crate) filled: Box<[(usize, bool)]>,
}

impl Placement {
    /// Makes the tables anew, for another root.
    pub(crate) fn follow(&mut self, root: &Root) {
        *self = Placement::default();
        for (id, archetype) in root.archetypes.iter().enumerate() {
            self.by_components.insert(archetype.shape.components.clone(), id as u32);
            let rows = archetype.shape.rows_per_chunk();
            // Reversed, so that the first chunk with room is filled first.
            let mut open: Vec<u32> = archetype
                .chunks
                .iter()
                .enumerate()
                .filter_map(|(i, chunk)| (chunk.len() < rows).then_some(i as u32))
                .collect();
            open.reverse();
            self.open.push(open);
        }
    }

    /// The archetype with exactly these components (sorted), made if need be.
    pub(crate) fn archetype_of(&mut self, root: &mut Arc<Root>, components: &[ComponentId]) -> Result<u32> {
        if let Some(&id) = self.by_components.get(components) {
            return Ok(id);
        }
        let id = root.archetypes.len();
        if id >= u32::MAX as usize {
            return Err(Error::Full("a database has at most 2^32 archetypes"));
        }
        let root = Arc::make_mut(root);
        root.archetypes.push(Archetype::new(Shape::new(components.into(), &root.schema)));
        self.by_components.insert(components.into(), id as u32);
        self.open.push(Vec::new());
        Ok(id as u32)
    }

    /// How rows of `from` change when the components of `out` are taken out and those of `put` put in.
    pub(crate) fn reshape(
        &mut self,
        root: &mut Arc<Root>,
        from: u32,
        out: Option<u32>,
        put: Option<u32>,
    ) -> Result<Arc<Reshape>> {
        if let Some(reshape) = self.reshapes.get(&(from, out, put)) {
            return Ok(reshape.clone());
        }
        let components_of = |bundle: Option<u32>| match bundle {
            Some(bundle) => self.bundle_infos[bundle as usize].components.clone(),
            None => Box::default(),
        };
        let (out_components, put_components) = (components_of(out), components_of(put));
        let old = root.archetype(from).shape.clone();
        let kept = |id: &ComponentId| !out_components.contains(id) || put_components.contains(id);
        let mut components: Vec<ComponentId> = old.components.iter().copied().filter(kept).collect();
        components.extend(put_components.iter().filter(|id| !old.components.contains(id)));
        components.sort_unstable();
        let to = self.archetype_of(root, &components)?;
        let new = root.archetype(to).shape.clone();
        let column = |shape: &Shape, id| shape.column_of(id).unwrap_or_else(|| unreachable!("it has {id:?}"));
        let carried = old
            .components
            .iter()
            .copied()
            .filter(kept)
            .map(|id| (column(&old, id), column(&new, id)))
            .collect();
        let filled =
            put_components.iter().map(|&id| (column(&new, id), !old.components.contains(&id))).collect();
        let reshape = Arc::new(Reshape { to, carried, filled });
        self.reshapes.insert((from, out, put), reshape.clone());
        Ok(reshape)
    }

    /// The number of a chunk of an archetype with room for a row, made if need be.
    pub(crate) fn open_chunk(&mut self, root: &mut Root, archetype: u32, lsn: u64) -> Result<usize> {
        let open = &mut self.open[archetype as usize];
        let Root { archetypes, schema, next_chunk, .. } = root;
        let Some(arch) = archetypes.get_mut(archetype as usize) else {
            unreachable!("archetype {archetype} does not exist")
        };
        let rows = arch.shape.rows_per_chunk();
        while let Some(&chunk) = open.last() {
            if arch.chunks.get(chunk as usize).is_some_and(|c| c.len() < rows) {
                return Ok(chunk as usize);
            }
            open.pop();
        }
        let index = arch.chunks.len();
        if index >= arch.shape.chunks_max() {
            return Err(Error::Full("an archetype has at most 2^32 rows"));
        }
        arch.chunks.push(Chunk::new(*next_chunk, &arch.shape, schema, lsn));
        *next_chunk += 1;
        open.push(index as u32);
        Ok(index)
    }

    /// Takes an entity's row out into the arena, the last row of its chunk moving into its place. The places of the values come
    /// in the order of the columns. The index still has the entity. The chunk is private already.
    pub(crate) fn take_row(
        &mut self,
        root: &mut Root,
        location: Location,
        lsn: u64,
        (arena, room): (&mut Arena, Room),
        places: &mut Vec<At>,
    ) {
        let Root { archetypes, index, .. } = root;
        let Some(archetype) = archetypes.get_mut(location.archetype as usize) else { return };
        let (number, row) = archetype.shape.split(location.row);
        let rows_max = archetype.shape.rows_per_chunk();
        let Some(chunk) = archetype.chunks.get_mut(number) else { return };
        let was_full = chunk.len() == rows_max;
        for column in &mut chunk.columns {
            places.push(column.write(lsn).take_row(row, arena, room));
        }
        chunk.entities.write(lsn).remove_plain(row);
        if let Some(&moved) = chunk.ids().get(row) {
            index.place(moved, location);
        }
        archetype.len -= 1;
        if was_full {
            self.has_room(location.archetype, number);
        }
    }

    /// A chunk that was full has room.
    pub(crate) fn has_room(&mut self, archetype: u32, chunk: usize) {
        let open = &mut self.open[archetype as usize];
        // A chunk that was just filled is still listed last, however often that happens.
        if open.last() != Some(&(chunk as u32)) {
            open.push(chunk as u32);
        }
    }
}

impl Root {
    /// The inverse of [`Placement::take_row`], right after it: the row is where it was.
    pub(crate) fn put_row_back(
        &mut self,
        entity: Entity,
        location: Location,
        places: &[At],
        lsn: u64,
        arena: &mut Arena,
    ) {
        let Root { archetypes, index, .. } = self;
        let Some(archetype) = archetypes.get_mut(location.archetype as usize) else { return };
        let (number, row) = archetype.shape.split(location.row);
        let rows_max = archetype.shape.rows_per_chunk();
        let Some(chunk) = archetype.chunks.get_mut(number) else { return };
        let end = chunk.len();
        for (column, &at) in chunk.columns.iter_mut().zip(places) {
            column.write(lsn).put_row(row, at, arena, rows_max);
        }
        let ids = chunk.entities.write(lsn);
        ids.push(EntityRow(entity), rows_max);
        ids.swap_plain(row, end);
        if row != end {
            let moved = chunk.ids()[end];
            let row = archetype.shape.join(number, end);
            index.place(moved, Location { archetype: location.archetype, row });
        }
        index.place(entity, location);
        archetype.len += 1;
    }
}
