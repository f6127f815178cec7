//! What a compaction frees, and that it changes nothing.

use std::time::Instant;

use ecsdb::prelude::*;

use super::increments::{change_all, scattered};
use super::world::{Big, step};
use crate::bench::report::Report;

pub(super) const ROWS: &[&str] = &["compact"];

const INCREMENTS: u64 = 4;
const LATER_COMMITS: usize = 300_000;

pub(super) fn run(report: &mut Report, big: Big) -> anyhow::Result<Big> {
    if !report.wants(ROWS[0]) {
        return Ok(big);
    }
    eprintln!("{} …", ROWS[0]);
    big.full(1)?;
    big.next_snapshot(1, false)?;
    for seed in 0..INCREMENTS {
        change_all(&big, scattered(&big, big.entities.len() / 1000, seed))?;
        big.db.snapshot()?.wait()?;
    }
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..LATER_COMMITS {
        let entity = big.entities[random.usize(..big.entities.len())];
        big.db.write_with(Durability::Buffered, |tx| step(tx, entity))?;
    }
    big.db.sync()?;

    let (digest, before) = (big.db.view()?.digest()?, bytes(&big)?);
    let started = Instant::now();
    big.db.compact()?.wait()?;
    let (time, after) = (started.elapsed(), bytes(&big)?);
    let compacted = big.db.view()?.digest()?;
    anyhow::ensure!(compacted == digest, "the compaction turned {digest} into {compacted}");
    let big = big.reopen()?;
    let reopened = big.db.view()?.digest()?;
    anyhow::ensure!(reopened == digest, "{digest} was compacted, {reopened} was opened");
    report.exact(ROWS[0], "bytes", after, before);
    report.note(format!("{}: in {time:.2?}; digests equal before, after and after reopening", ROWS[0]));
    Ok(big)
}

fn bytes(big: &Big) -> anyhow::Result<f64> {
    let stats = big.db.stats()?;
    Ok(stats.store.map_or(0, |store| store.total_bytes()) as f64)
}
