//! The change set: the difference between the transaction's beginning and its end, read off its marks.
//!
//! Despawns come first, then spawns, then what moved to other components, then values: each entity is named where it
//! stands at the end, with its final values.

use triomphe::Arc;

use super::marks::{ChunkMarks, ColumnMarks, Origin, Saved};
use super::undo::Step;
use crate::archetype::{Archetype, Chunk, Shape};
use crate::change_set::{Encoder, Rows, pieces};
use crate::component::StorageKind;
use crate::error::{Error, Result};
use crate::root::Root;
use crate::schema::{ComponentDef, ComponentId};
use crate::transaction::TransactionState;
use crate::world::World;

impl World {
    /// Encodes what the transaction under way has changed. Empty when that is nothing.
    ///
    /// # Errors
    /// When a value cannot be encoded.
    pub(crate) fn encode_changes(&mut self) -> Result<()> {
        let lost = self.tx.lost_generation;
        if lost > 0 {
            Arc::make_mut(&mut self.root).index.lose(lost);
        }
        let World { root, tx, undefined, .. } = self;
        let root: &Root = root;
        let mut encoder = std::mem::take(&mut tx.encoder);
        let encoded = encode(root, tx, undefined, &mut encoder);
        tx.encoder = encoder;
        encoded
    }

    /// After a transaction that changed rows' places and nothing that is stored: an increment takes a column for unchanged when
    /// chunk number and LSN are those of its parent, and there is no new LSN. So the chunks get new numbers.
    pub(crate) fn renumber_moved_chunks(&mut self) {
        let World { root, tx, .. } = self;
        let mut moved: Vec<(u32, usize)> = Vec::new();
        for step in &tx.undo {
            let mut add =
                |archetype, row| moved.push((archetype, root.archetype(archetype).shape.split(row).0));
            match step {
                Step::Despawned { location, .. } => add(location.archetype, location.row),
                Step::Moved { from, .. } => add(from.archetype, from.row),
                Step::Spawned { archetype, chunk, .. } => moved.push((*archetype, *chunk as usize)),
                Step::Value { .. } | Step::Column { .. } | Step::Resource { .. } => {}
            }
        }
        if moved.is_empty() {
            return;
        }
        moved.extend(tx.marks.chunks().iter().map(|marks| (marks.archetype, marks.chunk as usize)));
        moved.sort_unstable();
        moved.dedup();
        let root = Arc::make_mut(root);
        for (archetype, chunk) in moved {
            let uid = root.next_chunk;
            root.next_chunk += 1;
            root.chunk_mut(archetype, chunk).uid = uid;
        }
    }
}

/// Everything that is logged, in order.
fn encode(
    root: &Root,
    tx: &mut TransactionState,
    undefined: &[ComponentId],
    encoder: &mut Encoder,
) -> Result<()> {
    encoder.clear();
    for &id in undefined {
        encoder.define(&root.schema.known(id).def);
    }
    let head = encoder.len();
    if let Some(floor) = root.index.unlogged_floor() {
        encoder.floor(floor);
    }
    for ids in pieces(&tx.despawned) {
        encoder.despawn(ids);
    }
    let mut rows = std::mem::take(&mut tx.rows);
    for marks in tx.marks.chunks() {
        let archetype = root.archetype(marks.archetype);
        let Some(chunk) = archetype.chunks.get(marks.chunk as usize) else { continue };
        spawned(root, archetype, chunk, marks, &mut rows, encoder)?;
        moved(root, archetype, chunk, marks, &mut rows, encoder)?;
    }
    let (TransactionState { marks, arena, scratch, .. }, rows_changed) = (&mut *tx, &mut rows);
    for column in marks.columns() {
        let archetype = root.archetype(column.place.archetype);
        let Some(chunk) = archetype.chunks.get(column.place.chunk as usize) else { continue };
        let id = archetype.shape.components[column.place.column as usize];
        let def = &root.schema.known(id).def;
        if def.kind == StorageKind::Transient {
            continue;
        }
        rows_changed.clear();
        let chunk_marks = marks.of_chunk(chunk);
        changed_rows(root, column, chunk_marks, chunk, def, arena, scratch, rows_changed)?;
        write(chunk, column, def, rows_changed, encoder)?;
    }
    tx.rows = rows;
    resources(root, tx, encoder)?;
    if encoder.len() == head {
        encoder.clear();
    }
    Ok(())
}

/// The stored columns of a shape: their places and definitions.
fn stored<'a>(root: &'a Root, shape: &'a Shape) -> impl Iterator<Item = (usize, &'a ComponentDef)> + Clone {
    let defs = shape.components.iter().map(|&id| &root.schema.known(id).def).enumerate();
    defs.filter(|(_, def)| def.kind != StorageKind::Transient)
}

fn rows_of(rows: &[u32]) -> Rows<'_> {
    match (rows.first(), rows.last()) {
        (Some(&first), Some(&last)) if (last - first) as usize + 1 == rows.len() => {
            Rows::Range(first as usize..last as usize + 1)
        }
        _ => Rows::List(rows),
    }
}

