//! Writing a transaction down: what was changed, as logical operations that replay can apply (WAL-8).
//!
//! Structural changes are encoded as they happen. Values that were handed out to be changed are encoded at the
//! end, as they stand then; replay gives the same world, since the last value wins either way.

use bytes::Bytes;
use triomphe::Arc;

use crate::codec::{Op, RUN_IDS_MAX, put_entity, put_ids, put_varint};
use crate::component::StorageKind;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::raw::Block;
use crate::schema::{ComponentDef, ComponentId};
use crate::transaction::TransactionState;
use crate::undo::{Image, Old, Undo};
use crate::world::World;

/// From this size on a column is logged by reference rather than copied.
const SHARE_BYTES_MIN: usize = 1024;

/// A block that the log holds until it is written; the next change to it happens on a copy.
struct Frozen(Arc<Block>);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes().unwrap_or(&[])
    }
}

impl World {
    /// Completes the change set: what is defined first, and the values that were handed out.
    pub(crate) fn log_changes(&mut self) -> Result<()> {
        for image in 0..self.tx.images.len() {
            self.log_image(image)?;
        }
        self.log_writes()?;
        self.log_resources()?;
        if self.tx.ops.is_empty() || (self.writer.undefined.is_empty() && self.writer.retired.is_empty()) {
            return Ok(());
        }
        let mut head = Vec::new();
        self.put_head(&mut head);
        for (at, _) in &mut self.tx.shared {
            *at += head.len();
        }
        self.tx.ops.splice(0..0, head);
        Ok(())
    }

    /// What the log does not know yet: components defined and ids given out since the last change set.
    pub(crate) fn put_head(&self, out: &mut Vec<u8>) {
        for &id in &self.writer.undefined {
            put_define(out, &self.root.schema.known(id).def);
        }
        for &(index, generation) in &self.writer.retired {
            put_retire(out, index, generation);
        }
    }

    /// Logs the rows of a column that differ from its image, unless that was done.
    pub(crate) fn log_image(&mut self, image: usize) -> Result<()> {
        let Some(at) = self.tx.images.get_mut(image).and_then(Option::take) else { return Ok(()) };
        let Some(Undo::Image(Image { archetype, chunk, column, old })) = self.tx.undo.get(at) else {
            return Ok(());
        };
        let archetype = self.root.archetype(*archetype);
        let id = archetype.shape.components[*column as usize];
        let Some(chunk) = archetype.chunks.get(*chunk as usize) else { return Ok(()) };
        let def = &self.root.schema.known(id).def;
        let new = &chunk.columns[*column as usize].block;
        let (ops, shared, scratch) = (&mut self.tx.ops, &mut self.tx.shared, &mut self.tx.scratch);
        match def.kind {
            StorageKind::Transient => Ok(()),
            StorageKind::Plain => {
                log_plain(ops, shared, id, &old.block, new, chunk.ids());
                Ok(())
            }
            StorageKind::Archived => log_archived(ops, scratch, def, &old.block, new, chunk.ids()),
        }
    }

