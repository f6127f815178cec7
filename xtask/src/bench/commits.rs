//! Durable commits a second, against bare `fdatasync` appends.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;

use super::report::Report;
use super::{Position, open_quiet, rate};

const TIME: Duration = Duration::from_millis(700);

pub(crate) fn run(report: &mut Report, dir: &Path) -> anyhow::Result<()> {
    let rows = [
        "immediate_1_thread",
        "immediate_16_threads",
        "immediate_64_threads",
        "immediate_1000_tickets",
        "immediate_1000_tickets_2_threads",
    ];
    if !rows.iter().any(|row| report.wants(row)) {
        return Ok(());
    }
    let db = open_quiet(&dir.join("commits"))?;
    let entities = db.write(|tx| Ok(tx.spawn_batch((0..1024).map(|_| Position::default()))))?;
    let bare = BareSync::new(dir)?;
    report.measure(rows[0], "commits/s", || bare.rate(), || threads(&db, &entities, 1))?;
    report.measure(rows[1], "commits/s", || bare.rate(), || threads(&db, &entities, 16))?;
    report.measure(rows[2], "commits/s", || bare.rate(), || threads(&db, &entities, 64))?;
    report.measure(rows[3], "commits/s", || bare.rate(), || tickets(&db, &entities, 1))?;
    report.measure(rows[4], "commits/s", || bare.rate(), || tickets(&db, &entities, 2))?;
    db.close()?;
    Ok(())
}

/// The physical limit: appends of 256 bytes to a preallocated file, each followed by `fdatasync`.
struct BareSync(std::fs::File);

impl BareSync {
    const BYTES: u64 = 16 << 20;

    fn new(dir: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::create(dir.join("bare"))?;
        file.write_all_at(&vec![0; Self::BYTES as usize], 0)?;
        file.sync_all()?;
        Ok(BareSync(file))
    }

    fn rate(&self) -> anyhow::Result<f64> {
        let mut at = 0;
        rate(TIME, || {
            self.0.write_all_at(&[7; 256], at)?;
            at = (at + 256) % Self::BYTES;
            Ok(self.0.sync_data()?)
        })
    }
}

fn step(tx: &mut Transaction<'_>, entity: Entity) -> Result<(), Abort> {
    tx.get_mut::<Position>(entity)?.x += 1.0;
    Ok(())
}

fn threads(db: &Database, entities: &[Entity], n: usize) -> anyhow::Result<f64> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<f64> {
        let threads: Vec<_> = (0..n)
            .map(|i| {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || -> ecsdb::Result<()> {
                    let mut k = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        db.write(|tx| step(tx, entities[i]))?;
                        k += 1;
                    }
                    done.fetch_add(k, Ordering::Relaxed);
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
    })
}

/// `n` threads with 1,000 tickets in flight between them: submit one, wait for the oldest.
fn tickets(db: &Database, entities: &[Entity], n: usize) -> anyhow::Result<f64> {
    let (started, in_flight) = (Instant::now(), 1000 / n);
    std::thread::scope(|scope| -> anyhow::Result<f64> {
        let threads: Vec<_> = (0..n)
            .map(|i| {
                scope.spawn(move || -> ecsdb::Result<u64> {
                    let mut flight = VecDeque::with_capacity(in_flight);
                    let mut k = 0u64;
                    loop {
                        // The clock is asked rarely: it costs a tenth of a commit.
                        if k.is_multiple_of(256) && started.elapsed() >= TIME {
                            break;
                        }
                        let entity = entities[(k as usize * n + i) % entities.len()];
                        flight.push_back(db.submit(|tx| step(tx, entity))?);
                        k += 1;
                        if flight.len() == in_flight
                            && let Some(oldest) = flight.pop_front()
                        {
                            oldest.wait()?;
                        }
                    }
                    for ticket in flight {
                        ticket.wait()?;
                    }
                    Ok(k)
                })
            })
            .collect();
        let mut done = 0;
        for thread in threads {
            done += thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(done as f64 / started.elapsed().as_secs_f64())
    })
}
