//! What turns one world into another, as the operations of a change set.
//!
//! Most of two states of one database is shared memory, which is told from its address. The rest is compared value by
//! value, in stored form.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use triomphe::Arc;

use crate::archetype::{Archetype, Chunk};
use crate::codec::{Op, put_entity, put_ids, put_varint};
use crate::component::StorageKind;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::raw::Block;
use crate::redo::put_value;
use crate::schema::{COMPONENTS_MAX, ComponentDef, ComponentId};
use crate::world::Root;

/// What turns `present` into `target`.
pub(crate) struct Difference {
    /// The stored components of `target`, as `present` numbers them: known ones, and new ones.
    pub(crate) components: Vec<ComponentDef>,
    /// To be applied after the components are defined.
    pub(crate) operations: Vec<u8>,
    /// Slots that are vacant in the end and whose next generation is to be this one, to be applied last.
    pub(crate) retired: Vec<(u32, u32)>,
}

/// Compares two worlds. O(chunks + values that they do not share).
///
/// # Errors
/// As of [`World::restore`](crate::World::restore).
pub(crate) fn difference(present: &Root, target: &Root) -> Result<Difference> {
    let components = match_components(present, target)?;
    let mut compare = Compare {
        present,
        target,
        components: &components,
        out: Vec::new(),
        values: [Vec::new(), Vec::new()],
    };
    // Despawns come first: an id of the target may need the slot.
    compare.despawn_the_rest();
    for archetype in target.archetypes.iter() {
        compare.archetype(archetype)?;
    }
    compare.resources()?;
    let operations = compare.out;
    let components = components.into_values().collect();
    Ok(Difference { components, operations, retired: present.index.retired_in(&target.index) })
}

/// The definitions, by the target's number, of its stored components that have values, as the present world numbers
/// them. Components are the same when their names are.
fn match_components(present: &Root, target: &Root) -> Result<BTreeMap<ComponentId, ComponentDef>> {
    let rows = target.archetypes.iter().filter(|archetype| archetype.len > 0);
    let used = rows.flat_map(|archetype| archetype.shape.components.iter().copied());
    let used = used.chain(target.resources.iter().map(|resource| resource.id));
    let mut matched = BTreeMap::new();
    let mut next = present.schema.defs().count() as u32;
    for id in used {
        let wanted = &target.schema.known(id).def;
        if wanted.kind == StorageKind::Transient || matched.contains_key(&id) {
            continue;
        }
        let def = match present.schema.named(&wanted.name) {
            Some(id) => {
                let def = &present.schema.known(id).def;
                if *def != (ComponentDef { id, ..wanted.clone() }) {
                    return Err(Error::SchemaMismatch {
                        name: def.name.to_string(),
                        stored_version: def.version,
                        stored_kind: def.kind,
                        stored_fingerprint: def.fingerprint,
                        version: wanted.version,
                        kind: wanted.kind,
                        fingerprint: wanted.fingerprint,
                    });
                }
                def.clone()
            }
            None if next >= COMPONENTS_MAX => {
                return Err(Error::Full("a database has at most 65,536 components"));
            }
            None => {
                next += 1;
                ComponentDef { id: ComponentId(next - 1), ..wanted.clone() }
            }
        };
        matched.insert(id, def);
    }
    Ok(matched)
}

struct Compare<'a> {
    present: &'a Root,
    target: &'a Root,
    /// By the target's number.
    components: &'a BTreeMap<ComponentId, ComponentDef>,
    out: Vec<u8>,
    /// Encoded values that are compared.
    values: [Vec<u8>; 2],
}

/// How the rows of an archetype of the present become rows of one of the target.
struct Pairing<'c> {
    /// Stored columns of both: the target's and the present's.
    common: Vec<(usize, usize)>,
    /// Stored columns that only the target has.
    added: Vec<(usize, &'c ComponentDef)>,
    /// Stored components that only the present has.
    removed: Vec<ComponentId>,
}

/// Rows of the target that stand in the same order in one chunk of the present.
struct Span {
    row: usize,
    len: usize,
    at: Location,
}

