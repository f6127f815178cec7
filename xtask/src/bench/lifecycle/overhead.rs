//! Memory for old values while a snapshot runs under full write load, against the world's own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ecsdb::prelude::*;

use super::world::{Big, change};
use crate::bench::report::Report;

pub(super) const ROWS: &[&str] = &["cow_overhead"];

const SAMPLE: Duration = Duration::from_millis(2);

pub(super) fn run(report: &mut Report, big: &Big) -> anyhow::Result<()> {
    if !report.wants(ROWS[0]) {
        return Ok(());
    }
    eprintln!("{} …", ROWS[0]);
    big.next_snapshot(1, true)?;
    let (mut pairs, mut commits) = (Vec::new(), 0);
    for round in 0..report.rounds {
        let (extra, n) = worst(big, round as u64)?;
        pairs.push((extra, big.db.stats()?.live_bytes as f64));
        commits += n;
    }
    report.record(ROWS[0], "bytes", &pairs);
    report.note(format!(
        "{}: every component of {} random entities changed during each snapshot, as fast as one thread can",
        ROWS[0],
        commits / report.rounds as u64,
    ));
    Ok(())
}

/// The most extra bytes during a snapshot, and commits meanwhile.
fn worst(big: &Big, seed: u64) -> anyhow::Result<(f64, u64)> {
    big.touch()?;
    let done = AtomicBool::new(false);
    // The counter behind `Stats::memory_bytes`: asking for all of them would take views, which cost copies themselves.
    let before = ecsdb_core::memory_in_use();
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(ecsdb_core::memory_in_use().saturating_sub(before));
                std::thread::sleep(SAMPLE);
            }
            most
        });
        let commits = write_during_snapshot(big, seed);
        done.store(true, Ordering::Relaxed);
        let most = sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
        Ok((most as f64, commits?))
    })
}

fn write_during_snapshot(big: &Big, seed: u64) -> anyhow::Result<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut commits = 0;
    let job = big.db.snapshot()?;
    while !job.is_finished() {
        let entity = big.entities[random.usize(..big.entities.len())];
        big.db.write_with(Durability::Buffered, |tx| change(tx, entity))?;
        commits += 1;
    }
    job.wait()?;
    big.db.sync()?;
    Ok(commits)
}
