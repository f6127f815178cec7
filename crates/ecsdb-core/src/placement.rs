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
use crate::open_chunks::OpenChunks;
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
    /// Per archetype.
    pub(crate) open: Vec<OpenChunks>,
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
            let chunks = archetype.chunks.iter().enumerate();
            let room: Vec<usize> = chunks.filter(|(_, chunk)| chunk.len() < rows).map(|(i, _)| i).collect();
            let mut open = OpenChunks::default();
            // Reversed, so that the first chunk with room is filled first.
            room.into_iter().rev().for_each(|chunk| open.insert(chunk));
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
        self.open.push(OpenChunks::default());
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
        while let Some(chunk) = open.last() {
            if arch.chunks.get(chunk).is_some_and(|c| c.len() < rows) {
                return Ok(chunk);
            }
            // An iterator over what was to be spawned has panicked when the chunk was full.
            open.remove(chunk);
        }
        let index = arch.chunks.len();
        if index >= arch.shape.chunks_max() {
            return Err(Error::Full("an archetype has at most 2^32 rows"));
        }
        arch.chunks.push(Chunk::new(*next_chunk, &arch.shape, schema, lsn));
        *next_chunk += 1;
        open.insert(index);
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
            self.open[location.archetype as usize].insert(number);
        }
    }

    /// After rows came to a chunk, or left it.
    #[inline]
    pub(crate) fn note_room(&mut self, archetype: u32, chunk: usize, has_room: bool) {
        match has_room {
            true => self.open[archetype as usize].insert(chunk),
            false => self.open[archetype as usize].remove(chunk),
        }
    }

    /// The inverse of [`Placement::take_row`], right after it: the row is where it was.
    pub(crate) fn put_row_back(
        &mut self,
        root: &mut Root,
        entity: Entity,
        location: Location,
        places: &[At],
        lsn: u64,
        arena: &mut Arena,
    ) {
        let Root { archetypes, index, .. } = root;
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
        if end + 1 == rows_max {
            self.open[location.archetype as usize].remove(number);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use ecsdb_id::Lsn;
    use proptest::prelude::*;

    use crate::{Component, Entity, Transaction, World};

    /// Chunks of 64 rows.
    #[derive(Component, Clone, Copy)]
    #[component(name = "placement.wide", plain)]
    #[repr(C)]
    struct Wide([u64; 64]);

    #[derive(Component, Clone, Copy)]
    #[component(name = "placement.mark", plain)]
    #[repr(C)]
    struct Mark(u64);

    /// Every chunk with room is listed, and each chunk once.
    fn check(world: &World) {
        for (archetype, open) in world.root.archetypes.iter().zip(&world.placement.open) {
            let mut listed: Vec<u32> = open.iter().copied().collect();
            listed.sort_unstable();
            let rows = archetype.shape.rows_per_chunk();
            let chunks = archetype.chunks.iter().zip(0..);
            let room: Vec<u32> = chunks.filter(|(chunk, _)| chunk.len() < rows).map(|(_, i)| i).collect();
            assert_eq!(listed, room);
        }
    }

    fn commit<T>(world: &mut World, f: impl FnOnce(&mut Transaction<'_>) -> T) -> (T, Vec<u8>) {
        let lsn = world.lsn().next();
        let mut open = world.begin();
        let result = f(open.transaction());
        let prepared = open.prepare().unwrap();
        let bytes = prepared.change_set().to_vec();
        prepared.commit(if bytes.is_empty() { Lsn(lsn.0 - 1) } else { lsn });
        (result, bytes)
    }

    #[test]
    fn chunks_that_are_emptied_and_filled_in_turn_are_listed_once() {
        let mut world = World::new();
        let (ids, _) = commit(&mut world, |tx| tx.spawn_batch((0..8 * 64).map(|_| Wide([0; 64]))));
        for round in 0..40 {
            for chunk in 0..8 {
                commit(&mut world, |tx| tx.despawn(ids[chunk * 64 + round]).unwrap());
                commit(&mut world, |tx| tx.spawn(Wide([1; 64])));
                check(&world);
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Spawn(u16),
        Despawn(u16, u16),
        Mark(u16, u16),
        Unmark(u16, u16),
        /// An iterator that panics is caught.
        Panic(u16),
    }

    #[derive(Debug, Clone, Copy)]
    enum End {
        Commit,
        RollBack,
        Compact(u16),
        Restore(bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (1u16..300).prop_map(Op::Spawn),
            (any::<u16>(), 1u16..300).prop_map(|(from, n)| Op::Despawn(from, n)),
            (any::<u16>(), 1u16..200).prop_map(|(from, n)| Op::Mark(from, n)),
            (any::<u16>(), 1u16..200).prop_map(|(from, n)| Op::Unmark(from, n)),
            (1u16..130).prop_map(Op::Panic),
        ]
    }

    fn end() -> impl Strategy<Value = End> {
        prop_oneof![
            3 => Just(End::Commit),
            2 => Just(End::RollBack),
            1 => (1u16..200).prop_map(End::Compact),
            1 => any::<bool>().prop_map(End::Restore),
        ]
    }

    fn run(op: Op, tx: &mut Transaction<'_>) {
        let ids: Vec<Entity> = tx.read::<Entity>().unwrap().collect();
        let picked = |from: u16, n: u16| {
            let from = from as usize % ids.len().max(1);
            ids.iter().copied().skip(from).step_by(3).take(n as usize)
        };
        match op {
            Op::Spawn(n) => drop(tx.spawn_batch((0..n).map(|_| Wide([1; 64])))),
            Op::Despawn(from, n) => picked(from, n).for_each(|id| tx.despawn(id).unwrap()),
            Op::Mark(from, n) => picked(from, n).for_each(|id| tx.insert(id, Mark(1)).unwrap()),
            Op::Unmark(from, n) => picked(from, n).for_each(|id| _ = tx.remove::<Mark>(id).unwrap()),
            Op::Panic(n) => {
                let rows = (0..=n)
                    .map(|i| if i < n { Wide([2; 64]) } else { std::panic::resume_unwind(Box::new(())) });
                assert!(catch_unwind(AssertUnwindSafe(|| tx.spawn_batch(rows))).is_err());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn every_chunk_with_room_is_listed_once(
            steps in proptest::collection::vec((proptest::collection::vec(op(), 0..5), end()), 1..14)
        ) {
            let (mut world, mut replica) = (World::new(), World::new());
            let mut views = vec![world.view()];
            for (ops, end) in steps {
                let lsn = world.lsn().next();
                let mut open = world.begin();
                ops.iter().for_each(|&op| run(op, open.transaction()));
                let prepared = open.prepare().ok().filter(|_| !matches!(end, End::RollBack));
                let logged = prepared.map(|prepared| {
                    let bytes = prepared.change_set().to_vec();
                    prepared.commit(if bytes.is_empty() { Lsn(lsn.0 - 1) } else { lsn });
                    bytes
                });
                if let Some(bytes) = logged.filter(|bytes| !bytes.is_empty()) {
                    replica.apply(lsn, &bytes).unwrap();
                }
                check(&world);
                check(&replica);
                match end {
                    End::Commit | End::RollBack => {}
                    End::Compact(rows) => drop(world.compact_chunks(rows as usize)),
                    End::Restore(keep) => {
                        let lsn = world.lsn().next();
                        let restore = world.restore(&views[views.len() / 2]).unwrap();
                        let bytes = restore.change_set().to_vec();
                        match keep && !bytes.is_empty() {
                            true => {
                                restore.commit(lsn);
                                replica.apply(lsn, &bytes).unwrap();
                            }
                            false => drop(restore),
                        }
                    }
                }
                check(&world);
                check(&replica);
                views.push(world.view());
            }
        }
    }
}
