//! The blocks of a file held against its directory, by which a snapshot is loaded: a file of which every frame is whole is of no use where the
//! directory says something else of them (CKP-2).

use ecsdb_io::frame::FrameHeader;

use crate::directory::{ColumnEntry, Directory};
use crate::format::BlockHeader;

/// Says of a block that is whole that it is of no use.
pub(crate) const OTHER_BLOCK: &str = "a block is another one than the directory says";

/// An entry, with the number and the rows of its chunk.
type Owned<'a> = (&'a ColumnEntry, (u64, u32));

/// The blocks of a file by its directory, in the order in which they lie.
pub(crate) struct OwnBlocks<'a> {
    left: std::vec::IntoIter<Owned<'a>>,
    of: Option<Owned<'a>>,
    /// Bytes of frames that this column still has.
    rest: u64,
}

impl<'a> OwnBlocks<'a> {
    /// Those of file `sequence`, which the directory is of.
    pub(crate) fn of(directory: &'a Directory, sequence: u64) -> Self {
        let own = directory.numbers().position(|file| file == sequence);
        let entries = directory.columns.iter().zip(directory.owners());
        let mut left: Vec<_> = entries.filter(|(entry, _)| Some(entry.file as usize) == own).collect();
        left.sort_by_key(|(entry, _)| entry.offset);
        OwnBlocks { left: left.into_iter(), of: None, rest: 0 }
    }

    /// Whether the next block is this one, at `at`.
    pub(crate) fn take(&mut self, at: u64, frame: &FrameHeader, block: &BlockHeader) -> bool {
        if self.rest == 0 {
            self.of = self.left.next().filter(|(entry, _)| (entry.offset, entry.len) == (at, frame.len));
            self.rest = self.of.map_or(0, |(entry, _)| entry.stored_bytes());
        }
        let Some((entry, (chunk, rows))) = self.of else { return false };
        let Some(rest) = self.rest.checked_sub(frame.frame_len()) else { return false };
        self.rest = rest;
        let said = (chunk, entry.changed, entry.component, rows);
        (block.chunk, block.changed, block.component, block.rows) == said
    }

    /// Whether there were all of them.
    pub(crate) fn were_all(&self) -> bool {
        self.rest == 0 && self.left.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use ecsdb_core::{Component, Lsn, World};
    use ecsdb_io::frame::frame_len;
    use ecsdb_io::{Disk, Urgency, Vfs, publish};

    use super::*;
    use crate::format::{BLOCK, ENTITY_IDS};
    use crate::output::Output;
    use crate::window::Window;
    use crate::write::{finish, verified, written_alone};
    use crate::{Error, Result, Snapshot, Written};

    #[derive(Component, Clone, Copy)]
    #[component(name = "turn", plain)]
    #[repr(C)]
    struct Turn(u64);

    /// The same content with two blocks for each component's column, and what `spoil` makes of its directory.
    fn again(from: &Snapshot, path: &Path, spoil: impl Fn(&mut Directory)) -> Result<Written> {
        let mut directory = from.directory().clone();
        let (metadata, sources) = (from.metadata()?, from.sources(&Disk)?);
        let follow = &mut |_| ControlFlow::Continue(());
        let (written, _) = publish(&Disk, path, |file| {
            let mut out = Output::new(&**file, *from.header(), &mut *follow);
            let mut window = Window::default();
            for (i, owner) in from.directory().owners().enumerate() {
                let entry = &mut directory.columns[i];
                entry.offset = out.offset();
                sources[0].each_block(&from.directory().columns[i], owner, &mut window, |_, payload| {
                    if entry.component != ENTITY_IDS {
                        out.frame(BLOCK, &[payload], None)?;
                        entry.add_frame(frame_len(payload.len() as u64))?;
                    }
                    out.frame(BLOCK, &[payload], None)
                })?;
            }
            spoil(&mut directory);
            finish(&mut out, directory, [&metadata.schema, &metadata.resources, &metadata.allocators])
        })?;
        verified(&Disk, path, written, &Urgency::of_caller(), follow)
    }

    #[test]
    fn a_snapshot_whose_directory_is_not_of_its_blocks_is_not_relied_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new();
        let mut open = world.begin();
        open.transaction().spawn_batch((0..3).map(Turn));
        open.transaction().spawn(());
        open.prepare().unwrap().commit(Lsn(1));
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        let chain = written_alone(&one, world.view());
        again(&chain, &two, |_| {}).unwrap();
        let turn = |d: &mut Directory, spoil: fn(&mut ColumnEntry)| {
            let entry = d.columns.iter_mut().find(|entry| entry.component != ENTITY_IDS).unwrap();
            assert!(entry.more > 0);
            spoil(entry);
        };
        let spoils: [&dyn Fn(&mut Directory); 9] = [
            &|d| turn(d, |entry| entry.more -= 1),
            &|d| turn(d, |entry| entry.more += 1),
            &|d| turn(d, |entry| entry.more = 0),
            &|d| turn(d, |entry| entry.len -= 8),
            &|d| turn(d, |entry| entry.offset += 8),
            &|d| turn(d, |entry| entry.changed += 1),
            &|d| d.chunks[0].rows += 1,
            &|d| d.chunks[1].uid += 1,
            &|d| d.columns[0].offset = d.columns[2].offset,
        ];
        for (i, spoil) in spoils.into_iter().enumerate() {
            Disk.remove(&two).unwrap_or(());
            let refused = again(&chain, &two, spoil);
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{i}: {refused:?}");
            assert!(!two.exists(), "{i}");
        }
    }
}
