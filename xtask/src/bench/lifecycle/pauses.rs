//! What a writer and a reader notice of a snapshot: delays against a fixed schedule, so that one long stall counts
//! for everything it holds up, as it would for users who come at their own times.

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use hdrhistogram::Histogram;

use super::world::{Big, step};
use crate::bench::report::{Report, median};

pub(super) const ROWS: &[&str] =
    &["snapshot_pause_max", "snapshot_pause_p99", "snapshot_pause_p9999", "reader_pause_max"];

const PERIOD: Duration = Duration::from_micros(20);
/// The level that snapshots have unless it is set.
const LEVEL: i32 = 1;

type Delays = Histogram<u64>;

pub(super) fn run(report: &mut Report, big: &Big) -> anyhow::Result<()> {
    if !report.wants_any(ROWS) {
        return Ok(());
    }
    eprintln!("pauses of a writer …");
    let mut random = fastrand::Rng::with_seed(7);
    let writer = rounds(report.rounds, big, || {
        let entity = big.entities[random.usize(..big.entities.len())];
        Ok(big.db.write_with(Durability::Buffered, |tx| step(tx, entity))?)
    })?;
    eprintln!("pauses of a reader …");
    let reader = rounds(report.rounds, big, || {
        black_box(big.db.view());
        Ok(())
    })?;
    let max = |delays: &Delays| us(delays.max());
    record(report, ROWS[0], &writer, max);
    record(report, ROWS[1], &writer, |delays| us(delays.value_at_quantile(0.99)));
    record(report, ROWS[2], &writer, |delays| us(delays.value_at_quantile(0.9999)));
    record(report, ROWS[3], &reader, max);
    Ok(())
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn record(report: &mut Report, name: &'static str, rounds: &[(Delays, Delays)], number: fn(&Delays) -> f64) {
    let pairs: Vec<(f64, f64)> =
        rounds.iter().map(|(value, reference)| (number(value), number(reference))).collect();
    report.record(name, "µs", &pairs);
    if report.wants(name) {
        let above = pairs.iter().map(|(value, reference)| value - reference).collect();
        let samples = rounds.iter().map(|(value, _)| value.len()).sum::<u64>();
        let each = pairs.iter().map(|(value, reference)| format!("{value:.0} ({reference:.0})"));
        report.note(format!(
            "{name}: {:.1} µs above the reference; each round: {}; {samples} samples",
            median(above),
            each.collect::<Vec<_>>().join(", "),
        ));
    }
}

/// Delays during a snapshot, and for as long without one.
fn rounds(
    n: usize,
    big: &Big,
    mut step: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<(Delays, Delays)>> {
    let mut rounds = Vec::new();
    big.next_snapshot(LEVEL, true)?;
    for _ in 0..n {
        big.touch()?;
        let started = Instant::now();
        let job = big.db.snapshot()?;
        let during = paced(|| job.is_finished(), &mut step)?;
        let time = started.elapsed();
        job.wait()?;
        big.db.sync()?;
        let started = Instant::now();
        let without = paced(|| started.elapsed() >= time, &mut step)?;
        big.db.sync()?;
        rounds.push((during, without));
    }
    Ok(rounds)
}

/// Does `step` once per period until `done`: how late each was done, in nanoseconds.
fn paced(done: impl Fn() -> bool, step: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Delays> {
    let mut delays = Delays::new_with_max(60_000_000_000, 3)?;
    let started = Instant::now();
    let mut due = Duration::ZERO;
    while !done() {
        // Sleeping would measure the operating system's timer.
        while started.elapsed() < due {
            spin_loop();
        }
        step()?;
        delays.saturating_record((started.elapsed() - due).as_nanos() as u64);
        due += PERIOD;
    }
    Ok(delays)
}
