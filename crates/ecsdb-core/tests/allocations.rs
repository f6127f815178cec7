//! Allocations in the steady state, counted: what a transaction needs it has from the one before.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ecsdb_core::parts::ColumnPart;
use ecsdb_core::{Component, Entity, Transaction, World};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the thread has, and the most that it has had.
    static BYTES: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

fn count_bytes(more: i64) {
    let _ = BYTES.try_with(|bytes| {
        let now = bytes.get().0 + more;
        bytes.set((now, bytes.get().1.max(now)));
    });
}

// SAFETY: everything is the system allocator's; the counters are plain numbers of the thread's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // While the thread ends nobody counts.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        count_bytes(layout.size() as i64);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count_bytes(-(layout.size() as i64));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

macro_rules! components {
    ($($name:ident $stable:literal),*) => {$(
        #[derive(Component, Clone, Copy, Default)]
        #[component(name = $stable, plain)]
        #[repr(C)]
        struct $name { x: f32, y: f32, z: f32 }
    )*};
}

components!(Position "position", Velocity "velocity", Extra "extra");

fn commit(world: &mut World, f: impl FnOnce(&mut Transaction<'_>)) {
    let lsn = world.lsn().next();
    let mut open = world.begin();
    f(open.transaction());
    let prepared = open.prepare().unwrap();
    assert!(!prepared.change_set().is_empty());
    prepared.commit(lsn);
}

/// Allocations of 100 rounds, after as many that are not counted.
fn steady(mut round: impl FnMut(usize)) -> u64 {
    (0..100).for_each(&mut round);
    let before = ALLOCATIONS.get();
    (100..200).for_each(&mut round);
    ALLOCATIONS.get() - before
}

#[test]
fn what_happens_again_and_again_allocates_nothing() {
    let mut world = World::new();
    let bundle = || (Position::default(), Velocity { x: 1.0, y: 2.0, z: 3.0 });
    let mut ids: Vec<Entity> = Vec::with_capacity(1_000);
    commit(&mut world, |tx| ids.extend(tx.spawn_batch((0..100).map(|_| bundle()))));

    let points = steady(|i| commit(&mut world, |tx| tx.get_mut::<Position>(ids[i % 100]).unwrap().x += 1.0));
    let ticks = steady(|_| {
        commit(&mut world, |tx| {
            for (p, v) in tx.query::<(&mut Position, &Velocity)>() {
                (p.x, p.y, p.z) = (p.x + v.x, p.y + v.y, p.z + v.z);
            }
        });
    });
    let inserts = steady(|i| {
        commit(&mut world, |tx| tx.insert(ids[i % 100], Velocity { x: i as f32, y: 0.0, z: 0.0 }).unwrap())
    });
    let moves = steady(|i| {
        commit(&mut world, |tx| tx.insert(ids[i % 100], Extra::default()).unwrap());
        commit(&mut world, |tx| assert!(tx.remove::<Extra>(ids[i % 100]).unwrap().is_some()));
    });
    let lives = steady(|i| {
        commit(&mut world, |tx| tx.despawn(ids[i % 100]).unwrap());
        commit(&mut world, |tx| ids[i % 100] = tx.spawn(bundle()));
    });
    let found = [
        ("point commits", points),
        ("ticks", ticks),
        ("inserts in place", inserts),
        ("inserts and removals", moves),
        ("despawns and spawns", lives),
    ];
    assert!(found.iter().all(|(_, allocations)| *allocations == 0), "allocations in 100 rounds: {found:?}");
}

/// As while a snapshot is written: each block that it still has is copied before it changes, and given up later.
#[test]
fn a_copy_has_what_was_given_up_before() {
    let mut world = World::new();
    let mut ids: Vec<Entity> = Vec::new();
    commit(&mut world, |tx| ids.extend(tx.spawn_batch((0..1000).map(|_| Position::default()))));
    let mut allocations = Vec::with_capacity(200);
    for id in &ids[..200] {
        let view = world.view();
        let chunks: Vec<_> = view.chunks().collect();
        let parts: Vec<ColumnPart> = chunks.iter().flat_map(|chunk| chunk.columns()).collect();
        drop(chunks);
        drop(view);
        let before = ALLOCATIONS.get();
        commit(&mut world, |tx| tx.get_mut::<Position>(*id).unwrap().x += 1.0);
        allocations.push(ALLOCATIONS.get() - before);
        drop(parts);
    }
    assert_eq!(allocations[100..], [0; 100]);
}

#[derive(Component, Clone, Copy)]
#[component(name = "heavy", plain)]
#[repr(C)]
struct Heavy([u64; 512]);

/// Replay undoes nothing, so that it keeps no rows, and what got several components at once is moved once.
#[test]
fn replay_keeps_one_row_at_a_time_however_many_are_moved_and_despawned() {
    let mut world = World::new();
    let mut replica = World::new();
    let mut ids = Vec::new();
    let apply = |world: &mut World, replica: &mut World, f: &mut dyn FnMut(&mut Transaction<'_>)| {
        let lsn = world.lsn().next();
        let mut open = world.begin();
        f(open.transaction());
        let prepared = open.prepare().unwrap();
        let bytes = prepared.change_set().to_vec();
        prepared.commit(lsn);
        let before = BYTES.get().0;
        BYTES.set((before, before));
        let applied = replica.apply(lsn, &bytes).unwrap();
        assert_eq!(replica.view().digest().unwrap(), world.view().digest().unwrap());
        (applied.operations, BYTES.get().1 - before)
    };
    apply(&mut world, &mut replica, &mut |tx| {
        ids = tx.spawn_batch((0..2_000).map(|_| Heavy([1; 512])));
    });
    let inserted = apply(&mut world, &mut replica, &mut |tx| {
        let bundle = || (Position::default(), Velocity::default(), Extra::default());
        ids.iter().for_each(|&id| tx.insert(id, bundle()).unwrap());
    });
    let (_, removed) = apply(&mut world, &mut replica, &mut |tx| {
        ids.iter().for_each(|&id| _ = tx.remove::<(Position, Extra)>(id).unwrap());
    });
    let (_, despawned) =
        apply(&mut world, &mut replica, &mut |tx| ids.iter().for_each(|&id| tx.despawn(id).unwrap()));
    let most = inserted.1.max(removed).max(despawned);
    assert!(most < 1 << 20, "{most} bytes where the rows have eight million");
    assert_eq!(inserted.0, 2_000, "each entity is one operation");
}
