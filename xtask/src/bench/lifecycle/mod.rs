//! `cargo xtask bench lifecycle`: what snapshots, compaction and loading cost in a world of a gigabyte, and what a
//! writer and a reader notice of them.

mod account;
mod append;
mod capture;
mod compact;
mod increments;
mod load;
mod overhead;
mod pauses;
mod world;
mod write;

use std::path::Path;

pub(super) use pauses::{ended, paced};

use super::report::Report;
use world::Big;

pub(crate) fn run(report: &mut Report, dir: &Path, scale: f64) -> anyhow::Result<()> {
    append::run(report, dir)?;
    let rows = [
        capture::ROWS,
        pauses::ROWS,
        write::ROWS,
        increments::ROWS,
        overhead::ROWS,
        compact::ROWS,
        load::ROWS,
    ];
    if !rows.iter().any(|rows| report.wants_any(rows)) {
        return Ok(());
    }
    // One world for all of them: it takes longer to make than most take to measure.
    let big = Big::new(&dir.join("big"), scale)?;
    report.note(format!(
        "world: {} entities, {:.0} MB of components",
        big.entities.len(),
        big.component_bytes() / 1e6
    ));
    capture::run(report, &big, dir)?;
    pauses::run(report, &big, dir)?;
    write::run(report, &big, dir)?;
    increments::run(report, &big)?;
    overhead::run(report, &big)?;
    let big = compact::run(report, big)?;
    load::run(report, big)
}
