//! Chains of increments taken around compactions in memory: an increment must never take a chunk for unchanged whose
//! rows were moved.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::ops::ControlFlow;
use std::sync::Arc;

use ecsdb_core::{Component, Entity, World};
use ecsdb_io::{Disk, FileKind, Urgency};
use ecsdb_snapshot::{Directory, LoadOptions, Snapshot, WriteOptions, write};
use proptest::prelude::*;

/// Wide, so that a chunk has 64 rows only.
#[derive(Component, Clone, Copy)]
#[component(name = "wide", plain)]
#[repr(C)]
struct Wide([u64; 64]);

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "name", archived)]
struct Name(String);

#[derive(Clone, Debug)]
enum Op {
    Spawn(u8, bool),
    /// Despawns all but each `k`-th, from an offset on.
    Thin(u64, u64),
    Touch(prop::sample::Index),
    /// Changes everything, and then fails.
    RollBack,
    Compact(usize),
    /// Two of them, with so much compaction between and no transaction.
    Increments(usize),
    Full,
    /// Goes on with what the last snapshot has.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    prop_oneof![
        4 => (1..200u8, any::<bool>()).prop_map(|(n, named)| Spawn(n, named)),
        4 => (2..20u64, 0..40u64).prop_map(|(k, from)| Thin(k, from)),
        2 => any::<prop::sample::Index>().prop_map(Touch),
        1 => Just(RollBack),
        5 => (1..150usize).prop_map(Compact),
        4 => (1..50usize).prop_map(Increments),
        1 => Just(Full),
        1 => Just(Restart),
    ]
}

fn commit(world: &mut World, f: impl FnOnce(&mut ecsdb_core::Transaction<'_>)) {
    let lsn = world.lsn().next();
    let mut open = world.begin();
    f(open.transaction());
    open.prepare().unwrap().commit(lsn);
}

fn ids(world: &World) -> Vec<Entity> {
    let mut ids: Vec<_> =
        world.view().query::<Entity>().map(|found| found.collect::<Vec<_>>()).unwrap_or_default();
    ids.sort_unstable();
    ids
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_taken_around_compactions_loads_as_the_world_it_was_taken_of(
        ops in proptest::collection::vec(op(), 1..40)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = |sequence| dir.path().join(FileKind::Snapshot.name(sequence));
        let load = |sequence| {
            let snapshot = Snapshot::open(&Disk, &path(sequence)).unwrap();
            snapshot.load(&Disk, LoadOptions { threads: 1, register: true }).unwrap().world
        };
        let take = |last: &mut Option<(u64, Arc<Directory>)>, world: &World, increment: bool| {
            let sequence = last.as_ref().map_or(0, |(sequence, _)| *sequence) + 1;
            let parent = last.as_ref().filter(|_| increment).map(|(sequence, directory)| (*sequence, &**directory));
            let options = WriteOptions { database: 9, salt: sequence as u32, created_unix_ns: 1, sequence, compression: None, threads: 1, parent, urgency: &Urgency::of_caller() };
            let go_on = &mut |_| ControlFlow::Continue(());
            let written = write(&Disk, &path(sequence), world.view(), &options, go_on).unwrap();
            *last = Some((sequence, written.directory));
            assert_eq!(load(sequence).view().digest().unwrap(), world.view().digest().unwrap());
        };
        let mut world = World::new();
        let mut last = None;
        for op in ops {
            match op {
                Op::Spawn(n, named) => commit(&mut world, |tx| for x in 0..u64::from(n) {
                    if named {
                        tx.spawn((Wide([x; 64]), Name(format!("number {x}"))));
                    } else {
                        tx.spawn(Wide([x; 64]));
                    }
                }),
                Op::Thin(k, from) => {
                    let all = ids(&world);
                    let gone = all.iter().filter(|id| {
                        u64::from(id.index()) >= from && u64::from(id.index()) % k != 0
                    });
                    commit(&mut world, |tx| gone.for_each(|&id| tx.despawn(id).unwrap()));
                }
                Op::Touch(i) => {
                    let all = ids(&world);
                    if !all.is_empty() {
                        commit(&mut world, |tx| tx.get_mut::<Wide>(all[i.index(all.len())]).unwrap().0[1] += 1);
                    }
                }
                Op::RollBack => {
                    let all = ids(&world);
                    let mut open = world.begin();
                    let tx = open.transaction();
                    tx.query::<&mut Wide>().for_each(|wide| wide.0[2] += 1);
                    all.iter().step_by(2).for_each(|&id| tx.despawn(id).unwrap());
                }
                Op::Compact(rows) => drop(world.compact_chunks(rows)),
                Op::Increments(rows) => {
                    take(&mut last, &world, true);
                    world.compact_chunks(rows);
                    take(&mut last, &world, true);
                }
                Op::Full => take(&mut last, &world, false),
                Op::Restart => {
                    if let Some((sequence, _)) = last {
                        world = load(sequence);
                    }
                }
            }
        }
    }
}
