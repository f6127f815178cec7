//! Instructions of the hot paths, counted by callgrind: the same on every machine, and so a guard where time is none. A bound is what
//! was counted when it was set, and a quarter, since processors differ in how they copy: who makes a path slower on purpose raises it.
//!
//! `cargo xtask bench instructions`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark is a program of its own, which ends when something fails"
)]
#![allow(unused_qualifications, reason = "of what the macros make")]

use std::hint::black_box;

use ecsdb::prelude::*;
use ecsdb_sim::SimDisk;
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

const ENTITIES: usize = 10_000;
const CALLS: usize = 1_000;

#[derive(Component, Clone, Copy)]
#[component(name = "bench.position", plain)]
#[repr(C)]
struct Position([f32; 3]);

#[derive(Component, Clone, Copy)]
#[component(name = "bench.velocity", plain)]
#[repr(C)]
struct Velocity([f32; 3]);

fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]).hard_limits([(EventKind::Ir, instructions)]))
        .clone()
}

type World = (Database, Vec<Entity>);

fn fill(db: Database) -> World {
    let made = |i| (Position([i as f32, 0.0, 0.0]), Velocity([1.0, 2.0, 3.0]));
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..ENTITIES).map(made)))).unwrap();
    // What is done once is no matter of the paths.
    for &id in &ids {
        db.write(|tx| Ok(tx.get_mut::<Position>(id)?.0[0] += 1.0)).unwrap();
    }
    (db, ids)
}

fn in_memory() -> World {
    fill(Database::in_memory())
}

/// With a log, on a disk that takes no time; nothing is written on other threads.
fn logged() -> World {
    let disk = SimDisk::new(1);
    disk.put_dir("/data").unwrap();
    fill(Database::builder("/data/world").vfs(disk.vfs()).without_threads().open().unwrap())
}

#[library_benchmark(config = at_most(2_840_000), setup = in_memory)]
fn commit_hot((db, ids): World) -> World {
    for _ in 0..CALLS {
        db.write(|tx| Ok(tx.get_mut::<Position>(ids[5_000])?.0[0] += 1.0)).unwrap();
    }
    (db, ids)
}

#[library_benchmark(config = at_most(3_210_000), setup = logged)]
fn commit_logged((db, ids): World) -> World {
    for _ in 0..CALLS {
        db.write_with(Durability::Buffered, |tx| Ok(tx.get_mut::<Position>(ids[5_000])?.0[0] += 1.0))
            .unwrap();
    }
    (db, ids)
}

#[library_benchmark(config = at_most(504_000), setup = in_memory)]
fn capture((db, ids): World) -> World {
    for _ in 0..CALLS {
        black_box(db.view().unwrap());
    }
    (db, ids)
}

#[library_benchmark(config = at_most(173_000), setup = in_memory)]
fn get_random((db, ids): World) -> World {
    let view = db.view().unwrap();
    for i in 0..CALLS {
        black_box(view.get::<Position>(ids[i * 7919 % ENTITIES]).unwrap());
    }
    drop(view);
    (db, ids)
}

#[library_benchmark(config = at_most(141_000), setup = in_memory)]
fn iterate((db, ids): World) -> World {
    let view = db.view().unwrap();
    let mut sum = 0.0;
    view.query::<(&Position, &Velocity)>().unwrap().for_each(|(position, velocity)| {
        sum += position.0[0] * velocity.0[0];
    });
    black_box(sum);
    drop(view);
    (db, ids)
}

#[library_benchmark(config = at_most(444_000), setup = in_memory)]
fn tick((db, ids): World) -> World {
    db.write(|tx| {
        tx.query::<(&mut Position, &Velocity)>()
            .for_each(|(position, velocity)| position.0[0] += velocity.0[0]);
        Ok(())
    })
    .unwrap();
    (db, ids)
}

#[library_benchmark(config = at_most(4_960_000), setup = in_memory)]
fn spawn_and_despawn((db, ids): World) -> World {
    for _ in 0..CALLS {
        db.write(|tx| {
            let id = tx.spawn((Position([0.0; 3]), Velocity([0.0; 3])));
            Ok(tx.despawn(id)?)
        })
        .unwrap();
    }
    (db, ids)
}

library_benchmark_group!(
    name = paths,
    benchmarks = [commit_hot, commit_logged, capture, get_random, iterate, tick, spawn_and_despawn]
);
main!(library_benchmark_groups = paths);
