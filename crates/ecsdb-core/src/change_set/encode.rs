//! Writing operations down. Values are written as they stand in their blocks; large columns by reference.

use std::ops::Range;

use bytes::Bytes;
use triomphe::Arc;

use super::ids::{IdRun, put_ids};
use super::{ChangeSet, Code};
use crate::archetype::Chunk;
use crate::buffers::reset;
use crate::codec::{put_bytes, put_varint};
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::raw::Block;
use crate::schema::{ComponentDef, ComponentId, put_def};
use crate::shells::give_back;

/// From this size on a column is logged by reference rather than copied, which costs an allocation and a copy of the block later.
const SHARE_BYTES_MIN: usize = 4096;

/// Rows of a block.
#[derive(Debug, Clone)]
pub(crate) enum Rows<'a> {
    /// Side by side.
    Range(Range<usize>),
    /// One by one, ascending.
    List(&'a [u32]),
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Range(range) => range.len(),
            Rows::List(rows) => rows.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (range, list) = match self {
            Rows::Range(range) => (range.clone(), &[][..]),
            Rows::List(rows) => (0..0, *rows),
        };
        range.chain(list.iter().map(|&row| row as usize))
    }
}

/// A part of a block that the log holds until it is written; the next change to the block happens on a copy.
struct Frozen {
    block: Arc<Block>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.block.bytes().and_then(|bytes| bytes.get(self.range.clone())).unwrap_or(&[])
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        give_back(&mut self.block);
    }
}

/// A change set that is being written. Its buffers are kept for the next one.
#[derive(Default)]
pub(crate) struct Encoder {
    out: Vec<u8>,
    /// Blocks that belong into `out` at an offset.
    shared: Vec<(usize, Bytes)>,
    runs: Vec<IdRun>,
    ids: Vec<Entity>,
    value: Vec<u8>,
    values: Vec<u8>,
}

impl Encoder {
    pub(crate) fn clear(&mut self) {
        reset(&mut self.out);
        reset(&mut self.shared);
        reset(&mut self.values);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Bytes so far, without what is by reference.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn change_set(&self) -> ChangeSet<'_> {
        ChangeSet { inline: &self.out, shared: &self.shared }
    }

    pub(crate) fn define(&mut self, def: &ComponentDef) {
        self.out.push(Code::Define as u8);
        put_def(&mut self.out, def);
    }

    /// These rows of a chunk as new entities, with the values of these columns.
    ///
    /// # Errors
    /// As of [`Encoder::put`].
    pub(crate) fn spawn<'d>(
        &mut self,
        chunk: &Chunk,
        rows: &Rows<'_>,
        columns: impl Iterator<Item = (usize, &'d ComponentDef)> + Clone,
    ) -> Result<()> {
        self.rows(Code::Spawn, chunk, rows, columns)
    }

    /// The values of these columns for the entities of these rows of a chunk; nothing without columns.
    ///
    /// # Errors
    /// When a value cannot be encoded: the change set is then to be dropped.
    pub(crate) fn put<'d>(
        &mut self,
        chunk: &Chunk,
        rows: &Rows<'_>,
        columns: impl Iterator<Item = (usize, &'d ComponentDef)> + Clone,
    ) -> Result<()> {
        if columns.clone().next().is_none() {
            return Ok(());
        }
        self.rows(Code::Put, chunk, rows, columns)
    }

    fn rows<'d>(
        &mut self,
        code: Code,
        chunk: &Chunk,
        rows: &Rows<'_>,
        mut columns: impl Iterator<Item = (usize, &'d ComponentDef)> + Clone,
    ) -> Result<()> {
        self.with_ids(code, chunk.ids(), rows);
        put_varint(&mut self.out, columns.clone().count() as u64);
        columns.try_for_each(|(column, def)| self.column(def, &chunk.columns[column].block, rows))
    }

    pub(crate) fn despawn(&mut self, ids: &[Entity]) {
        self.with_ids(Code::Despawn, ids, &Rows::Range(0..ids.len()));
    }

    /// Components that these rows' entities have no more; nothing without any.
    pub(crate) fn remove(
        &mut self,
        chunk: &Chunk,
        rows: &Rows<'_>,
        components: impl Iterator<Item = ComponentId> + Clone,
    ) {
        let n = components.clone().count();
        if n > 0 {
            self.with_ids(Code::Remove, chunk.ids(), rows);
            put_varint(&mut self.out, n as u64);
            components.for_each(|id| put_varint(&mut self.out, u64::from(id.0)));
        }
    }

    pub(crate) fn remove_resource(&mut self, id: ComponentId) {
        self.out.push(Code::RemoveResource as u8);
        put_varint(&mut self.out, u64::from(id.0));
    }

    pub(crate) fn floor(&mut self, floor: u32) {
        self.out.push(Code::Floor as u8);
        put_varint(&mut self.out, u64::from(floor));
    }

    pub(crate) fn put_resource(&mut self, def: &ComponentDef, block: &Block) -> Result<()> {
        self.value.clear();
        block.encode_row(0, &mut self.value).map_err(|e| Error::codec(&def.name, e))?;
        self.out.push(Code::PutResource as u8);
        put_varint(&mut self.out, u64::from(def.id.0));
        put_bytes(&mut self.out, &self.value);
        Ok(())
    }

    fn with_ids(&mut self, code: Code, ids: &[Entity], rows: &Rows<'_>) {
        self.out.push(code as u8);
        match rows {
            Rows::Range(range) => put_ids(&mut self.out, &ids[range.clone()], &mut self.runs),
            Rows::List(rows) => {
                self.ids.clear();
                self.ids.extend(rows.iter().map(|&row| ids[row as usize]));
                put_ids(&mut self.out, &self.ids, &mut self.runs);
            }
        }
    }

    /// The values of these rows of a column. Plain ones side by side, each other with its length before it.
    fn column(&mut self, def: &ComponentDef, block: &Arc<Block>, rows: &Rows<'_>) -> Result<()> {
        put_varint(&mut self.out, u64::from(def.id.0));
        let Some(bytes) = block.bytes() else {
            self.values.clear();
            for row in rows.iter() {
                self.value.clear();
                block.encode_row(row, &mut self.value).map_err(|e| Error::codec(&def.name, e))?;
                put_bytes(&mut self.values, &self.value);
            }
            put_bytes(&mut self.out, &self.values);
            return Ok(());
        };
        let size = block.ops().size();
        put_varint(&mut self.out, (rows.len() * size) as u64);
        match rows {
            Rows::Range(rows) => {
                let range = rows.start * size..rows.end * size;
                if range.len() >= SHARE_BYTES_MIN {
                    let frozen = Frozen { block: block.clone(), range };
                    self.shared.push((self.out.len(), Bytes::from_owner(frozen)));
                } else {
                    self.out.extend_from_slice(&bytes[range]);
                }
            }
            Rows::List(rows) => {
                for &row in *rows {
                    let start = row as usize * size;
                    self.out.extend_from_slice(&bytes[start..start + size]);
                }
            }
        }
        Ok(())
    }
}
