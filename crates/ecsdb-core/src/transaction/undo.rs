//! Rolling back: the inverse of each change, applied in reverse order, so that every step finds the world as
//! the step it undoes left it.
//!
//! Nothing in here can fail or call foreign code: rows are moved as bytes within blocks that were made private when the
//! change was made, nothing needs room in the arena, which may be full, and what is not needed any more is dropped when every row
//! is where it was (TX-4).

use std::panic::{AssertUnwindSafe, catch_unwind};

use triomphe::Arc;

use super::marks::{ColumnPlace, Image};
use crate::archetype::Archetype;
use crate::entity::Entity;
use crate::index::Location;
use crate::placement::Reshape;
use crate::raw::{At, Block, discard};
use crate::root::{Resource, Root};
use crate::schema::ComponentId;
use crate::world::World;

/// What undoes one change.
pub(crate) enum Step {
    /// A value may have been changed, and what it was is at `at`.
    Value { place: ColumnPlace, row: u32, at: At },
    /// A whole column may have been changed, and what it was is the image of these marks.
    Column { place: ColumnPlace, marks: u32 },
    /// So many rows were appended to a chunk.
    Spawned { archetype: u32, chunk: u32, rows: u32 },
    /// A row was taken out; its values begin at `places`.
    Despawned { entity: Entity, location: Location, places: u32 },
    /// A row went to another archetype. At `places` begin those of the old row's values, of which the carried ones have gone back
    /// into a block.
    Moved { entity: Entity, from: Location, reshape: Arc<Reshape>, places: u32 },
    /// A resource was changed, put or removed.
    Resource { id: ComponentId, old: Option<Resource> },
}

impl World {
    /// Undoes everything of the transaction under way.
    pub(crate) fn roll_back(&mut self) {
        if self.tx.viewed && !self.make_private() {
            // Half a transaction cannot be taken back now, and must not be built upon.
            self.poisoned = true;
            return;
        }
        let lsn = self.root.lsn + 1;
        // Until it is done.
        let poisoned = std::mem::replace(&mut self.poisoned, true);
        let mut undo = std::mem::take(&mut self.tx.undo);
        // Dropped at the end, with the values that they hold.
        let mut replaced: Vec<Arc<Block>> = Vec::new();
        for step in undo.drain(..).rev() {
            self.undo_step(step, lsn, &mut replaced);
        }
        self.tx.undo = undo;
        if self.tx.lost_generation > 0 {
            Arc::make_mut(&mut self.root).index.lose(self.tx.lost_generation);
        }
        self.poisoned = poisoned;
    }