/// Entities that did not exist.
fn spawned(
    root: &Root,
    archetype: &Archetype,
    chunk: &Chunk,
    marks: &ChunkMarks,
    rows: &mut Vec<u32>,
    encoder: &mut Encoder,
) -> Result<()> {
    if marks.new.is_empty() {
        return Ok(());
    }
    rows.clear();
    rows.extend(marks.new.iter().map(|row| row as u32));
    encoder.spawn(chunk, &rows_of(rows), stored(root, &archetype.shape))
}

/// Entities that had other components: what they have no more, and what they did not have.
fn moved(
    root: &Root,
    archetype: &Archetype,
    chunk: &Chunk,
    marks: &ChunkMarks,
    rows: &mut Vec<u32>,
    encoder: &mut Encoder,
) -> Result<()> {
    let mut left = marks.moved.iter().peekable();
    while let Some(first) = left.next() {
        let Origin::Archetype(origin) = marks.origin(first) else { continue };
        rows.clear();
        rows.push(first as u32);
        while let Some(row) = left.next_if(|&row| marks.origin(row) == Origin::Archetype(origin)) {
            rows.push(row as u32);
        }
        let before = root.archetype(origin).shape.clone();
        let selected = rows_of(rows);
        let gone = stored(root, &before).filter(|(_, def)| archetype.shape.column_of(def.id).is_none());
        encoder.remove(chunk, &selected, gone.map(|(_, def)| def.id));
        let added = stored(root, &archetype.shape).filter(|(_, def)| before.column_of(def.id).is_none());
        encoder.put(chunk, &selected, added)?;
    }
    Ok(())
}

/// Rows of a column whose value existed when the transaction began, and differs.
#[allow(clippy::too_many_arguments, reason = "split borrows of the transaction")]
fn changed_rows(
    root: &Root,
    column: &ColumnMarks,
    chunk_marks: Option<&ChunkMarks>,
    chunk: &Chunk,
    def: &ComponentDef,
    arena: &crate::raw::Arena,
    scratch: &mut [Vec<u8>; 2],
    rows: &mut Vec<u32>,
) -> Result<()> {
    let block = &chunk.columns[column.place.column as usize].block;
    let codec = |e| Error::codec(&def.name, e);
    if column.is_whole() {
        if chunk_marks.is_none() && block.ops().is_plain() {
            column.changed_plain_rows(block, arena, rows);
            return Ok(());
        }
        for row in 0..block.len() {
            if !is_logged_as_a_whole(root, chunk_marks, row, def.id)
                && column.differs(block, row, Saved::Image(row as u32), arena, scratch).map_err(codec)?
            {
                rows.push(row as u32);
            }
        }
        return Ok(());
    }
    for row in column.rows() {
        let Some(saved) = column.saved(row) else { continue };
        if !is_logged_as_a_whole(root, chunk_marks, row, def.id)
            && column.differs(block, row, saved, arena, scratch).map_err(codec)?
        {
            rows.push(row as u32);
        }
    }
    Ok(())
}

/// True for the values of new entities, and for those of components that the entity did not have.
#[inline]
fn is_logged_as_a_whole(root: &Root, marks: Option<&ChunkMarks>, row: usize, id: ComponentId) -> bool {
    match marks.map_or(Origin::Here, |marks| marks.origin(row)) {
        Origin::Here => false,
        Origin::New => true,
        Origin::Archetype(origin) => root.archetype(origin).shape.column_of(id).is_none(),
    }
}

/// Writes values of one column.
fn write(
    chunk: &Chunk,
    column: &ColumnMarks,
    def: &ComponentDef,
    rows: &[u32],
    encoder: &mut Encoder,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let column = column.place.column as usize;
    let block = &chunk.columns[column].block;
    // A value that is the same costs its bytes, a gap a new run of ids: whole columns are shorter unless few rows changed.
    // New entities, and components that are new, have been written before, so their values may stand here again.
    let whole = block.ops().is_plain() && rows.len() * 2 >= block.len();
    let selected = if whole { Rows::Range(0..block.len()) } else { rows_of(rows) };
    encoder.put(chunk, &selected, std::iter::once((column, def)))
}

/// Resources that were put, handed out or removed, as they stand now.
fn resources(root: &Root, tx: &mut TransactionState, encoder: &mut Encoder) -> Result<()> {
    let mut seen = Vec::new();
    for step in &tx.undo {
        let Step::Resource { id, old } = step else { continue };
        // The first step has what was there at the beginning.
        let def = &root.schema.known(*id).def;
        if def.kind == StorageKind::Transient || seen.contains(id) {
            continue;
        }
        seen.push(*id);
        let codec = |e| Error::codec(&def.name, e);
        match (root.resource(*id), old) {
            (Some(new), old) => {
                let [a, b] = &mut tx.scratch;
                a.clear();
                b.clear();
                new.block.encode_row(0, a).map_err(codec)?;
                if let Some(old) = old {
                    old.block.encode_row(0, b).map_err(codec)?;
                }
                if old.is_none() || a != b {
                    encoder.put_resource(def, &new.block)?;
                }
            }
            (None, Some(_)) => encoder.remove_resource(*id),
            (None, None) => {}
        }
    }
    Ok(())
}
