//! Merging a chain of increments into one full snapshot: the live blocks are copied as they are, without being
//! decompressed.

use std::path::Path;

use ecsdb_io::{Urgency, Vfs, checksum, publish};

use crate::directory::{ColumnEntry, Directory, FileRef};
use crate::encode::each;
use crate::error::{Error, Result};
use crate::format::{BLOCK, Header, VERSION};
use crate::output::{Follow, Output, Progress};
use crate::read::{Metadata, Snapshot};
use crate::window::Window;
use crate::write::{Written, finish, verified};

/// Writes to `path` a full snapshot, with this number and salt, that holds what `from` and the files it points to hold: the
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
    FileRef { sequence, salt, .. }: FileRef,
    urgency: &Urgency,
    progress: Follow<'_>,
) -> Result<Written> {
    let header = Header { sequence, parent: 0, salt, version: VERSION, ..*from.header() };
    let sources = from.sources(vfs)?;
    let metadata = from.metadata()?;
    let old = from.directory();
    let owners: Vec<(u64, u32)> = old.owners().collect();
    // Of each block as it was read, without any file's salt.
    let mut sums = Vec::with_capacity(old.columns.len());
    let (written, _) = publish(vfs, path, |file| {
        let mut out = Output::new(&**file, header, &mut *progress);
        let mut directory =
            Directory { files: vec![FileRef::new(sequence, salt)], columns: Vec::new(), ..old.clone() };
        // Written, and read back twice.
        out.progress.blocks = 3 * old.columns.len() as u64;
        let mut raw_bytes = 0;
        let mut windows: Vec<Window> = sources.iter().map(|_| Window::default()).collect();
        each(urgency, old.columns.len(), |i| {
            let entry = &old.columns[i];
            let file = entry.file as usize;
            directory.columns.push(ColumnEntry { offset: out.offset(), file: 0, ..*entry });
            sources[file].each_block(entry, owners[i], &mut windows[file], |block, payload| {
                sums.push(checksum(0, payload));
                raw_bytes += u64::from(block.raw_len);
                out.frame(BLOCK, &[payload], None)
            })?;
            out.progress.blocks_done += 1;
            out.write_full()
        })?;
        let blocks_written = directory.columns.len() as u64;
        let metadata = [&*metadata.schema, &metadata.resources, &metadata.allocators];
        let written = finish(&mut out, directory, metadata)?;
        Ok::<_, Error>(Written { raw_bytes, blocks_written, ..written })
    })?;
    let blocks = written.blocks_written;
    let mut thirds = |read_back: Progress| progress(Progress { blocks: 3 * blocks, ..read_back });
    let written = verified(vfs, path, written, urgency, &mut thirds)?;
    match compare(vfs, path, old, &metadata, &sums, urgency) {
        Ok(()) => Ok(written),
        Err(e) => {
            vfs.remove(path)?;
            Err(e)
        }
    }
}

/// Holds the merged file against what it was made from: the same chunks, the same columns, the same bytes.
fn compare(
    vfs: &dyn Vfs,
    path: &Path,
    old: &Directory,
    metadata: &Metadata,
    sums: &[u32],
    urgency: &Urgency,
) -> Result<()> {
    let differs = |at, what| Err(Error::damaged(path, at, what));
    let merged = Snapshot::open(vfs, path)?;
    let new = merged.directory();
    if (&new.chunks, &new.archetypes) != (&old.chunks, &old.archetypes) || merged.metadata()? != *metadata {
        return differs(0, "the merged snapshot has other chunks or another schema than its chain");
    }
    let sources = merged.sources(vfs)?;
    let mut window = Window::default();
    let mut sums = sums.iter();
    let mut columns = new.columns.iter().zip(&old.columns).zip(old.owners());
    each(urgency, new.columns.len(), |_| {
        let Some(((entry, before), owner)) = columns.next() else { return Ok(()) };
        let mut same = (entry.changed, entry.component) == (before.changed, before.component);
        sources[entry.file as usize].each_block(entry, owner, &mut window, |_, payload| {
            same &= sums.next() == Some(&checksum(0, payload));
            Ok(())
        })?;
        if !same {
            return differs(entry.offset, "a block of the merged snapshot is not that of its chain");
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use ecsdb_core::World;
    use ecsdb_io::Disk;

    use super::*;
    use crate::write::written_alone;

    /// CKP-8: whatever differs between a merged file and its chain is seen.
    #[test]
    fn a_merged_file_that_differs_from_its_chain_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new();
        let mut open = world.begin();
        open.transaction().spawn_batch((0..10).map(|_| ()));
        open.transaction().insert_resource(Turn(3));
        open.transaction().spawn(Turn(4));
        open.prepare().unwrap().commit(ecsdb_core::Lsn(1));
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        let chain = written_alone(&one, world.view());
        let urgency = Urgency::of_caller();
        let (old, metadata) = (chain.directory(), chain.metadata().unwrap());
        merge(&Disk, &chain, &two, FileRef::new(2, 5), &urgency, &mut |_| ControlFlow::Continue(())).unwrap();
        let mut sums = Vec::new();
        for (entry, owner) in old.columns.iter().zip(old.owners()) {
            let sources = chain.sources(&Disk).unwrap();
            sources[entry.file as usize]
                .each_block(entry, owner, &mut Window::default(), |_, payload| {
                    sums.push(checksum(0, payload));
                    Ok(())
                })
                .unwrap();
        }
        assert!(!sums.is_empty());
        compare(&Disk, &two, old, &metadata, &sums, &urgency).unwrap();
        sums[0] ^= 1;
        assert!(compare(&Disk, &two, old, &metadata, &sums, &urgency).unwrap_err().is_damage());
        assert!(compare(&Disk, &two, old, &metadata, &[], &urgency).unwrap_err().is_damage());
        sums[0] ^= 1;
        let mut other = old.clone();
        other.columns[0].changed += 1;
        assert!(compare(&Disk, &two, &other, &metadata, &sums, &urgency).unwrap_err().is_damage());
    }

    #[derive(ecsdb_core::Component, Clone, Copy)]
    #[component(name = "turn", plain)]
    #[repr(C)]
    struct Turn(u64);
}
