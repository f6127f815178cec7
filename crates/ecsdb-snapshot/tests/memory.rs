//! A snapshot gives its memory up as it is written. One test, since memory is counted for the whole process.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::ops::ControlFlow;

use ecsdb_core::{Component, Lsn, World, memory_in_use};
use ecsdb_io::{Disk, FileKind, Urgency};
use ecsdb_snapshot::{WriteOptions, write};

#[derive(Component, Clone, Copy)]
#[component(name = "wide", plain)]
#[repr(C)]
struct Wide([u64; 64]);

#[test]
fn what_is_written_already_costs_the_writer_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    for (sequence, threads, compression) in [(1, 1, None), (2, 2, None), (3, 2, Some(1))] {
        let mut world = World::new();
        let mut open = world.begin();
        open.transaction().spawn_batch((0..60_000).map(|x| Wide([x; 64])));
        open.prepare().unwrap().commit(Lsn(1));
        let alone = memory_in_use();
        let path = dir.path().join(FileKind::Snapshot.name(sequence));
        let options = WriteOptions {
            database: 9,
            salt: 1,
            created_unix_ns: 1,
            sequence,
            compression,
            threads,
            parent: None,
            urgency: &Urgency::of_caller(),
        };
        let mut changed = false;
        write(&Disk, &path, world.view(), &options, &mut |progress| {
            // When most of it is written, everything changes: what is still to be written is there twice then.
            if !changed && progress.blocks_done * 4 > progress.blocks * 3 {
                changed = true;
                let mut open = world.begin();
                open.transaction().query::<&mut Wide>().for_each(|wide| wide.0[0] += 1);
                // The images and the change set hold the old blocks while the transaction is open.
                open.prepare().unwrap().commit(Lsn(2));
                let twice = memory_in_use();
                assert!(twice - alone < alone / 3, "{alone} then {twice}");
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(changed);
        assert_eq!(memory_in_use(), alone);
    }
}
