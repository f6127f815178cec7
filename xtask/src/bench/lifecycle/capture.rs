//! Capturing a view of a large world, and the first write after it, which copies.

use std::path::Path;
use std::time::Instant;

use ecsdb::prelude::*;

use super::world::{Big, step};
use crate::bench::report::{Report, median};
use crate::bench::{Position, open_quiet};

pub(super) const ROWS: &[&str] =
    &["capture_10m", "capture_10m_median", "capture_first_write", "capture_first_write_max"];

const CAPTURES: usize = 20_000;

pub(super) fn run(report: &mut Report, big: &Big, dir: &Path) -> anyhow::Result<()> {
    if !report.wants_any(ROWS) {
        return Ok(());
    }
    eprintln!("capture …");
    let small = open_quiet(&dir.join("small"))?;
    let few = small.write(|tx| Ok(tx.spawn_batch((0..1000).map(|_| Position::default()))))?;
    let (mut captures, mut writes) = (Vec::new(), Vec::new());
    for round in 0..report.rounds {
        let seed = round as u64;
        let (of_small, _) = times(&small, &few, seed, true)?;
        let (of_big, after_view) = times(&big.db, &big.entities, seed, true)?;
        let (_, without_view) = times(&big.db, &big.entities, seed, false)?;
        captures.push((of_big, of_small));
        writes.push((after_view, without_view));
    }
    report.record(ROWS[0], "µs", &of(&captures, max));
    report.record(ROWS[1], "µs", &of(&captures, |times| median(times.clone())));
    report.record(ROWS[2], "µs", &of(&writes, |times| median(times.clone())));
    report.record(ROWS[3], "µs", &of(&writes, max));
    report.note(
        "capture_10m: against a world of 1,000 entities; capture_first_write: against a write with no view"
            .into(),
    );
    small.close()?;
    Ok(())
}

type Times = Vec<f64>;

fn of(rounds: &[(Times, Times)], number: fn(&Times) -> f64) -> Vec<(f64, f64)> {
    rounds.iter().map(|(value, reference)| (number(value), number(reference))).collect()
}

fn max(times: &Times) -> f64 {
    times.iter().copied().fold(0.0, f64::max)
}

/// Microseconds of captures, and of the write to a random entity after each of them.
fn times(db: &Database, entities: &[Entity], seed: u64, capture: bool) -> anyhow::Result<(Times, Times)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut captures, mut writes) = (Vec::with_capacity(CAPTURES), Vec::with_capacity(CAPTURES));
    for _ in 0..CAPTURES {
        let entity = entities[random.usize(..entities.len())];
        let started = Instant::now();
        let view = capture.then(|| db.view()).transpose()?;
        captures.push(started.elapsed().as_secs_f64() * 1e6);
        let started = Instant::now();
        db.write_with(Durability::Buffered, |tx| step(tx, entity))?;
        writes.push(started.elapsed().as_secs_f64() * 1e6);
        drop(view);
    }
    db.sync()?;
    Ok((captures, writes))
}
