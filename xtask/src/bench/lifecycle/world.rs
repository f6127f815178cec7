//! The world that is measured: about a gigabyte of components in four columns, some of which compress.

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{Lsn, SnapshotInfo};

use crate::bench::{Health, Position, Velocity, open_quiet};

#[derive(Component, Clone, Copy)]
#[component(name = "bench.pose", plain)]
#[repr(C)]
pub(super) struct Pose([f32; 16]);

type Row = (Position, Velocity, Health, Pose);

/// Bytes of one entity's components.
pub(super) const ENTITY_BYTES: usize = size_of::<Row>();

/// Entities made by one transaction.
const BATCH: usize = 100_000;

pub(super) struct Big {
    pub(super) path: PathBuf,
    pub(super) db: Database,
    /// In the order in which they were made, which is that in memory.
    pub(super) entities: Vec<Entity>,
}

impl Big {
    pub(super) fn new(path: &Path, scale: f64) -> anyhow::Result<Self> {
        eprintln!("making the world …");
        let db = open_quiet(path)?;
        let count = (((1u64 << 30) as f64 * scale) as usize / ENTITY_BYTES).max(1000);
        let mut random = fastrand::Rng::with_seed(7);
        let mut entities = Vec::with_capacity(count);
        while entities.len() < count {
            let n = (count - entities.len()).min(BATCH);
            entities.extend(db.write_with(Durability::Batched, |tx| {
                Ok(tx.spawn_batch(std::iter::repeat_with(|| row(&mut random)).take(n)))
            })?);
        }
        let big = Big { path: path.into(), db, entities };
        // The log that made it would only lie about.
        big.db.compact()?.wait()?;
        Ok(big)
    }

    pub(super) fn component_bytes(&self) -> f64 {
        (self.entities.len() * ENTITY_BYTES) as f64
    }

    /// Sets how the next snapshot is written: its zstd level, and whether it is a full one.
    pub(super) fn next_snapshot(&self, level: i32, full: bool) -> ecsdb::Result<()> {
        ecsdb_tests::reconfigure(&self.db, |config| {
            config.snapshot.compression_level = level;
            config.snapshot.chain_max = if full { 1 } else { 8 };
        })
    }

    /// Takes a full snapshot with zstd level `level`.
    pub(super) fn full(&self, level: i32) -> anyhow::Result<SnapshotInfo> {
        self.next_snapshot(level, true)?;
        self.touch()?;
        Ok(self.db.snapshot()?.wait()?)
    }

    /// Commits something, without which the newest snapshot would do for the next one.
    pub(super) fn touch(&self) -> ecsdb::Result<Lsn> {
        self.db.write(|tx| step(tx, self.entities[0]))?;
        self.db.sync()
    }

    /// Closes the database and opens it again.
    pub(super) fn reopen(self) -> anyhow::Result<Self> {
        let Big { path, db, entities } = self;
        db.close()?;
        drop(db);
        let db = open_quiet(&path)?;
        Ok(Big { path, db, entities })
    }
}

/// Half of it is noise, as measurements are, and half of it is like the neighbour's, as flags and scales are.
fn row(random: &mut fastrand::Rng) -> Row {
    let position = Position { x: random.f32(), y: random.f32(), z: random.f32() };
    let velocity = Velocity { x: random.f32(), y: random.f32(), z: random.f32() };
    let health = Health { now: random.u32(..100), full: 100 };
    let (sin, cos) = (random.f32() * std::f32::consts::TAU).sin_cos();
    let Position { x, y, z } = position;
    let pose = [cos, -sin, 0.0, x, sin, cos, 0.0, y, 0.0, 0.0, 1.0, z, 0.0, 0.0, 0.0, 1.0];
    (position, velocity, health, Pose(pose))
}

/// Changes one component of one entity.
pub(super) fn step(tx: &mut Transaction<'_>, entity: Entity) -> Result<(), Abort> {
    tx.get_mut::<Position>(entity)?.x += 1.0;
    Ok(())
}

/// Changes every component of one entity.
pub(super) fn change(tx: &mut Transaction<'_>, entity: Entity) -> Result<(), Abort> {
    step(tx, entity)?;
    tx.get_mut::<Velocity>(entity)?.x += 1.0;
    tx.get_mut::<Health>(entity)?.now += 1;
    tx.get_mut::<Pose>(entity)?.0[3] += 1.0;
    Ok(())
}
