//! The digest: one number that two worlds share exactly when they hold the same.

use xxhash_rust::xxh3::Xxh3;

use crate::component::StorageKind;
use crate::describe::Values;
use crate::error::{Error, Result};
use crate::raw::Block;
use crate::schema::ComponentDef;
use crate::stored_value::StoredValue;
use crate::view::View;

/// A 128-bit digest of a world's entities, components and resources.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl View {
    /// The digest of everything that is stored: the sum over all values of a hash of (entity, component name,
    /// stored value). Where a row lies in memory, transient components, and LSNs do not count. O(bytes).
    ///
    /// # Errors
    /// When a value cannot be encoded.
    pub fn digest(&self) -> Result<Digest> {
        let root = self.root();
        let mut sum = 0u128;
        let mut scratch = Vec::new();
        for archetype in root.archetypes.iter() {
            for chunk in archetype.chunks.iter() {
                for entity in chunk.ids() {
                    sum = sum.wrapping_add(hash(entity.to_bits(), "", &[]));
                }
                for (&id, column) in archetype.shape.components.iter().zip(&chunk.columns) {
                    let def = &root.schema.known(id).def;
                    if def.kind == StorageKind::Transient {
                        continue;
                    }
                    for (row, entity) in chunk.ids().iter().enumerate() {
                        let value = match column.block.row_bytes(row) {
                            Some(bytes) => bytes,
                            None => {
                                value(def, &column.block, row, &mut scratch)?;
                                &scratch
                            }
                        };
                        sum = sum.wrapping_add(hash(entity.to_bits(), &def.name, value));
                    }
                }
            }
        }
        for resource in &root.resources {
            let def = &root.schema.known(resource.id).def;
            if def.kind != StorageKind::Transient {
                value(def, &resource.block, 0, &mut scratch)?;
                // Generation 0: no entity has it.
                sum = sum.wrapping_add(hash(0, &def.name, &scratch));
            }
        }
        Ok(Digest(sum))
    }
}

/// What of a value is hashed: its stored form, or where equal values can have several, the one that they share (TX-6).
fn value(def: &ComponentDef, block: &Block, row: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let encoded = match def.description.is_unordered() {
        true if block.is::<StoredValue>() => return canonical_stored(def, block, row, out),
        true => block.canonical_row(row, out),
        false => block.encode_row(row, out),
    };
    encoded.map_err(|e| Error::codec(&def.name, e))
}

/// The form that equal values share, of a value whose Rust type this program does not have.
fn canonical_stored(def: &ComponentDef, block: &Block, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut stored = Vec::new();
    block.encode_row(row, &mut stored).map_err(|e| Error::codec(&def.name, e))?;
    Values::of(&def.description)
        .and_then(|values| values.canonical(&stored, out))
        .map_err(|cause| Error::DigestNeedsType { component: def.name.to_string(), cause })
}

fn hash(entity: u64, component: &str, value: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&entity.to_le_bytes());
    hasher.update(&(component.len() as u64).to_le_bytes());
    hasher.update(component.as_bytes());
    hasher.update(value);
    hasher.digest128()
}