impl Compare<'_> {
    fn despawn_the_rest(&mut self) {
        for archetype in self.present.archetypes.iter() {
            for chunk in archetype.chunks.iter() {
                if same_rows(chunk, self.target).is_some() {
                    continue;
                }
                for &entity in chunk.ids() {
                    if self.target.index.get(entity).is_none() {
                        self.out.push(Op::Despawn as u8);
                        put_entity(&mut self.out, entity);
                    }
                }
            }
        }
    }

    fn archetype(&mut self, archetype: &Archetype) -> Result<()> {
        let (present, components) = (self.present, self.components);
        let stored: Vec<(usize, &ComponentDef)> = archetype
            .shape
            .components
            .iter()
            .enumerate()
            .filter_map(|(column, id)| Some((column, components.get(id)?)))
            .collect();
        let mut pairings: FxHashMap<u32, Pairing<'_>> = FxHashMap::default();
        let mut changed: Vec<Vec<u32>> = vec![Vec::new(); archetype.shape.components.len()];
        for chunk in archetype.chunks.iter() {
            let (spans, new) = match_rows(chunk, present);
            if !new.is_empty() {
                self.spawn(chunk, &stored, &new)?;
            }
            for span in spans {
                let pairing = pairings
                    .entry(span.at.archetype)
                    .or_insert_with(|| Pairing::of(&stored, present, present.archetype(span.at.archetype)));
                self.span(chunk, &span, pairing, &mut changed)?;
            }
            for &(column, def) in &stored {
                self.write(def, chunk, &chunk.columns[column].block, &mut changed[column])?;
            }
        }
        Ok(())
    }

    /// Spawns those rows of a chunk of the target.
    fn spawn(&mut self, chunk: &Chunk, stored: &[(usize, &ComponentDef)], rows: &[u32]) -> Result<()> {
        let out = &mut self.out;
        out.push(Op::SpawnRun as u8);
        put_varint(out, stored.len() as u64);
        stored.iter().for_each(|(_, def)| put_varint(out, u64::from(def.id.0)));
        put_ids(out, rows.iter().map(|&row| chunk.ids()[row as usize]));
        for &(column, def) in stored {
            for &row in rows {
                put_value(out, &mut self.values[0], def, &chunk.columns[column].block, row as usize)?;
            }
        }
        Ok(())
    }

    /// Compares entities that stay. Rows whose value of a column differs are added to `changed`.
    fn span(
        &mut self,
        chunk: &Chunk,
        span: &Span,
        pairing: &Pairing<'_>,
        changed: &mut [Vec<u32>],
    ) -> Result<()> {
        let archetype = self.present.archetype(span.at.archetype);
        let (number, first) = archetype.shape.split(span.at.row);
        let Some(present) = archetype.chunks.get(number) else { return Ok(()) };
        let rows = span.row..span.row + span.len;
        for &(column, own) in &pairing.common {
            let (new, old) = (&chunk.columns[column].block, &present.columns[own].block);
            if Arc::ptr_eq(new, old) && first == span.row {
                continue;
            }
            let name = &archetype.shape.components[own];
            for row in rows.clone() {
                if !self.is_same(new, row, old, first + (row - span.row), *name)? {
                    changed[column].push(row as u32);
                }
            }
        }
        for row in rows {
            let entity = chunk.ids()[row];
            if !pairing.removed.is_empty() {
                self.out.push(Op::Remove as u8);
                put_entity(&mut self.out, entity);
                put_varint(&mut self.out, pairing.removed.len() as u64);
                pairing.removed.iter().for_each(|id| put_varint(&mut self.out, u64::from(id.0)));
            }
            if !pairing.added.is_empty() {
                self.out.push(Op::Insert as u8);
                put_entity(&mut self.out, entity);
                put_varint(&mut self.out, pairing.added.len() as u64);
                for &(column, def) in &pairing.added {
                    put_varint(&mut self.out, u64::from(def.id.0));
                    put_value(&mut self.out, &mut self.values[0], def, &chunk.columns[column].block, row)?;
                }
            }
        }
        Ok(())
    }

    fn is_same(
        &mut self,
        new: &Block,
        row: usize,
        old: &Block,
        old_row: usize,
        id: ComponentId,
    ) -> Result<bool> {
        if let (Some(new), Some(old)) = (new.row_bytes(row), old.row_bytes(old_row)) {
            return Ok(new == old);
        }
        for ((block, row), value) in [(new, row), (old, old_row)].into_iter().zip(&mut self.values) {
            value.clear();
            let encoded = block.encode_row(row, value);
            encoded.map_err(|e| Error::codec(&self.present.schema.known(id).def.name, e))?;
        }
        Ok(self.values[0] == self.values[1])
    }

    /// Writes those rows of a column of the target, and forgets them.
    fn write(&mut self, def: &ComponentDef, chunk: &Chunk, block: &Block, rows: &mut Vec<u32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.out.push(Op::WriteRun as u8);
        put_varint(&mut self.out, u64::from(def.id.0));
        put_ids(&mut self.out, rows.iter().map(|&row| chunk.ids()[row as usize]));
        for row in rows.drain(..) {
            put_value(&mut self.out, &mut self.values[0], def, block, row as usize)?;
        }
        Ok(())
    }

    fn resources(&mut self) -> Result<()> {
        let (present, target, components) = (self.present, self.target, self.components);
        let mut kept = Vec::new();
        for new in &target.resources {
            let Some(def) = components.get(&new.id) else { continue };
            kept.push(def.id);
            let same = match present.resource(def.id) {
                Some(old) => {
                    Arc::ptr_eq(&new.block, &old.block)
                        || self.is_same(&new.block, 0, &old.block, 0, def.id)?
                }
                None => false,
            };
            if !same {
                self.out.push(Op::PutResource as u8);
                put_varint(&mut self.out, u64::from(def.id.0));
                put_value(&mut self.out, &mut self.values[0], def, &new.block, 0)?;
            }
        }
        for old in &present.resources {
            let stored = present.schema.known(old.id).def.kind != StorageKind::Transient;
            if stored && !kept.contains(&old.id) {
                self.out.push(Op::RemoveResource as u8);
                put_varint(&mut self.out, u64::from(old.id.0));
            }
        }
        Ok(())
    }
}

