//! What the simulated programs keep: plain and archived components, relations between entities, a resource; and the changes they make.

use ecsdb::{Abort, Component, Entity, Transaction};

#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "sim.position", plain)]
#[repr(C)]
struct Position {
    x: i32,
    y: i32,
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "sim.name", archived)]
struct Name(String);

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "sim.parent", plain)]
#[repr(C)]
struct Parent(Entity);

#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "sim.ticks", plain)]
#[repr(C)]
struct Ticks(u64);

/// A change; numbers choose entities and values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Spawn(u32),
    SpawnMany(u32),
    Despawn(u32),
    Move(u32),
    MoveAll,
    Name(u32, u32),
    Unname(u32),
    Relate(u32, u32),
    Tick,
    /// So large that it fills a segment.
    Fill(u32),
}

impl Change {
    pub(crate) fn random(rng: &mut fastrand::Rng) -> Self {
        let n = rng.u32(..1000);
        match rng.u32(..40) {
            0..8 => Change::Spawn(n),
            8..11 => Change::SpawnMany(1 + n % 40),
            11..15 => Change::Despawn(n),
            15..22 => Change::Move(n),
            22..25 => Change::MoveAll,
            25..30 => Change::Name(n, rng.u32(..400)),
            30..32 => Change::Unname(n),
            32..35 => Change::Relate(n, rng.u32(..1000)),
            35..39 => Change::Tick,
            _ => Change::Fill(n),
        }
    }

    pub(crate) fn make(self, tx: &mut Transaction<'_>) -> Result<(), Abort> {
        match self {
            Change::Spawn(n) => {
                tx.spawn((Position { x: n as i32, y: 0 }, Ticks(u64::from(n))));
            }
            Change::SpawnMany(n) => {
                tx.spawn_batch(
                    (0..n).map(|i| (Position { x: i as i32, y: 1 }, Name(format!("of {n}: {i}")))),
                );
            }
            Change::Despawn(n) => {
                if let Some(entity) = pick(tx, n) {
                    tx.despawn(entity)?;
                }
            }
            Change::Move(n) => {
                if let Some(entity) = pick(tx, n)
                    && let Ok(position) = tx.get_mut::<Position>(entity)
                {
                    position.x += 1;
                }
            }
            Change::MoveAll => tx.query::<&mut Position>().for_each(|position| position.y += 1),
            Change::Name(n, len) => {
                if let Some(entity) = pick(tx, n) {
                    tx.insert(entity, Name("n".repeat(len as usize)))?;
                }
            }
            Change::Unname(n) => {
                if let Some(entity) = pick(tx, n) {
                    tx.remove::<Name>(entity)?;
                }
            }
            Change::Relate(child, parent) => {
                if let (Some(child), Some(parent)) = (pick(tx, child), pick(tx, parent)) {
                    tx.insert(child, Parent(parent))?;
                }
            }
            Change::Tick => match tx.resource_mut::<Ticks>() {
                Ok(ticks) => ticks.0 += 1,
                Err(_) => tx.insert_resource(Ticks(1)),
            },
            Change::Fill(n) => {
                if let Some(entity) = pick(tx, n) {
                    tx.insert(entity, Name("f".repeat(20_000)))?;
                }
            }
        }
        Ok(())
    }
}

fn pick(tx: &mut Transaction<'_>, n: u32) -> Option<Entity> {
    let len = tx.len();
    if len == 0 {
        return None;
    }
    tx.query::<Entity>().nth(n as usize % len)
}
