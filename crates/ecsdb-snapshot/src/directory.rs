//! The directory: where every block of a snapshot is, in this file or in older ones.

use std::path::Path;

use bytemuck::{Pod, Zeroable};
use ecsdb_io::frame::{ALIGN, frame_len};
use rustc_hash::FxHashMap;

use crate::error::{Error, Result};

/// Everything a snapshot consists of. Complete in itself: loading an incremental snapshot reads one directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The snapshot files that have the blocks; the file itself is among them if it has any.
    pub files: Vec<FileRef>,
    /// Archetypes: rows of a full chunk as a power of two, and the component ids, sorted.
    pub archetypes: Vec<(u32, Vec<u32>)>,
    /// Chunks, in the order in which they are loaded.
    pub chunks: Vec<ChunkEntry>,
    /// Columns, those of a chunk side by side: the entity ids first, then the components in order.
    pub columns: Vec<ColumnEntry>,
}

/// A snapshot file that a directory points to. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FileRef {
    /// Its number.
    pub sequence: u64,
    /// Its salt: a file of that number with another one is not it, but of another life of the database.
    pub salt: u32,
    /// 1 if the salt is known; 0 where a file of version 2 had named it.
    pub salt_known: u32,
}

impl FileRef {
    /// File `sequence` with this salt.
    pub fn new(sequence: u64, salt: u32) -> Self {
        FileRef { sequence, salt, salt_known: 1 }
    }
}

/// A chunk in the directory. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ChunkEntry {
    /// Its number.
    pub uid: u64,
    /// Index into [`Directory::archetypes`].
    pub archetype: u32,
    /// Rows.
    pub rows: u32,
    /// Index of its first column in [`Directory::columns`].
    pub first_column: u32,
    /// Zero.
    pub reserved: u32,
}

/// A column in the directory. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ColumnEntry {
    /// LSN of its last change.
    pub changed: u64,
    /// Where its block frame begins.
    pub offset: u64,
    /// Index into [`Directory::files`].
    pub file: u32,
    /// The component, or `u32::MAX` for the entity ids.
    pub component: u32,
    /// Bytes of the payload of its first block's frame.
    pub len: u32,
    /// Bytes of the frames of its further blocks, which follow the first, divided by 8.
    pub more: u32,
}

/// What [`ColumnEntry::more`] counts in.
const FRAME_STEP: u64 = ALIGN as u64;

impl ColumnEntry {
    /// Where its last frame ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored_bytes())
    }

    /// Notes that its next block follows, with a frame of so many bytes.
    pub(crate) fn add_frame(&mut self, bytes: u64) -> Result<()> {
        let more = (u64::from(self.more) * FRAME_STEP).saturating_add(bytes);
        self.more = Error::fit("bytes of a column of a chunk, in units of 8", more / FRAME_STEP)?;
        Ok(())
    }

    /// Bytes of its frames.
    pub fn stored_bytes(&self) -> u64 {
        frame_len(u64::from(self.len)) + u64::from(self.more) * FRAME_STEP
    }
}

const _: () =
    assert!(size_of::<FileRef>() == 16 && size_of::<ChunkEntry>() == 24 && size_of::<ColumnEntry>() == 32);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Counts {
    files: u32,
    archetypes: u32,
    chunks: u32,
    columns: u32,
}

impl Directory {
    /// The columns of a chunk.
    pub fn columns_of(&self, chunk: &ChunkEntry) -> &[ColumnEntry] {
        let n = self.archetypes[chunk.archetype as usize].1.len() + 1;
        &self.columns[chunk.first_column as usize..][..n]
    }