    /// Logs the single values that were handed out, as they stand now.
    fn log_writes(&mut self) -> Result<()> {
        let World { root, tx, .. } = self;
        let TransactionState { ops, undo, undo_bytes, scratch, .. } = tx;
        let mut writes = undo.iter().filter_map(|step| match step {
            Undo::Write { entity, component, old, log: true } => Some((*component, *entity, old)),
            _ => None,
        });
        let Some(first) = writes.next() else { return Ok(()) };
        let mut all = arrayvec::ArrayVec::<_, 1>::from([first]);
        let mut sorted: Vec<(ComponentId, Entity, &Old)>;
        let mut rest = writes.peekable();
        let all: &mut [_] = if rest.peek().is_none() {
            &mut all
        } else {
            // The sort is stable, so of several writes to one value the first, with the oldest image, is kept.
            sorted = std::iter::once(first).chain(rest).collect();
            sorted.sort_by_key(|(component, entity, _)| (*component, *entity));
            sorted.dedup_by_key(|(component, entity, _)| (*component, *entity));
            &mut sorted
        };
        let value_of = |component: ComponentId, entity: Entity| -> Option<(&Block, usize)> {
            // Despawned or removed since: then there is nothing to write.
            let location = root.index.get(entity)?;
            let archetype = root.archetype(location.archetype);
            let column = archetype.shape.column_of(component)?;
            let (chunk, row) = archetype.shape.split(location.row);
            Some((&archetype.chunks.get(chunk)?.columns[column].block, row))
        };
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            let component = group[0].0;
            let def = &root.schema.known(component).def;
            let changed = |&&(component, entity, old): &&(ComponentId, Entity, &Old)| {
                value_of(component, entity).is_some_and(|(block, row)| match (old, block.row_bytes(row)) {
                    (Old::Bytes { at, len }, Some(new)) => undo_bytes[*at..*at + *len as usize] != *new,
                    _ => true,
                })
            };
            let mut changed = group.iter().filter(changed).map(|&(_, entity, _)| entity);
            let Some(first) = changed.next() else { continue };
            let rest: Vec<Entity> = changed.collect();
            if rest.is_empty() {
                ops.push(Op::Write as u8);
                put_entity(ops, first);
                put_varint(ops, u64::from(component.0));
                if let Some((block, row)) = value_of(component, first) {
                    put_value(ops, scratch, def, block, row)?;
                }
                continue;
            }
            let entities: Vec<Entity> = std::iter::once(first).chain(rest).collect();
            for run in entities.chunks(RUN_IDS_MAX) {
                ops.push(Op::WriteRun as u8);
                put_varint(ops, u64::from(component.0));
                put_ids(ops, run.iter().copied());
                for &entity in run {
                    if let Some((block, row)) = value_of(component, entity) {
                        put_value(ops, scratch, def, block, row)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Logs the resources that were put, handed out or removed, as they stand now.
    fn log_resources(&mut self) -> Result<()> {
        let World { root, tx, .. } = self;
        let TransactionState { ops, undo, scratch, .. } = tx;
        let mut ids: Vec<ComponentId> = undo
            .iter()
            .filter_map(|step| match step {
                Undo::Resource { id, .. } => Some(*id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let def = &root.schema.known(id).def;
            if def.kind == StorageKind::Transient {
                continue;
            }
            match root.resource(id) {
                Some(resource) => {
                    ops.push(Op::PutResource as u8);
                    put_varint(ops, u64::from(id.0));
                    put_value(ops, scratch, def, &resource.block, 0)?;
                }
                None => {
                    ops.push(Op::RemoveResource as u8);
                    put_varint(ops, u64::from(id.0));
                }
            }
        }
        Ok(())
    }

    /// Logs rows just appended to one chunk, column by column.
    pub(crate) fn log_spawn_run(&mut self, first: Location, entities: &[Entity]) -> Result<()> {
        let World { root, tx, .. } = self;
        let archetype = root.archetype(first.archetype);
        let (chunk, row) = archetype.shape.split(first.row);
        let Some(chunk) = archetype.chunks.get(chunk) else { return Ok(()) };
        let stored: Vec<(&ComponentDef, &Block)> = archetype
            .shape
            .components
            .iter()
            .zip(&chunk.columns)
            .map(|(&id, column)| (&root.schema.known(id).def, &*column.block))
            .filter(|(def, _)| def.kind != StorageKind::Transient)
            .collect();
        tx.ops.push(Op::SpawnRun as u8);
        put_varint(&mut tx.ops, stored.len() as u64);
        for (def, _) in &stored {
            put_varint(&mut tx.ops, u64::from(def.id.0));
        }
        put_ids(&mut tx.ops, entities.iter().copied());
        for (def, block) in stored {
            for i in 0..entities.len() {
                put_value(&mut tx.ops, &mut tx.scratch, def, block, row + i)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn put_define(out: &mut Vec<u8>, def: &ComponentDef) {
    out.push(Op::DefineComponent as u8);
    put_def(out, def);
}

pub(crate) fn put_retire(out: &mut Vec<u8>, index: u32, generation: u32) {
    out.push(Op::Retire as u8);
    put_varint(out, u64::from(index));
    put_varint(out, u64::from(generation));
}

pub(crate) fn put_def(out: &mut Vec<u8>, def: &ComponentDef) {
    put_varint(out, u64::from(def.id.0));
    out.push(def.kind as u8);
    put_varint(out, u64::from(def.version));
    put_varint(out, u64::from(def.size));
    out.extend_from_slice(&def.fingerprint.to_le_bytes());
    put_varint(out, def.name.len() as u64);
    out.extend_from_slice(def.name.as_bytes());
}

/// A value: the bytes of a plain one, length and bytes of an archived one.
pub(crate) fn put_value(
    ops: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    def: &ComponentDef,
    block: &Block,
    row: usize,
) -> Result<()> {
    if let Some(bytes) = block.row_bytes(row) {
        ops.extend_from_slice(bytes);
        return Ok(());
    }
    scratch.clear();
    block.encode_row(row, scratch).map_err(|e| Error::codec(&def.name, e))?;
    put_varint(ops, scratch.len() as u64);
    ops.extend_from_slice(scratch);
    Ok(())
}

fn log_plain(
    ops: &mut Vec<u8>,
    shared: &mut Vec<(usize, Bytes)>,
    id: ComponentId,
    old: &Block,
    new: &Arc<Block>,
    ids: &[Entity],
) {
    let size = new.ops().size();
    let (before, after) = (old.bytes().unwrap_or(&[]), new.bytes().unwrap_or(&[]));
    debug_assert!(before.len() == after.len(), "images are closed before rows come or go");
    if size == 0 || before == after {
        return;
    }
    let differs = |row: usize| {
        let range = row * size..(row + 1) * size;
        before.get(range.clone()) != after.get(range)
    };
    let changed = (0..ids.len()).filter(|&row| differs(row)).count();
    ops.push(Op::WriteRun as u8);
    put_varint(ops, u64::from(id.0));
    // An unchanged row costs its bytes, a gap costs a new run of ids: whole columns are shorter unless few rows
    // were changed.
    if changed * 2 >= ids.len() {
        put_ids(ops, ids.iter().copied());
        if after.len() >= SHARE_BYTES_MIN {
            shared.push((ops.len(), Bytes::from_owner(Frozen(new.clone()))));
        } else {
            ops.extend_from_slice(after);
        }
    } else {
        put_ids(ops, (0..ids.len()).filter(|&row| differs(row)).map(|row| ids[row]));
        for row in (0..ids.len()).filter(|&row| differs(row)) {
            ops.extend_from_slice(&after[row * size..(row + 1) * size]);
        }
    }
}

fn log_archived(
    ops: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    def: &ComponentDef,
    old: &Block,
    new: &Block,
    ids: &[Entity],
) -> Result<()> {
    let (mut before, mut values, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for (row, &entity) in ids.iter().enumerate() {
        before.clear();
        scratch.clear();
        new.encode_row(row, scratch).map_err(|e| Error::codec(&def.name, e))?;
        old.encode_row(row, &mut before).map_err(|e| Error::codec(&def.name, e))?;
        if before == *scratch {
            continue;
        }
        changed.push(entity);
        put_varint(&mut values, scratch.len() as u64);
        values.extend_from_slice(scratch);
    }
    if !changed.is_empty() {
        ops.push(Op::WriteRun as u8);
        put_varint(ops, u64::from(def.id.0));
        put_ids(ops, changed.iter().copied());
        ops.extend_from_slice(&values);
    }
    Ok(())
}
