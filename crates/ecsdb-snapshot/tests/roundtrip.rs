//! Snapshots of random worlds read back, full and incremental; every damage is seen.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test, which also spoils files behind the back of the engine"
)]

use std::ops::ControlFlow;

use ecsdb_core::{Component, Entity, Lsn, World};
use ecsdb_io::{Disk, FileKind, Urgency};
use ecsdb_snapshot::{Directory, Error, LoadOptions, Snapshot, Stopped, WriteOptions, Written, write};

#[derive(Component, Clone, Copy)]
#[component(name = "pos", plain)]
#[repr(C)]
struct Pos(f32, f32);

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "name", archived)]
struct Name(String);

#[derive(Component, Clone)]
#[component(name = "cache", transient)]
#[expect(dead_code, reason = "only its presence matters")]
struct Cache(Vec<u8>);

fn commit(world: &mut World, f: impl FnOnce(&mut ecsdb_core::Transaction<'_>)) {
    let lsn = world.lsn().next();
    let mut open = world.begin();
    f(open.transaction());
    open.prepare().unwrap().commit(lsn);
}

fn sample(n: u32) -> (World, Vec<Entity>) {
    let mut world = World::new();
    let mut ids = Vec::new();
    commit(&mut world, |tx| {
        ids = tx.spawn_batch((0..n).map(|i| (Pos(i as f32, 0.0), Name(format!("entity {i}")))));
        tx.spawn_batch((0..n / 3).map(|_| Pos(1.0, 2.0)));
        tx.spawn_batch((0..n / 7).map(|_| (Pos(3.0, 2.0), Cache(vec![1]))));
        tx.insert_resource(Name("the world".into()));
        tx.despawn(ids[5]).unwrap();
    });
    (world, ids)
}

fn take(
    dir: &std::path::Path,
    world: &World,
    sequence: u64,
    compression: Option<i32>,
    parent: Option<(u64, &Directory)>,
) -> Written {
    let path = dir.join(FileKind::Snapshot.name(sequence));
    let options = WriteOptions {
        database: 9,
        salt: 5,
        created_unix_ns: 1,
        sequence,
        compression,
        threads: 1 + sequence as usize % 2,
        parent,
        urgency: &Urgency::of_caller(),
    };
    write(&Disk, &path, world.view(), &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn load(dir: &std::path::Path, sequence: u64, threads: usize) -> Result<World, Error> {
    let snapshot = Snapshot::open(&Disk, &dir.join(FileKind::Snapshot.name(sequence)))?;
    Ok(snapshot.load(&Disk, LoadOptions { threads, register: true })?.world)
}

#[test]
fn a_snapshot_loads_as_the_same_world_with_and_without_compression_and_types() {
    let (mut world, ids) = sample(5_000);
    let digest = world.view().digest().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (sequence, compression) in [(1, None), (2, Some(3))] {
        let written = take(dir.path(), &world, sequence, compression, None);
        assert!(written.blocks_shared == 0 && written.blocks_written > 10);
        for threads in [1, 2] {
            let mut loaded = load(dir.path(), sequence, threads).unwrap();
            assert_eq!(loaded.view().digest().unwrap(), digest);
            assert_eq!(loaded.lsn(), Lsn(1));
            assert_eq!(loaded.view().get::<Name>(ids[7]).unwrap().0, "entity 7");
            // Both go on alike: the same id is given out next.
            let mut next = None;
            commit(&mut loaded, |tx| next = Some(tx.spawn(())));
            assert_eq!(Some(world.begin().transaction().spawn(()).index()), next.map(|id| id.index()));
        }
    }
    let snapshot = Snapshot::open(&Disk, &dir.path().join(FileKind::Snapshot.name(2))).unwrap();
    let untyped = snapshot.load(&Disk, LoadOptions { threads: 1, register: false }).unwrap().world;
    assert_eq!(untyped.view().digest().unwrap(), digest, "a program without the types carries on the bytes");
    assert!(untyped.view().get::<Pos>(ids[7]).is_err());
    let again = take(dir.path(), &untyped, 3, None, None);
    assert_eq!(load(dir.path(), 3, 2).unwrap().view().digest().unwrap(), digest);
    assert_eq!(again.header.sequence, 3);
}

#[test]
fn an_increment_has_what_changed_and_points_to_the_rest() {
    let (mut world, ids) = sample(20_000);
    let dir = tempfile::tempdir().unwrap();
    let full = take(dir.path(), &world, 1, None, None);
    commit(&mut world, |tx| tx.get_mut::<Pos>(ids[100]).unwrap().0 = -1.0);
    let second = take(dir.path(), &world, 2, None, Some((1, &full.directory)));
    assert_eq!(second.blocks_written, 1);
    assert!(second.bytes < full.bytes / 20);
    commit(&mut world, |tx| {
        tx.despawn(ids[9_000]).unwrap();
        tx.spawn(Pos(8.0, 8.0));
    });
    let third = take(dir.path(), &world, 3, Some(3), Some((2, &second.directory)));
    assert!(third.blocks_written <= 6, "{third:?}");
    assert_eq!(load(dir.path(), 3, 2).unwrap().view().digest().unwrap(), world.view().digest().unwrap());

    // A restart in between changes nothing: chunks keep their numbers.
    let mut loaded = load(dir.path(), 3, 1).unwrap();
    commit(&mut loaded, |tx| tx.get_mut::<Pos>(ids[100]).unwrap().1 = -2.0);
    let fourth = take(dir.path(), &loaded, 4, None, Some((3, &third.directory)));
    assert_eq!(fourth.blocks_written, 1);
    assert_eq!(load(dir.path(), 4, 2).unwrap().view().digest().unwrap(), loaded.view().digest().unwrap());

    std::fs::remove_file(dir.path().join(FileKind::Snapshot.name(1))).unwrap();
    match load(dir.path(), 4, 1) {
        Err(e @ Error::MissingParent { .. }) => assert!(e.is_damage()),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn every_damage_is_seen() {
    let (world, _) = sample(40);
    let dir = tempfile::tempdir().unwrap();
    take(dir.path(), &world, 1, None, None);
    let path = dir.path().join(FileKind::Snapshot.name(1));
    let good = std::fs::read(&path).unwrap();
    let digest = world.view().digest().unwrap();
    let check = |bad: &[u8], what: String| {
        std::fs::write(&path, bad).unwrap();
        let verified = Snapshot::open(&Disk, &path).and_then(|snapshot| snapshot.verify_own());
        match load(dir.path(), 1, 1) {
            Err(e) => assert!(
                e.is_damage() || matches!(e, Error::NewerVersion { .. } | Error::OlderVersion { .. }),
                "{what}: {e}"
            ),
            // Padding between frames, and frames that loading does not need.
            Ok(world) => assert_eq!(world.view().digest().unwrap(), digest, "{what}"),
        }
        verified
    };
    let mut unseen = 0;
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        unseen += usize::from(check(&bad, format!("byte {byte}")).is_ok());
    }
    // Only the zeros that pad frames to 8 bytes are not covered by a checksum.
    assert!(unseen < good.len() / 20, "{unseen} of {}", good.len());
    for len in (0..good.len()).step_by(7) {
        assert!(check(&good[..len], format!("cut to {len}")).is_err());
    }
}

#[test]
fn a_cancelled_snapshot_leaves_nothing() {
    let (world, _) = sample(1_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FileKind::Snapshot.name(1));
    let options = WriteOptions {
        database: 9,
        salt: 5,
        created_unix_ns: 1,
        sequence: 1,
        compression: None,
        threads: 2,
        parent: None,
        urgency: &Urgency::of_caller(),
    };
    let stopped = write(&Disk, &path, world.view(), &options, &mut |_| ControlFlow::Break(Stopped));
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A rolled back transaction marks columns with the LSN that the next one then gets.
#[test]
fn an_increment_after_a_rollback_and_a_commit_under_the_same_lsn_has_the_commit() {
    let (mut world, ids) = sample(2_000);
    let dir = tempfile::tempdir().unwrap();
    world.begin().transaction().get_mut::<Pos>(ids[7]).unwrap().0 = 99.0;
    let full = take(dir.path(), &world, 1, None, None);
    commit(&mut world, |tx| tx.get_mut::<Pos>(ids[6]).unwrap().0 = 1.5);
    take(dir.path(), &world, 2, None, Some((1, &full.directory)));
    let loaded = load(dir.path(), 2, 1).unwrap();
    assert_eq!(loaded.view().get::<Pos>(ids[6]).unwrap().0, 1.5);
    assert_eq!(loaded.view().digest().unwrap(), world.view().digest().unwrap());
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "blob", archived)]
struct Blob(Vec<u8>);

/// Values whose column is too large for one block, all in one chunk: several full blocks, a rest, and values over their borders.
#[test]
fn columns_larger_than_a_block_are_written_in_several_and_merged_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let blob = |i: u8| Blob((0..3_000_001u32).map(|k| (k as u8).wrapping_mul(i)).collect());
    let mut ids = Vec::new();
    commit(&mut world, |tx| ids = tx.spawn_batch((0..24).map(|i| (blob(i), Name("x".into())))));
    let digest = world.view().digest().unwrap();
    for (sequence, compression) in [(1, None), (2, Some(1))] {
        take(dir.path(), &world, sequence, compression, None);
        let loaded = load(dir.path(), sequence, 2).unwrap();
        assert_eq!(loaded.view().digest().unwrap(), digest);
        assert_eq!(loaded.view().get::<Blob>(ids[23]).unwrap(), &blob(23));
    }
    let full = take(dir.path(), &world, 3, Some(1), None);
    commit(&mut world, |tx| tx.get_mut::<Name>(ids[0]).unwrap().0.push('y'));
    take(dir.path(), &world, 4, Some(1), Some((3, &full.directory)));
    let chain = Snapshot::open(&Disk, &dir.path().join(FileKind::Snapshot.name(4))).unwrap();
    let merged = dir.path().join(FileKind::Snapshot.name(5));
    ecsdb_snapshot::merge(
        &Disk,
        &chain,
        &merged,
        ecsdb_snapshot::FileRef::new(5, 5),
        &Urgency::of_caller(),
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();
    assert_eq!(load(dir.path(), 5, 1).unwrap().view().digest().unwrap(), world.view().digest().unwrap());
}
