//! How large an increment is after 1 % of the entities changed, against the full snapshot.

use std::collections::BTreeSet;

use ecsdb::prelude::*;

use super::world::{Big, change};
use crate::bench::report::Report;

pub(super) const ROWS: &[&str] = &["incremental_clustered", "incremental_scattered"];

pub(super) fn run(report: &mut Report, big: &Big) -> anyhow::Result<()> {
    let count = big.entities.len() / 100;
    if report.wants(ROWS[0]) {
        measure(report, big, ROWS[0], count..2 * count)?;
    }
    if report.wants(ROWS[1]) {
        measure(report, big, ROWS[1], scattered(big, count, 7))?;
    }
    Ok(())
}

/// The indices of `count` different random entities.
pub(super) fn scattered(big: &Big, count: usize, seed: u64) -> BTreeSet<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chosen = BTreeSet::new();
    while chosen.len() < count {
        chosen.insert(random.usize(..big.entities.len()));
    }
    chosen
}

/// Changes every component of these entities in one transaction.
pub(super) fn change_all(big: &Big, which: impl IntoIterator<Item = usize>) -> ecsdb::Result<()> {
    big.db
        .write_with(Durability::Batched, |tx| which.into_iter().try_for_each(|i| change(tx, big.entities[i])))
}

/// Without compression, so that it is what is written that is compared.
fn measure(
    report: &mut Report,
    big: &Big,
    row: &'static str,
    which: impl IntoIterator<Item = usize>,
) -> anyhow::Result<()> {
    eprintln!("{row} …");
    let full = big.full(0)?;
    change_all(big, which)?;
    big.next_snapshot(0, false)?;
    let increment = big.db.snapshot()?.wait()?;
    anyhow::ensure!(increment.parent == full.sequence, "not an increment: {increment:?}");
    report.exact(row, "bytes", increment.bytes as f64, full.bytes as f64);
    report.note(format!("{row}: in {:.2?}, the full one in {:.2?}", increment.duration, full.duration));
    Ok(())
}
