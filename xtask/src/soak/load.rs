//! The load: threads that each own a part of the entities and change, make and remove them, with every kind of
//! durability, and now and then a tick of the whole world.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecsdb::Ticket;
use ecsdb::prelude::*;

use crate::bench::{Health, Position, Velocity};

pub(super) const THREADS: usize = 4;
const TICKETS: usize = 256;
const TICK_EVERY: Duration = Duration::from_secs(2);
const DT: f32 = 0.016;

/// One thread's entities and choices; they last over reopenings.
pub(super) struct Worker {
    entities: Vec<Entity>,
    /// How many entities it keeps, about.
    target: usize,
    random: fastrand::Rng,
    /// One of the threads does the ticks.
    ticks: bool,
}

#[derive(Clone, Copy)]
enum Action {
    Change(Entity),
    Spawn(Position),
    Despawn(usize, Entity),
}

enum How {
    Wait(Durability),
    Ticket,
}

impl Worker {
    pub(super) fn new(number: usize, target: usize, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(THREADS as u64).wrapping_add(number as u64));
        Worker { entities: Vec::new(), target, random, ticks: number == 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    /// Makes its entities.
    pub(super) fn populate(&mut self, db: &Database) -> ecsdb::Result<()> {
        let (target, random) = (self.target, &mut self.random);
        self.entities = db.write(|tx| Ok(tx.spawn_batch((0..target).map(|_| bundle(position(random))))))?;
        Ok(())
    }

    /// Commits until `stop`, and waits for what was submitted. Counts the commits as it goes.
    pub(super) fn run(&mut self, db: &Database, stop: &AtomicBool, commits: &AtomicU64) -> ecsdb::Result<()> {
        let mut flight: VecDeque<Ticket<()>> = VecDeque::with_capacity(TICKETS);
        let mut ticked = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if self.ticks && ticked.elapsed() >= TICK_EVERY {
                db.write_with(Durability::Batched, tick)?;
                ticked = Instant::now();
            }
            let action = self.choose();
            let mut spawned = None;
            let apply = |tx: &mut Transaction<'_>| action.apply(tx, &mut spawned);
            match self.how() {
                How::Wait(durability) => db.write_with(durability, apply)?,
                How::Ticket => {
                    flight.push_back(db.submit(apply)?);
                    if flight.len() == TICKETS
                        && let Some(oldest) = flight.pop_front()
                    {
                        oldest.wait()?;
                    }
                }
            }
            if let Action::Despawn(index, _) = action {
                self.entities.swap_remove(index);
            }
            self.entities.extend(spawned);
            commits.fetch_add(1, Ordering::Relaxed);
        }
        flight.into_iter().try_for_each(|ticket| ticket.wait())
    }

    /// Four changes out of five; as many entities made as removed, and more of either when there are too few or many.
    fn choose(&mut self) -> Action {
        let dice = self.random.u32(..10);
        let len = self.entities.len();
        if len == 0 || (dice == 0 && len < self.target + self.target / 20) {
            return Action::Spawn(position(&mut self.random));
        }
        let index = self.random.usize(..len);
        match dice {
            1 if len > self.target - self.target / 20 => Action::Despawn(index, self.entities[index]),
            _ => Action::Change(self.entities[index]),
        }
    }

    fn how(&mut self) -> How {
        match self.random.u32(..1000) {
            0..2 => How::Wait(Durability::Immediate),
            2..300 => How::Wait(Durability::Batched),
            300..600 => How::Wait(Durability::Buffered),
            _ => How::Ticket,
        }
    }
}

impl Action {
    fn apply(self, tx: &mut Transaction<'_>, spawned: &mut Option<Entity>) -> Result<(), Abort> {
        match self {
            Action::Change(entity) => {
                tx.get_mut::<Position>(entity)?.x += 1.0;
                tx.get_mut::<Health>(entity)?.now += 1;
            }
            Action::Spawn(position) => *spawned = Some(tx.spawn(bundle(position))),
            Action::Despawn(_, entity) => tx.despawn(entity)?,
        }
        Ok(())
    }
}

fn position(random: &mut fastrand::Rng) -> Position {
    Position { x: random.f32(), y: random.f32(), z: random.f32() }
}

fn bundle(at: Position) -> (Position, Velocity, Health) {
    (at, Velocity { x: 1.0 - at.x, y: at.y - 0.5, z: at.z }, Health { now: 0, full: 100 })
}

fn tick(tx: &mut Transaction<'_>) -> Result<(), Abort> {
    for (positions, velocities) in tx.query::<(&mut Position, &Velocity)>().chunks() {
        for (p, v) in positions.iter_mut().zip(velocities) {
            p.x += v.x * DT;
            p.y += v.y * DT;
            p.z += v.z * DT;
        }
    }
    Ok(())
}