    fn undo_step(&mut self, step: Step, lsn: u64, replaced: &mut Vec<Arc<Block>>) {
        let World { root, placement, tx, .. } = self;
        let root = Arc::make_mut(root);
        match step {
            Step::Value { place, row, at } => {
                let chunk = root.chunk_mut(place.archetype, place.chunk as usize);
                chunk.columns[place.column as usize].write(lsn).exchange_row(row as usize, at, &mut tx.arena);
            }
            Step::Column { place, marks } => {
                let chunk = root.chunk_mut(place.archetype, place.chunk as usize);
                let column = &mut chunk.columns[place.column as usize];
                // Taken, not shared: an earlier change is undone in this very block, and no copy may be needed for that.
                match tx.marks.take_image(marks) {
                    // The same still, when the copy to go on in could not be made.
                    Some(Image::Block(old)) if Arc::ptr_eq(&old, &column.block) => {}
                    Some(Image::Block(old)) => replaced.push(std::mem::replace(&mut column.block, old)),
                    Some(Image::Bytes { at, rows }) => {
                        column.write(lsn).restore_rows(0..rows, at, &tx.arena);
                    }
                    None => unreachable!("a step names an image that was taken"),
                }
            }
            Step::Spawned { archetype, chunk: number, rows } => {
                let Root { archetypes, index, .. } = root;
                let Some(Archetype { chunks, len, .. }) = archetypes.get_mut(archetype as usize) else {
                    return;
                };
                let Some(chunk) = chunks.get_mut(number as usize) else { return };
                // They came last, and are the last now.
                let first = chunk.len() - rows as usize;
                for &entity in chunk.ids()[first..].iter().rev() {
                    // The id was given out, so it must never mean another entity (REC-7).
                    index.vacate(entity);
                    index.list_free(entity.index());
                    tx.lost_generation = tx.lost_generation.max(entity.generation());
                }
                for column in chunk.columns.iter_mut().chain([&mut chunk.entities]) {
                    replaced.extend(column.write(lsn).split_off(first).map(Arc::new));
                }
                *len -= rows as usize;
                placement.note_room(archetype, number as usize, true);
            }
            Step::Despawned { entity, location, places } => {
                let columns = root.archetype(location.archetype).shape.components.len();
                let places = &tx.places[places as usize..][..columns];
                placement.put_row_back(root, entity, location, places, lsn, &mut tx.arena);
            }
            Step::Moved { entity, from, reshape, places } => {
                let columns = root.archetype(from.archetype).shape.components.len();
                let places = &tx.places[places as usize..][..columns];
                let Some(at) = root.index.get(entity) else { return };
                let Some(Archetype { shape, chunks, len, .. }) =
                    root.archetypes.get_mut(at.archetype as usize)
                else {
                    return;
                };
                let (number, row) = shape.split(at.row);
                let Some(chunk) = chunks.get_mut(number) else { return };
                debug_assert_eq!(row + 1, chunk.len(), "it came last");
                // What was carried over goes back to the places that it came from, which are free since, and with that the old row is what it
                // was when it was taken out.
                for &(here, there) in &reshape.carried {
                    chunk.columns[there].write(lsn).take_last_again(places[here], &mut tx.arena);
                }
                for &(column, _) in reshape.filled.iter().filter(|(_, fresh)| *fresh) {
                    chunk.columns[column].write(lsn).bury_last(&mut tx.arena);
                }
                chunk.entities.write(lsn).remove_plain(row);
                *len -= 1;
                placement.note_room(at.archetype, number, true);
                placement.put_row_back(root, entity, from, places, lsn, &mut tx.arena);
            }
            Step::Resource { id, old } => {
                replaced.extend(root.set_resource(id, old).map(|resource| resource.block));
            }
        }
    }

    /// Copies what a view of the transaction's own state shares, before the first step, since that may call a `clone`. False
    /// when one panicked.
    fn make_private(&mut self) -> bool {
        let World { root, tx, .. } = self;
        let copy = || {
            let lsn = root.lsn + 1;
            let root = Arc::make_mut(root);
            for step in &tx.undo {
                if let Step::Column { marks, .. } = step {
                    tx.marks.make_image_private(*marks);
                }
                match step {
                    Step::Value { place, .. } | Step::Column { place, .. } => {
                        root.chunk_mut(place.archetype, place.chunk as usize).columns[place.column as usize]
                            .write(lsn);
                    }
                    Step::Spawned { archetype, chunk, .. } => {
                        root.chunk_mut(*archetype, *chunk as usize).unshare(lsn);
                    }
                    Step::Despawned { location, .. } => unshare(root, *location, lsn),
                    Step::Moved { entity, from, .. } => {
                        unshare(root, *from, lsn);
                        if let Some(at) = root.index.get(*entity) {
                            unshare(root, at, lsn);
                        }
                    }
                    Step::Resource { .. } => {}
                }
            }
        };
        match catch_unwind(AssertUnwindSafe(copy)) {
            Ok(()) => true,
            Err(payload) => {
                discard(payload);
                false
            }
        }
    }
}

