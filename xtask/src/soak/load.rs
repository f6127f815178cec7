//! The load: threads that each own a part of the entities and change, make and remove them, one by one and in batches, with every
//! kind of durability, and now and then a tick of the whole world. Each transaction of a thread is counted and summed up in its ledger, so
//! that a world tells by itself whether every transaction is in it whole.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecsdb::Ticket;
use ecsdb::prelude::*;

use super::lines::{Journal, Line};
use crate::bench::{Position, Velocity};

pub(super) const THREADS: usize = 4;
const TICKETS: usize = 256;
const TICK_EVERY: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_secs(1);
const BATCH: usize = 100;
const DT: f32 = 0.016;

#[derive(Component, Clone, Copy, Default)]
#[component(name = "soak.owned", plain)]
#[repr(C)]
struct Owned {
    worker: u32,
    value: u32,
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "soak.label", archived)]
struct Label(String);

/// What a thread's transactions made of its entities. It changes in each of them.
#[derive(Component, Clone, Copy, Default)]
#[component(name = "soak.ledger", plain)]
#[repr(C)]
struct Ledger {
    worker: u64,
    transactions: u64,
    entities: u64,
    sum: u64,
}

/// Checks that every ledger agrees with its entities, and gives the number of transactions of each thread.
pub(super) fn whole(view: &View) -> anyhow::Result<[u64; THREADS]> {
    let mut found = [(0u64, 0u64); THREADS];
    for owned in view.query::<&Owned>()? {
        let slot = found.get_mut(owned.worker as usize);
        let (entities, sum) = slot.ok_or_else(|| anyhow::anyhow!("an entity of worker {}", owned.worker))?;
        (*entities, *sum) = (*entities + 1, *sum + u64::from(owned.value));
    }
    let mut transactions = [0; THREADS];
    for ledger in view.query::<&Ledger>()? {
        let worker = ledger.worker as usize;
        anyhow::ensure!(worker < THREADS, "a ledger of worker {worker}");
        let (entities, sum) = found[worker];
        anyhow::ensure!(
            (entities, sum) == (ledger.entities, ledger.sum),
            "a transaction of worker {worker} is half there at LSN {}: {entities} entities with {sum} in all, {} with {} by its ledger",
            view.lsn(),
            ledger.entities,
            ledger.sum
        );
        transactions[worker] = ledger.transactions;
    }
    Ok(transactions)
}

/// One thread's entities and choices.
pub(super) struct Worker {
    number: u32,
    ledger: Entity,
    entities: Vec<Entity>,
    transactions: u64,
    /// How many entities it keeps, about.
    target: usize,
    random: fastrand::Rng,
}

enum Action {
    Change(Vec<Entity>),
    Spawn(usize),
    Despawn(Vec<Entity>),
}

enum How {
    Wait,
    Go(Durability),
    Ticket,
}

impl Worker {
    /// All of them, with the entities that the world has for them; what is missing is made.
    pub(super) fn all(
        db: &Database,
        target: usize,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Worker>> {
        let view = db.view()?;
        let mut entities = vec![Vec::new(); THREADS];
        for (entity, owned) in view.query::<(Entity, &Owned)>()? {
            entities[owned.worker as usize].push(entity);
        }
        let mut ledgers = [None; THREADS];
        for (entity, ledger) in view.query::<(Entity, &Ledger)>()? {
            ledgers[ledger.worker as usize] = Some((entity, ledger.transactions));
        }
        drop(view);
        let mut workers = Vec::new();
        for (number, (entities, ledger)) in entities.into_iter().zip(ledgers).enumerate() {
            let number = number as u32;
            let (ledger, transactions, entities) = match ledger {
                Some((ledger, transactions)) => (ledger, transactions, entities),
                None => {
                    let (ledger, entities) = db.write(|tx| Ok(populate(tx, number, target, random)))?;
                    (ledger, 0, entities)
                }
            };
            workers.push(Worker { number, ledger, entities, transactions, target, random: random.fork() });
        }
        Ok(workers)
    }

    /// Commits until `stop`, in the first `duty` of each second, and waits for what was submitted. Counts the commits as it goes, and
    /// says in the journal what is durable.
    pub(super) fn run(
        &mut self,
        db: &Database,
        duty: f64,
        stop: &AtomicBool,
        commits: &AtomicU64,
        journal: &Journal,
    ) -> anyhow::Result<()> {
        let mut flight: VecDeque<(u64, Ticket<()>)> = VecDeque::with_capacity(TICKETS);
        let number = self.number;
        let acknowledge = |(transactions, ticket): (u64, Ticket<()>)| -> anyhow::Result<()> {
            let lsn = ticket.lsn().0;
            ticket.wait()?;
            journal.say(&Line::Durable { worker: number, transactions, lsn })
        };
        let (started, mut ticked) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            let phase = started.elapsed().as_secs_f64().fract();
            if phase > duty {
                flight.drain(..).try_for_each(acknowledge)?;
                std::thread::sleep(PERIOD.mul_f64(1.0 - phase));
                continue;
            }
            if number == 0 && ticked.elapsed() >= TICK_EVERY {
                db.write_with(Durability::Batched, tick)?;
                ticked = Instant::now();
            }
            let action = self.choose();
            let how = self.how();
            let durability = match how {
                How::Go(durability) => durability,
                How::Wait | How::Ticket => Durability::Immediate,
            };
            let mut spawned = Vec::new();
            let ticket = db.submit_with(durability, |tx| self.apply(&action, tx, &mut spawned))?;
            self.transactions += 1;
            if let Action::Despawn(gone) = action {
                self.entities.retain(|entity| !gone.contains(entity));
            }
            self.entities.extend(spawned);
            commits.fetch_add(1, Ordering::Relaxed);
            match how {
                How::Go(_) => {}
                How::Wait => acknowledge((self.transactions, ticket))?,
                How::Ticket => flight.push_back((self.transactions, ticket)),
            }
            if flight.len() == TICKETS
                && let Some(oldest) = flight.pop_front()
            {
                acknowledge(oldest)?;
            }
        }
        flight.into_iter().try_for_each(acknowledge)
    }