    /// For each of the columns, the number and the rows of its chunk.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.chunks
            .iter()
            .flat_map(|chunk| std::iter::repeat_n((chunk.uid, chunk.rows), self.columns_of(chunk).len()))
    }

    /// The numbers of the files that it points to.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.files.iter().map(|file| file.sequence)
    }

    /// Bytes of the blocks it points to, frames included.
    pub fn stored_bytes(&self) -> u64 {
        self.columns.iter().map(ColumnEntry::stored_bytes).sum()
    }

    /// The same of those in file `sequence` alone.
    pub fn stored_bytes_of(&self, sequence: u64) -> u64 {
        let file = self.numbers().position(|file| file == sequence);
        let own = self.columns.iter().filter(|column| Some(column.file as usize) == file);
        own.map(ColumnEntry::stored_bytes).sum()
    }

    /// Every column by (chunk, component), to tell what a parent has.
    pub(crate) fn by_key(&self) -> FxHashMap<(u64, u32), &ColumnEntry> {
        let columns = self.chunks.iter().flat_map(|chunk| {
            self.columns_of(chunk).iter().map(move |column| ((chunk.uid, column.component), column))
        });
        columns.collect()
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let counts = Counts {
            files: Error::fit("snapshot files", self.files.len() as u64)?,
            archetypes: Error::fit("archetypes", self.archetypes.len() as u64)?,
            chunks: Error::fit("chunks", self.chunks.len() as u64)?,
            columns: Error::fit("columns", self.columns.len() as u64)?,
        };
        let mut out = bytemuck::bytes_of(&counts).to_vec();
        out.extend_from_slice(bytemuck::cast_slice(&self.files));
        out.extend_from_slice(bytemuck::cast_slice(&self.chunks));
        out.extend_from_slice(bytemuck::cast_slice(&self.columns));
        for (rows_log2, components) in &self.archetypes {
            let n = Error::fit("components of an archetype", components.len() as u64)?;
            out.extend_from_slice(bytemuck::bytes_of(&[*rows_log2, n]));
            out.extend_from_slice(bytemuck::cast_slice(components));
        }
        Ok(out)
    }

    /// Decodes a directory of a file of format `version`, whose checksum held. `offset` is where its payload begins, for errors.
    pub(crate) fn decode(path: &Path, offset: u64, bytes: &[u8], version: u32) -> Result<Directory> {
        let short = || Error::damaged(path, offset, "the directory is shorter than its entries");
        let mut rest = bytes;
        let counts: Counts = *take(&mut rest, 1).ok_or_else(short)?.first().ok_or_else(short)?;
        let files = if version < 3 {
            let numbers: Vec<u64> = take(&mut rest, counts.files).ok_or_else(short)?;
            numbers.into_iter().map(|sequence| FileRef { sequence, salt: 0, salt_known: 0 }).collect()
        } else {
            take(&mut rest, counts.files).ok_or_else(short)?
        };
        let chunks: Vec<ChunkEntry> = take(&mut rest, counts.chunks).ok_or_else(short)?;
        let columns: Vec<ColumnEntry> = take(&mut rest, counts.columns).ok_or_else(short)?;
        let mut archetypes = Vec::new();
        for _ in 0..counts.archetypes {
            let head: Vec<u32> = take(&mut rest, 2).ok_or_else(short)?;
            archetypes.push((head[0], take(&mut rest, head[1]).ok_or_else(short)?));
        }
        let directory = Directory { files, archetypes, chunks, columns };
        directory.check().map_err(|what| Error::damaged(path, offset, what))?;
        Ok(directory)
    }

    /// Every index must hold before anything is looked up by it.
    fn check(&self) -> Result<(), &'static str> {
        let mut next = 0usize;
        for chunk in &self.chunks {
            let Some((_, components)) = self.archetypes.get(chunk.archetype as usize) else {
                return Err("a chunk is of an archetype that is not listed");
            };
            if chunk.first_column as usize != next || next + components.len() + 1 > self.columns.len() {
                return Err("a chunk's columns are not listed in order");
            }
            let columns = &self.columns[next..next + components.len() + 1];
            let expected = std::iter::once(crate::format::ENTITY_IDS).chain(components.iter().copied());
            if !columns.iter().map(|column| column.component).eq(expected) {
                return Err("a chunk's columns are not those of its archetype");
            }
            next += columns.len();
        }
        if next != self.columns.len() {
            return Err("there are columns of no chunk");
        }
        if self.columns.iter().any(|column| column.file as usize >= self.files.len()) {
            return Err("a column is in a file that is not listed");
        }
        Ok(())
    }
}

/// Takes `n` entries off the front, unless there are fewer: nothing is allocated for entries that are not there.
fn take<T: Pod>(rest: &mut &[u8], n: u32) -> Option<Vec<T>> {
    let len = size_of::<T>().checked_mul(n as usize)?;
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(bytemuck::pod_collect_to_vec(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Directory::decode(Path::new("x"), 0, &bytes, 2));
            drop(Directory::decode(Path::new("x"), 0, &bytes, 3));
        }
    }

    /// A column has room for 32 GiB, and says so rather than begin from 0 again.
    #[test]
    fn what_a_column_has_no_room_for_is_refused() {
        let mut entry = ColumnEntry { changed: 3, offset: 96, file: 0, component: 1, len: 40, more: 0 };
        for more in 1..=511 {
            entry.add_frame(64 << 20).unwrap();
            assert_eq!(entry.stored_bytes(), 64 + (more << 26));
        }
        entry.add_frame((64 << 20) - 8).unwrap();
        assert_eq!(entry.more, u32::MAX);
        for bytes in [8, 64 << 20, u64::MAX] {
            let refused = entry.add_frame(bytes).unwrap_err();
            assert!(matches!(refused, Error::TooLarge { max: 0xffff_ffff, .. }) && !refused.is_damage());
            assert_eq!(entry.more, u32::MAX);
        }
    }

    #[test]
    fn a_directory_reads_back_and_wrong_indices_are_refused() {
        let column = |component| ColumnEntry { changed: 3, offset: 96, file: 0, component, len: 40, more: 0 };
        let mut directory = Directory {
            files: vec![FileRef::new(7, 1)],
            archetypes: vec![(6, vec![1, 4])],
            chunks: vec![ChunkEntry { uid: 1, archetype: 0, rows: 5, first_column: 0, reserved: 0 }],
            columns: vec![column(u32::MAX), column(1), column(4)],
        };
        let decode = |d: &Directory| Directory::decode(Path::new("x"), 0, &d.encode().unwrap(), 3);
        assert_eq!(decode(&directory).unwrap(), directory);
        for spoil in [
            |d: &mut Directory| d.chunks[0].archetype = 1,
            |d: &mut Directory| d.chunks[0].first_column = 1,
            |d: &mut Directory| d.columns[1].component = 2,
            |d: &mut Directory| d.columns[2].file = 1,
            |d: &mut Directory| d.columns.truncate(2),
            |d: &mut Directory| d.columns.push(d.columns[0]),
        ] {
            let mut spoiled = directory.clone();
            spoil(&mut spoiled);
            assert!(decode(&spoiled).is_err());
        }
        directory.chunks.clear();
        assert!(decode(&directory).is_err());
    }
}
