//! Commits that do not wait for the disk, and iteration, against plain `Vec`s.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use ecsdb::prelude::*;

use super::report::Report;
use super::{MILLION, Position, Velocity, open_quiet};

const DT: f32 = 0.016;

pub(crate) fn run(report: &mut Report, dir: &Path) -> anyhow::Result<()> {
    if !["buffered_commit", "iterate", "iterate_rows", "tick"].iter().any(|row| report.wants(row)) {
        return Ok(());
    }
    let db = open_quiet(&dir.join("memory"))?;
    let velocity = Velocity { x: 1.0, y: 2.0, z: 3.0 };
    let entities =
        db.write(|tx| Ok(tx.spawn_batch((0..MILLION).map(|_| (Position::default(), velocity)))))?;
    let mut plain = Plain::new(velocity);

    report.measure(
        "buffered_commit",
        "ns/commit",
        || Ok(plain.random_writes()),
        || buffered_commits(&db, &entities),
    )?;
    report.measure("iterate", "ns/entity", || Ok(plain.iterate()), || iterate(&db, chunks))?;
    report.measure("iterate_rows", "ns/entity", || Ok(plain.iterate()), || iterate(&db, rows))?;
    report.measure("tick", "ns/entity", || Ok(plain.iterate()), || ticks(&db))?;
    db.close()?;
    Ok(())
}

const COMMITS: u32 = 300_000;
const PASSES: u32 = 20;

fn buffered_commits(db: &Database, entities: &[Entity]) -> anyhow::Result<f64> {
    let mut random = fastrand::Rng::with_seed(7);
    let started = Instant::now();
    for _ in 0..COMMITS {
        let entity = entities[random.usize(..entities.len())];
        db.write_with(Durability::Buffered, |tx| {
            tx.get_mut::<Position>(entity)?.x += 1.0;
            Ok(())
        })?;
    }
    let ns = started.elapsed().as_nanos() as f64 / f64::from(COMMITS);
    db.sync()?;
    Ok(ns)
}

fn chunks(tx: &mut Transaction<'_>) {
    for (positions, velocities) in tx.query::<(&mut Position, &Velocity)>().chunks() {
        for (p, v) in positions.iter_mut().zip(velocities) {
            p.x += v.x * DT;
            p.y += v.y * DT;
            p.z += v.z * DT;
        }
    }
}

fn rows(tx: &mut Transaction<'_>) {
    for (p, v) in tx.query::<(&mut Position, &Velocity)>() {
        p.x += v.x * DT;
        p.y += v.y * DT;
        p.z += v.z * DT;
    }
}

/// Passes within one transaction, after the first one has made its before-images; the whole cost of a durable
/// tick, images and log included, is the row `tick`.
fn iterate(db: &Database, pass: fn(&mut Transaction<'_>)) -> anyhow::Result<f64> {
    let mut ns = 0.0;
    let rolled_back = db.write(|tx| -> Result<(), Abort> {
        pass(tx);
        let started = Instant::now();
        for _ in 0..PASSES {
            pass(tx);
        }
        ns = started.elapsed().as_nanos() as f64 / f64::from(PASSES) / MILLION as f64;
        Err(Abort::new("measured"))
    });
    anyhow::ensure!(matches!(rolled_back, Err(ecsdb::Error::Aborted(_))), "{rolled_back:?}");
    Ok(ns)
}

/// As many as the log's queue holds, so that the disk is not what is measured.
const TICKS: u32 = 4;

fn ticks(db: &Database) -> anyhow::Result<f64> {
    let started = Instant::now();
    for _ in 0..TICKS {
        db.write_with(Durability::Batched, |tx| {
            chunks(tx);
            Ok(())
        })?;
    }
    let ns = started.elapsed().as_nanos() as f64 / f64::from(TICKS) / MILLION as f64;
    db.sync()?;
    Ok(ns)
}

struct Plain {
    positions: Vec<Position>,
    velocities: Vec<Velocity>,
}

impl Plain {
    fn new(velocity: Velocity) -> Self {
        Plain { positions: vec![Position::default(); MILLION], velocities: vec![velocity; MILLION] }
    }

    fn iterate(&mut self) -> f64 {
        let started = Instant::now();
        for _ in 0..PASSES {
            for (p, v) in black_box(&mut self.positions).iter_mut().zip(black_box(&self.velocities)) {
                p.x += v.x * DT;
                p.y += v.y * DT;
                p.z += v.z * DT;
            }
        }
        started.elapsed().as_nanos() as f64 / f64::from(PASSES) / MILLION as f64
    }

    fn random_writes(&mut self) -> f64 {
        let mut random = fastrand::Rng::with_seed(7);
        let started = Instant::now();
        for _ in 0..COMMITS {
            black_box(&mut self.positions)[random.usize(..MILLION)].x += 1.0;
        }
        started.elapsed().as_nanos() as f64 / f64::from(COMMITS)
    }
}
