//! Merging a chain of increments into one full snapshot: the live blocks are copied as they are, without being
//! decompressed.

use std::ops::ControlFlow;
use std::path::Path;

use ecsdb_io::{Vfs, checksum, publish};

use crate::directory::{ColumnEntry, Directory};
use crate::error::{Error, Result};
use crate::format::{BLOCK, Header};
use crate::output::{Output, Progress, Stopped};
use crate::read::{Metadata, Snapshot};
use crate::window::Window;
use crate::write::{Written, finish, verified};

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Writes to `path` a full snapshot, of number `sequence`, that holds what `from` and the files it points to hold: the
/// same blocks, schema, resources and allocators, at the same LSN. Each block is verified as it is read, and the new file
/// is read back once it is published and compared with what it was made from (CKP-8). O(bytes of the live blocks).
///
/// # Errors
/// As of [`write()`](crate::write()); when a block of the chain is damaged, nothing is published, and a file that does not
/// hold what the chain holds is removed.
pub fn merge(
    vfs: &dyn Vfs,
    from: &Snapshot,
    path: &Path,
    sequence: u64,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<Stopped>,
) -> Result<Written> {
    let header = Header { sequence, parent: 0, salt: vfs.random_u64() as u32, ..*from.header() };
    let sources = from.sources(vfs)?;
    let metadata = from.metadata()?;
    let old = from.directory();
    // Of each block as it was read, without any file's salt.
    let mut sums = Vec::with_capacity(old.columns.len());
    let (written, _) = publish(vfs, path, |file| {
        let mut out = Output::new(&**file, header, progress);
        let mut directory = Directory { files: vec![sequence], columns: Vec::new(), ..old.clone() };
        out.progress.blocks = old.columns.len() as u64;
        let mut raw_bytes = 0;
        let mut windows: Vec<Window> = sources.iter().map(|_| Window::default()).collect();
        for (entry, owner) in old.columns.iter().zip(old.owners()) {
            let file = entry.file as usize;
            directory.columns.push(ColumnEntry { offset: out.offset(), file: 0, ..*entry });
            sources[file].each_block(entry, owner, &mut windows[file], |block, payload| {
                sums.push(checksum(0, payload));
                raw_bytes += u64::from(block.raw_len);
                out.frame(BLOCK, &[payload], None)
            })?;
            out.progress.blocks_done += 1;
            out.flush_if(WRITE_BYTES)?;
        }
        let blocks_written = directory.columns.len() as u64;
        let metadata = [&*metadata.schema, &metadata.resources, &metadata.allocators];
        let written = finish(&mut out, directory, metadata)?;
        Ok::<_, Error>(Written { raw_bytes, blocks_written, ..written })
    })?;
    let written = verified(vfs, path, written)?;
    match compare(vfs, path, old, &metadata, &sums) {
        Ok(()) => Ok(written),
        Err(e) => {
            vfs.remove(path)?;
            Err(e)
        }
    }
}

/// Holds the merged file against what it was made from: the same chunks, the same columns, the same bytes.
fn compare(vfs: &dyn Vfs, path: &Path, old: &Directory, metadata: &Metadata, sums: &[u32]) -> Result<()> {
    let differs = |at, what| Err(Error::damaged(path, at, what));
    let merged = Snapshot::open(vfs, path)?;
    let new = merged.directory();
    if (&new.chunks, &new.archetypes) != (&old.chunks, &old.archetypes) || merged.metadata()? != *metadata {
        return differs(0, "the merged snapshot has other chunks or another schema than its chain");
    }
    let sources = merged.sources(vfs)?;
    let mut window = Window::default();
    let mut sums = sums.iter();
    for ((entry, before), owner) in new.columns.iter().zip(&old.columns).zip(old.owners()) {
        let mut same = (entry.changed, entry.component) == (before.changed, before.component);
        sources[entry.file as usize].each_block(entry, owner, &mut window, |_, payload| {
            same &= sums.next() == Some(&checksum(0, payload));
            Ok(())
        })?;
        if !same {
            return differs(entry.offset, "a block of the merged snapshot is not that of its chain");
        }
    }
    Ok(())
}
