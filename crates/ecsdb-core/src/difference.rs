//! What turns one world into another, as the operations of a change set.
//!
//! Most of two states of one database is shared memory, which is told from its address. The rest is compared value by
//! value, in stored form.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use triomphe::Arc;

use crate::archetype::{Archetype, Chunk};
use crate::change_set::{Encoder, Rows, pieces};
use crate::component::StorageKind;
use crate::error::{Error, Result};
use crate::index::Location;
use crate::limits::COMPONENTS_MAX;
use crate::raw::Block;
use crate::root::Root;
use crate::schema::{ComponentDef, ComponentId};

/// Writes down what turns `present` into `target`; nothing when that is nothing. Components in `undefined` are defined, too.
/// O(chunks + values that the two do not share).
///
/// # Errors
/// As of [`World::restore`](crate::World::restore).
pub(crate) fn difference(
    present: &Root,
    target: &Root,
    undefined: &[ComponentId],
    encoder: &mut Encoder,
) -> Result<()> {
    let components = match_components(present, target)?;
    undefined.iter().for_each(|&id| encoder.define(&present.schema.known(id).def));
    components.values().for_each(|def| encoder.define(def));
    let head = encoder.len();
    let mut compare =
        Compare { present, target, components: &components, encoder, values: [Vec::new(), Vec::new()] };
    // Despawns come first: an id of the target may need the slot.
    compare.despawn_the_rest();
    for archetype in target.archetypes.iter() {
        compare.archetype(archetype)?;
    }
    compare.resources()?;
    // Whatever ids either has given out that are not those of the target's entities never come to mean another.
    let (own, other) = (&present.index, &target.index);
    let given = own.highest_generation_not_in(other).max(other.highest_generation_not_in(own));
    let floor = given.saturating_add(u32::from(given > 0));
    if encoder.len() == head && floor <= own.floor_next() {
        encoder.clear();
    } else if floor > 0 {
        encoder.floor(floor);
    }
    Ok(())
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
                if let Some(mismatch) = def.mismatch(wanted.version, wanted.kind, &wanted.description) {
                    return Err(mismatch);
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
    encoder: &'a mut Encoder,
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
                let target = self.target;
                let gone: Vec<_> = chunk
                    .ids()
                    .iter()
                    .copied()
                    .filter(|&entity| target.index.get(entity).is_none())
                    .collect();
                pieces(&gone).for_each(|ids| self.encoder.despawn(ids));
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
                self.encoder.spawn(chunk, &Rows::List(&new), stored.iter().copied())?;
            }
            for span in spans {
                let pairing = pairings
                    .entry(span.at.archetype)
                    .or_insert_with(|| Pairing::of(&stored, present, present.archetype(span.at.archetype)));
                self.span(chunk, &span, pairing, &mut changed)?;
            }
            for &(column, def) in &stored {
                let rows = &mut changed[column];
                if !rows.is_empty() {
                    self.encoder.put(chunk, &Rows::List(rows), std::iter::once((column, def)))?;
                    rows.clear();
                }
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
        let selected = Rows::Range(rows);
        self.encoder.remove(chunk, &selected, pairing.removed.iter().copied());
        self.encoder.put(chunk, &selected, pairing.added.iter().copied())
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
                self.encoder.put_resource(def, &new.block)?;
            }
        }
        for old in &present.resources {
            let stored = present.schema.known(old.id).def.kind != StorageKind::Transient;
            if stored && !kept.contains(&old.id) {
                self.encoder.remove_resource(old.id);
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