impl<'c> Pairing<'c> {
    fn of(stored: &[(usize, &'c ComponentDef)], present: &Root, archetype: &Archetype) -> Self {
        let (mut common, mut added) = (Vec::new(), Vec::new());
        for &(column, def) in stored {
            match archetype.shape.column_of(def.id) {
                Some(own) => common.push((column, own)),
                None => added.push((column, def)),
            }
        }
        let removed = archetype.shape.components.iter().copied().filter(|&id| {
            present.schema.known(id).def.kind != StorageKind::Transient
                && !stored.iter().any(|(_, def)| def.id == id)
        });
        Pairing { common, added, removed: removed.collect() }
    }
}

/// Where `other` has exactly the rows of `chunk`, when the two share the memory of their ids.
fn same_rows(chunk: &Chunk, other: &Root) -> Option<Location> {
    let at = other.index.get(*chunk.ids().first()?)?;
    let archetype = other.archetype(at.archetype);
    let (number, row) = archetype.shape.split(at.row);
    let found = archetype.chunks.get(number)?;
    (row == 0 && Arc::ptr_eq(&found.entities.block, &chunk.entities.block)).then_some(at)
}

/// Where the present has the rows of a chunk of the target, and which of them it does not have.
fn match_rows(chunk: &Chunk, present: &Root) -> (Vec<Span>, Vec<u32>) {
    if let Some(at) = same_rows(chunk, present) {
        return (vec![Span { row: 0, len: chunk.len(), at }], Vec::new());
    }
    let (mut spans, mut new): (Vec<Span>, Vec<u32>) = Default::default();
    for (row, &entity) in chunk.ids().iter().enumerate() {
        let Some(at) = present.index.get(entity) else {
            new.push(row as u32);
            continue;
        };
        let shape = &present.archetype(at.archetype).shape;
        match spans.last_mut() {
            Some(span)
                if span.row + span.len == row
                    && span.at.archetype == at.archetype
                    && span.at.row as usize + span.len == at.row as usize
                    && shape.split(span.at.row).0 == shape.split(at.row).0 =>
            {
                span.len += 1;
            }
            _ => spans.push(Span { row, len: 1, at }),
        }
    }
    (spans, new)
}
