//! How much memory there is in use. One test, since the count is of the whole process.

#![allow(clippy::unwrap_used, reason = "a test")]

use ecsdb_core::{Component, Entity, World, memory_in_use};

#[derive(Component, Clone, Copy)]
#[component(name = "heavy", plain)]
#[repr(C)]
struct Heavy([u64; 512]);

fn commit<T>(world: &mut World, f: impl FnOnce(&mut ecsdb_core::Transaction<'_>) -> T) -> T {
    let lsn = world.lsn().next();
    let mut open = world.begin();
    let result = f(open.transaction());
    open.prepare().unwrap().commit(lsn);
    result
}

/// Rows moved and chunks emptied.
fn compact_all(world: &mut World) -> (u64, u64) {
    let (mut moved, mut emptied) = (0, 0);
    loop {
        let done = world.compact_chunks(64);
        moved += done.rows_moved;
        emptied += done.chunks_emptied;
        if !done.more {
            return (moved, emptied);
        }
    }
}

#[test]
fn memory_comes_back_after_a_mass_despawn_and_sparsity_tells_how_much() {
    let mut world = World::new();
    assert_eq!((world.view().sparsity(), world.view().live_bytes()), (0.0, 0));
    let ids = commit(&mut world, |tx| tx.spawn_batch((0..6_400).map(|_| Heavy([1; 512]))));
    assert_eq!(world.view().live_bytes(), 6_400 * (4096 + 8));
    assert_eq!(world.view().sparsity(), 0.0);
    let full = memory_in_use();
    assert!(full >= world.view().live_bytes());

    commit(&mut world, |tx| {
        ids.iter().filter(|id| id.index() % 10 != 0).for_each(|&id| tx.despawn(id).unwrap())
    });
    assert!((world.view().sparsity() - 0.9).abs() < 0.001);
    let (moved, emptied) = compact_all(&mut world);
    assert!(moved < 640 && emptied == 90, "{moved} {emptied}");
    assert_eq!(world.view().sparsity(), 0.0);
    let compacted = memory_in_use();
    assert!(full - compacted > 20_000_000, "{full} then {compacted}");
    assert_eq!(world.view().query::<&Heavy>().unwrap().count(), 640);

    // Rows that come now fill what is there.
    commit(&mut world, |tx| tx.spawn_batch((0..5_760).map(|_| Heavy([2; 512]))));
    assert!(memory_in_use() <= full + 4_000_000);
    assert_eq!(world.view().sparsity(), 0.0);

    // Empty chunks give their memory back, too.
    let all: Vec<Entity> = world.view().query::<(Entity, &Heavy)>().unwrap().map(|(id, _)| id).collect();
    commit(&mut world, |tx| all.into_iter().for_each(|id| tx.despawn(id).unwrap()));
    assert_eq!(world.view().sparsity(), 1.0);
    assert_eq!(compact_all(&mut world).0, 0);
    assert_eq!(world.view().sparsity(), 0.0);
    assert!(memory_in_use() < 10_000_000);

    drop(world);
    assert_eq!(memory_in_use(), 0, "all that was counted was given back");
}
