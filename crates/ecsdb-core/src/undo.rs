//! Rolling back: the inverse of each change, applied in reverse order, so that every step finds the world as
//! the step it undoes left it.

use triomphe::Arc;

use crate::archetype::Column;
use crate::entity::Entity;
use crate::index::Location;
use crate::raw::Block;
use crate::schema::ComponentId;
use crate::world::{Resource, World};

/// What undoes one change.
pub(crate) enum Undo {
    /// A value was changed, or may have been.
    Write {
        entity: Entity,
        component: ComponentId,
        old: Old,
        /// The change set gets the value that stands at the end of the transaction.
        log: bool,
    },
    /// A whole column was handed out to be changed.
    Image(Image),
    Spawn(Entity),
    Despawn {
        entity: Entity,
        location: Location,
        values: Vec<Block>,
    },
    /// The entity moved to another archetype. `missing` are the values it had before and has no more.
    Migrate {
        entity: Entity,
        from: Location,
        missing: Vec<(ComponentId, Block)>,
    },
    Resource {
        id: ComponentId,
        old: Option<Resource>,
    },
}

/// A value before a change.
pub(crate) enum Old {
    /// Plain: where its bytes are in the transaction's buffer.
    Bytes { at: usize, len: u32 },
    /// One row.
    Value(Block),
}

/// A column of a chunk before it was handed out.
pub(crate) struct Image {
    pub(crate) archetype: u32,
    pub(crate) chunk: u32,
    pub(crate) column: u32,
    pub(crate) old: Column,
}

impl World {
    /// Undoes everything of the transaction under way. Nothing in here can fail or call user code but for
    /// destructors: rows are moved, and the columns were unshared when the change was made.
    pub(crate) fn roll_back(&mut self) {
        let lsn = self.root.lsn + 1;
        let undo = std::mem::take(&mut self.tx.undo);
        let bytes = std::mem::take(&mut self.tx.undo_bytes);
        for step in undo.into_iter().rev() {
            match step {
                Undo::Write { entity, component, old, .. } => {
                    let Some(location) = self.root.index.get(entity) else { continue };
                    let shape = self.root.archetype(location.archetype).shape.clone();
                    let Some(column) = shape.column_of(component) else { continue };
                    let (chunk, row) = shape.split(location.row);
                    let block = self.chunk_mut(location.archetype, chunk).columns[column].write(lsn);
                    match old {
                        Old::Bytes { at, len } => {
                            if let Some(value) = block.row_bytes_mut(row) {
                                value.copy_from_slice(&bytes[at..at + len as usize]);
                            }
                        }
                        Old::Value(mut value) => block.exchange(row, &mut value),
                    }
                }
                Undo::Image(Image { archetype, chunk, column, old }) => {
                    self.chunk_mut(archetype, chunk as usize).columns[column as usize] = old;
                }
                Undo::Spawn(entity) => {
                    if let Some(location) = self.root.index.get(entity) {
                        self.take_row(location, lsn);
                        let index = &mut Arc::make_mut(&mut self.root).index;
                        index.vacate(entity);
                        // The id was given out, so it must never mean another entity (REC-7).
                        index.list_free(entity.index());
                        self.writer.retired.push((entity.index(), index.next_generation(entity.index())));
                    }
                }
                Undo::Despawn { entity, location, values } => self.restore_row(entity, location, values, lsn),
                Undo::Migrate { entity, from, missing } => {
                    let Some(at) = self.root.index.get(entity) else { continue };
                    let components = self.root.archetype(at.archetype).shape.components.clone();
                    let values = self.take_row(at, lsn);
                    let shape = self.root.archetype(from.archetype).shape.clone();
                    let mut have: Vec<(ComponentId, Block)> = missing;
                    for (id, value) in components.iter().copied().zip(values) {
                        // A replaced value is among the missing ones, and wins.
                        if shape.column_of(id).is_some() && !have.iter().any(|(known, _)| *known == id) {
                            have.push((id, value));
                        }
                    }
                    have.sort_unstable_by_key(|(id, _)| *id);
                    self.restore_row(entity, from, have.into_iter().map(|(_, value)| value).collect(), lsn);
                }
                Undo::Resource { id, old } => {
                    self.set_resource(id, old);
                }
            }
        }
    }
}
