//! Rolling back: the inverse of each change, applied in reverse order, so that every step finds the world as
//! the step it undoes left it.
//!
//! Nothing in here can fail or call foreign code: rows are moved as bytes within blocks that were made private when the
//! change was made, and what is not needed any more is dropped when every row is where it was (TX-4).

use std::panic::{AssertUnwindSafe, catch_unwind};

use triomphe::Arc;

use super::marks::{ColumnPlace, Image};
use crate::entity::Entity;
use crate::index::Location;
use crate::placement::Reshape;
use crate::raw::{At, Block, discard};
use crate::root::Resource;
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
            Step::Spawned { archetype, chunk, rows } => {
                for _ in 0..rows {
                    let arch = root.archetype(archetype);
                    let Some(found) = arch.chunks.get(chunk as usize) else { return };
                    let Some(&entity) = found.ids().last() else { return };
                    let row = arch.shape.join(chunk as usize, found.len() - 1);
                    placement.take_row(root, Location { archetype, row }, lsn, &mut tx.arena, &mut tx.places);
                    // The id was given out, so it must never mean another entity (REC-7).
                    root.index.vacate(entity);
                    root.index.list_free(entity.index());
                    tx.lost_generation = tx.lost_generation.max(entity.generation());
                }
            }
            Step::Despawned { entity, location, places } => {
                let columns = root.archetype(location.archetype).shape.components.len();
                let places = &tx.places[places as usize..][..columns];
                root.put_row_back(entity, location, places, lsn, &mut tx.arena);
            }
            Step::Moved { entity, from, reshape, places } => {
                let Some(at) = root.index.get(entity) else { return };
                let start = tx.places.len();
                placement.take_row(root, at, lsn, &mut tx.arena, &mut tx.places);
                let columns = root.archetype(from.archetype).shape.components.len();
                let places = places as usize;
                // The old row: what it was when it was taken out, but for what was carried over and has come back now.
                for &(here, there) in &reshape.carried {
                    tx.places[places + here] = tx.places[start + there];
                }
                root.put_row_back(entity, from, &tx.places[places..places + columns], lsn, &mut tx.arena);
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

fn unshare(root: &mut crate::root::Root, location: Location, lsn: u64) {
    let (chunk, _) = root.archetype(location.archetype).shape.split(location.row);
    root.chunk_mut(location.archetype, chunk).unshare(lsn);
}