fn unshare(root: &mut Root, location: Location, lsn: u64) {
    let (chunk, _) = root.archetype(location.archetype).shape.split(location.row);
    root.chunk_mut(location.archetype, chunk).unshare(lsn);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::sync::Arc as Shared;

    use ecsdb_id::Lsn;
    use proptest::prelude::*;

    use crate::raw::Arena;
    use crate::{Component, Entity, Error, Result, Transaction, World};

    #[derive(Component, Clone, Copy)]
    #[component(name = "undo.wide", plain)]
    #[repr(C)]
    struct Wide([u64; 64]);

    #[derive(Component, Clone, Copy)]
    #[component(name = "undo.number", plain)]
    #[repr(C)]
    struct Number(u64);

    #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "undo.text", archived)]
    struct Text(String);

    /// Each value is counted.
    #[derive(Component, Clone)]
    #[component(name = "undo.counted", transient)]
    struct Counted(#[allow(dead_code, reason = "its count is looked at")] Shared<()>);

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Spawn(u8),
        Despawn(u8),
        Insert(u8),
        InsertMore(u8),
        Remove(u8),
        Exchange(u8),
        Change(u8),
        ChangeAll,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (1u8..40).prop_map(Op::Spawn),
            4 => any::<u8>().prop_map(Op::Despawn),
            4 => any::<u8>().prop_map(Op::Insert),
            4 => any::<u8>().prop_map(Op::InsertMore),
            3 => any::<u8>().prop_map(Op::Remove),
            3 => any::<u8>().prop_map(Op::Exchange),
            4 => any::<u8>().prop_map(Op::Change),
            1 => Just(Op::ChangeAll),
        ]
    }

    fn run(op: Op, n: u64, tx: &mut Transaction<'_>, ids: &[Entity], counted: &Shared<()>) -> Result<()> {
        let new = || (Wide([n; 64]), Text(format!("{n}")), Counted(counted.clone()));
        let id = |i: u8| ids.get(i as usize % ids.len().max(1)).copied().unwrap_or(Entity::NONE);
        match op {
            Op::Spawn(rows) => drop(tx.spawn_batch((0..rows).map(|_| new()))),
            Op::Despawn(i) => tx.despawn(id(i))?,
            Op::Insert(i) => tx.insert(id(i), (Number(n), Text(format!("{n}"))))?,
            Op::InsertMore(i) => tx.insert(id(i), new())?,
            Op::Remove(i) => drop(tx.remove::<(Text, Counted)>(id(i))?),
            Op::Exchange(i) => drop(tx.exchange::<(Wide, Counted), _>(id(i), Number(n))?),
            Op::Change(i) => tx.get_mut::<Text>(id(i))?.0.push('?'),
            Op::ChangeAll => tx.query::<(&mut Text, &mut Wide)>().for_each(|(text, wide)| {
                text.0.push('!');
                wide.0[0] += 1;
            }),
        }
        Ok(())
    }

    fn entities(tx: &Transaction<'_>) -> Vec<Entity> {
        tx.read::<Entity>().unwrap().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// Wherever the arena is full: an operation happens or does not, a rollback needs no room, and nothing is dropped twice or not at all.
        #[test]
        fn a_full_arena_stops_an_operation_before_it_begins_and_no_rollback(
            before in 0u8..120,
            ops in proptest::collection::vec(op(), 1..60),
            limit in 1usize..80_000,
            commit: bool,
            look: bool,
        ) {
            let counted = Shared::new(());
            let (mut world, mut replica) = (World::new(), World::new());
            let mut open = world.begin();
            run(Op::Spawn(before), 1, open.transaction(), &[], &counted).unwrap();
            let prepared = open.prepare().unwrap();
            replica.apply(Lsn(1), &prepared.change_set().to_vec()).unwrap();
            prepared.commit(Lsn(1));
            let live = Shared::strong_count(&counted);
            let digest = world.view().digest().unwrap();
            world.tx.arena = Arena::with_limit(limit);

            let mut open = world.begin();
            let tx = open.transaction();
            for (n, &op) in ops.iter().enumerate() {
                let ids = entities(tx);
                let shown = look.then(|| tx.view().digest().unwrap());
                match run(op, n as u64, tx, &ids, &counted) {
                    Ok(()) => {}
                    Err(Error::Full(_) | Error::NoSuchEntity(_) | Error::MissingComponent { .. }) => {
                        prop_assert!(shown.is_none_or(|shown| tx.view().digest().unwrap() == shown));
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            let prepared = match open.prepare() {
                Ok(prepared) => Some(prepared),
                Err(Error::Full(_)) => None,
                Err(e) => panic!("{e}"),
            };
            let logged = prepared.filter(|_| commit).map(|prepared| {
                let bytes = prepared.change_set().to_vec();
                prepared.commit(Lsn(2));
                bytes
            });
            let found = world.view().digest().unwrap();
            if let Some(bytes) = logged {
                if !bytes.is_empty() {
                    prop_assert_eq!(replica.apply(Lsn(2), &bytes).unwrap().skipped, 0);
                }
                prop_assert_eq!(found, replica.view().digest().unwrap());
            } else {
                prop_assert_eq!(found, digest);
                prop_assert_eq!(Shared::strong_count(&counted), live);
            }
            prop_assert!(!world.is_poisoned());
            let values = world.view().query::<&Counted>().unwrap().count();
            prop_assert_eq!(Shared::strong_count(&counted), 1 + values);
            drop(world);
            prop_assert_eq!(Shared::strong_count(&counted), 1);
        }
    }
}
