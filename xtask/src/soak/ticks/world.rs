//! The world that ticks: entities on the move, entities at rest that others move one at a time, and purses between which coins go to and fro.
//! A reader can tell of any state whether each transaction is in it whole.

use ecsdb::prelude::*;

use crate::bench::{Position, Velocity};

/// Threads that commit beside the ticks.
pub(super) const WRITERS: usize = 2;
const PURSES: usize = 1000;
const COINS: u64 = 1000;

#[derive(Component, Clone, Copy, Default)]
#[component(name = "ticks.clock", plain)]
#[repr(C)]
struct Clock {
    ticks: u64,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "ticks.purse", plain)]
#[repr(C)]
struct Purse {
    coins: u64,
}

/// What a writer's transactions were, by number.
#[derive(Component, Clone, Copy, Default)]
#[component(name = "ticks.ledger", plain)]
#[repr(C)]
struct Ledger {
    writer: u64,
    transactions: u64,
}

pub(super) struct World {
    clock: Entity,
    resting: Vec<Entity>,
    purses: Vec<Entity>,
    ledgers: Vec<Entity>,
}

/// What a state has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) ticks: u64,
    pub(super) transactions: [u64; WRITERS],
}

impl World {
    pub(super) fn populate(db: &Database, entities: usize, moving: usize) -> ecsdb::Result<World> {
        db.write(|tx| {
            // By `x` a reader counts the ticks; the others differ, as a world's values do, which compress little.
            let mut random = fastrand::Rng::with_seed(1);
            let mut some = || random.f32() - 0.5;
            let mut mover =
                || (Position { x: 0.0, y: some(), z: some() }, Velocity { x: 1.0, y: some(), z: some() });
            tx.spawn_batch((0..moving).map(|_| mover()));
            let at = |i| Position { x: i as f32, y: 0.0, z: 0.0 };
            let ledger = |i| Ledger { writer: i as u64, transactions: 0 };
            Ok(World {
                clock: tx.spawn((Clock::default(),)),
                resting: tx.spawn_batch((moving..entities).map(|i| (at(i),))),
                purses: tx.spawn_batch((0..PURSES).map(|_| (Purse { coins: COINS },))),
                ledgers: tx.spawn_batch((0..WRITERS).map(|i| (ledger(i),))),
            })
        })
    }

    pub(super) fn tick(&self, tx: &mut Transaction<'_>) -> Result<(), Abort> {
        for (positions, velocities) in tx.query::<(&mut Position, &Velocity)>().chunks() {
            for (p, v) in positions.iter_mut().zip(velocities) {
                p.x += v.x;
                p.y += v.y;
                p.z += v.z;
            }
        }
        tx.get_mut::<Clock>(self.clock)?.ticks += 1;
        Ok(())
    }

    /// A coin goes from one purse to another, and an entity at rest is put elsewhere.
    pub(super) fn commit(
        &self,
        writer: usize,
        random: &mut fastrand::Rng,
        tx: &mut Transaction<'_>,
    ) -> Result<(), Abort> {
        let (from, to) = (self.purses[random.usize(..PURSES)], self.purses[random.usize(..PURSES)]);
        if tx.get::<Purse>(from)?.coins > 0 {
            tx.get_mut::<Purse>(from)?.coins -= 1;
            tx.get_mut::<Purse>(to)?.coins += 1;
        }
        if !self.resting.is_empty() {
            tx.get_mut::<Position>(self.resting[random.usize(..self.resting.len())])?.y += 1.0;
        }
        tx.get_mut::<Ledger>(self.ledgers[writer])?.transactions += 1;
        Ok(())
    }
}

/// Checks that every tick and every transaction is there whole. O(entities that move).
pub(super) fn whole(view: &View) -> anyhow::Result<Seen> {
    let clock = view.query::<&Clock>()?.next();
    let ticks = clock.ok_or_else(|| anyhow::anyhow!("no clock"))?.ticks;
    for (position, _) in view.query::<(&Position, &Velocity)>()? {
        anyhow::ensure!(
            position.x == ticks as f32,
            "a tick is half there at LSN {}: x is {} after {ticks} ticks",
            view.lsn(),
            position.x
        );
    }
    let coins: u64 = view.query::<&Purse>()?.map(|purse| purse.coins).sum();
    anyhow::ensure!(
        coins == PURSES as u64 * COINS,
        "a transaction is half there at LSN {}: {coins} coins",
        view.lsn()
    );
    let mut transactions = [0; WRITERS];
    for ledger in view.query::<&Ledger>()? {
        let slot = transactions.get_mut(ledger.writer as usize);
        *slot.ok_or_else(|| anyhow::anyhow!("a ledger of writer {}", ledger.writer))? = ledger.transactions;
    }
    Ok(Seen { ticks, transactions })
}
