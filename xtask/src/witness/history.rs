//! A history of which each transaction is given by the seed and its LSN, so that the state at any LSN can be computed by anyone.

use ecsdb::Digest;
use ecsdb::prelude::*;

const ENTITIES: usize = 24;

#[derive(Component, Clone, Copy, Default)]
#[component(name = "witness.counter", plain)]
#[repr(C)]
struct Counter {
    changes: u64,
    last: u64,
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "witness.text", archived)]
struct Text(String);

/// Transaction `lsn` of the history.
pub(super) fn transaction(seed: u64, lsn: u64, tx: &mut Transaction<'_>) -> Result<(), Abort> {
    let mut random = fastrand::Rng::with_seed(seed ^ lsn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // By id, since the order of rows is the engine's affair.
    let mut entities: Vec<Entity> =
        tx.query::<(Entity, With<Counter>)>().map(|(entity, ())| entity).collect();
    entities.sort_unstable();
    if entities.len() < ENTITIES {
        let missing = ENTITIES - entities.len();
        entities.extend(tx.spawn_batch((0..missing).map(|_| (Counter::default(),))));
    }
    let one = entities[random.usize(..entities.len())];
    match random.u32(..100) {
        0..50 => change(tx, one, lsn)?,
        50..65 => entities.iter().try_for_each(|&entity| change(tx, entity, lsn))?,
        65..80 => {
            // Now and then one of many pages.
            let len = if random.u32(..20) == 0 { 40_000 } else { random.usize(..3000) };
            let text = std::iter::repeat_with(|| random.alphanumeric()).take(len).collect();
            tx.insert(one, Text(text))?;
            change(tx, one, lsn)?;
        }
        80..90 => drop(tx.spawn((Counter { changes: 0, last: lsn },))),
        _ => tx.despawn(one)?,
    }
    Ok(())
}

fn change(tx: &mut Transaction<'_>, entity: Entity, lsn: u64) -> Result<(), Abort> {
    let counter = tx.get_mut::<Counter>(entity)?;
    counter.changes += 1;
    counter.last = lsn;
    Ok(())
}

/// The history, as far as it was asked for.
pub(crate) struct History {
    seed: u64,
    world: Database,
    digests: Vec<Digest>,
}

impl History {
    pub(crate) fn new(seed: u64) -> anyhow::Result<Self> {
        let world = Database::in_memory();
        let digests = vec![world.view()?.digest()?];
        Ok(History { seed, world, digests })
    }

    /// The digest of the state at `lsn`.
    pub(super) fn digest(&mut self, lsn: u64) -> anyhow::Result<Digest> {
        while self.digests.len() as u64 <= lsn {
            let next = self.digests.len() as u64;
            self.world.write(|tx| transaction(self.seed, next, tx))?;
            self.digests.push(self.world.view()?.digest()?);
        }
        Ok(self.digests[lsn as usize])
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}