    /// Four changes out of five; as many entities made as removed, and more of either when there are too few or many.
    fn choose(&mut self) -> Action {
        let count = if self.random.u32(..50) == 0 { BATCH } else { 1 };
        let (dice, len, slack) = (self.random.u32(..10), self.entities.len(), self.target / 20);
        if len < BATCH || (dice == 0 && len < self.target + slack) {
            return Action::Spawn(count);
        }
        let first = self.random.usize(..=len - count);
        let some = self.entities[first..first + count].to_vec();
        match dice {
            1 if len > self.target - slack => Action::Despawn(some),
            _ => Action::Change(some),
        }
    }

    fn how(&mut self) -> How {
        match self.random.u32(..100) {
            0..10 => How::Wait,
            10..30 => How::Go(Durability::Batched),
            30..50 => How::Go(Durability::Buffered),
            _ => How::Ticket,
        }
    }

    fn apply(&self, action: &Action, tx: &mut Transaction<'_>, made: &mut Vec<Entity>) -> Result<(), Abort> {
        let mut ledger = *tx.get::<Ledger>(self.ledger)?;
        ledger.transactions += 1;
        match action {
            Action::Change(entities) => {
                for &entity in entities {
                    tx.get_mut::<Position>(entity)?.x += 1.0;
                    tx.get_mut::<Owned>(entity)?.value += 1;
                    ledger.sum += 1;
                }
            }
            Action::Spawn(count) => {
                let at = Position { x: ledger.transactions as f32, y: 0.5, z: 0.0 };
                made.extend(tx.spawn_batch((0..*count).map(|_| bundle(self.number, at))));
                ledger.entities += *count as u64;
                for &entity in made.iter().step_by(10) {
                    tx.insert(entity, Label(format!("made by {} in {}", self.number, ledger.transactions)))?;
                }
            }
            Action::Despawn(entities) => {
                for &entity in entities {
                    ledger.sum -= u64::from(tx.get::<Owned>(entity)?.value);
                    ledger.entities -= 1;
                    tx.despawn(entity)?;
                }
            }
        }
        *tx.get_mut::<Ledger>(self.ledger)? = ledger;
        Ok(())
    }
}

fn populate(
    tx: &mut Transaction<'_>,
    worker: u32,
    count: usize,
    random: &mut fastrand::Rng,
) -> (Entity, Vec<Entity>) {
    let mut position = || Position { x: random.f32(), y: random.f32(), z: random.f32() };
    let entities = tx.spawn_batch((0..count).map(|_| bundle(worker, position())));
    let ledger = Ledger { worker: worker.into(), entities: count as u64, ..Ledger::default() };
    (tx.spawn((ledger,)), entities)
}

fn bundle(worker: u32, at: Position) -> (Position, Velocity, Owned) {
    (at, Velocity { x: 1.0 - at.x, y: at.y - 0.5, z: at.z }, Owned { worker, value: 0 })
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
