//! A world of a million entities of which every tick changes every one, durably, against writing as many bytes to the disk and nothing else.

use std::path::Path;
use std::time::Instant;

use ecsdb::prelude::*;
use ecsdb_io::{Disk, PageVec, Vfs};

use super::report::Report;
use super::{MILLION, Position, open_quiet};

const TICKS: usize = 40;
/// What a tick changes.
const TICK_BYTES: usize = MILLION * size_of::<Position>();

pub(crate) fn run(report: &mut Report, dir: &Path) -> anyhow::Result<()> {
    let rows = [
        ("tick_durable", Durability::Batched, 0),
        ("tick_immediate", Durability::Immediate, 0),
        ("tick_durable_zstd", Durability::Batched, 1),
    ];
    if !report.wants_any(&rows.map(|(row, ..)| row)) {
        return Ok(());
    }
    let db = open_quiet(&dir.join("ticks"))?;
    db.write(|tx| Ok(tx.spawn_batch((0..MILLION).map(|i| Position { x: i as f32, y: 1.0, z: 2.0 }))))?;
    for (row, durability, level) in rows {
        drop(db.reconfigure_with(|config| config.wal.compression_level = level)?);
        report.measure(row, "MB/s", || bare(dir), || ticks(&db, durability))?;
        // The log that came of it would only fill the disk.
        db.compact()?.wait()?;
    }
    let stats = db.stats()?;
    report.note(format!(
        "tick_*: {} MB a tick, {} segments late",
        TICK_BYTES / 1_000_000,
        stats.log.map_or(0, |log| log.segments_late)
    ));
    db.close()?;
    Ok(())
}

/// Payload bytes a second that are on stable storage at the end.
fn ticks(db: &Database, durability: Durability) -> anyhow::Result<f64> {
    let started = Instant::now();
    for _ in 0..TICKS {
        db.write_with(durability, |tx| {
            tx.query::<&mut Position>().for_each(|position| position.x += 1.0);
            Ok(())
        })?;
    }
    db.sync()?;
    Ok((TICKS * TICK_BYTES) as f64 / 1e6 / started.elapsed().as_secs_f64())
}

/// The physical limit: as many bytes written past the system's cache, and synced.
fn bare(dir: &Path) -> anyhow::Result<f64> {
    let path = dir.join("bare-ticks");
    let file = Disk.create(&path)?;
    file.pass_cache_by();
    let mut tick = PageVec::new();
    tick.resize(TICK_BYTES / ecsdb_io::PAGE_BYTES * ecsdb_io::PAGE_BYTES, 7);
    file.reserve((TICKS * tick.len()) as u64)?;
    file.sync_data()?;
    let started = Instant::now();
    for i in 0..TICKS {
        file.write_at(&tick, (i * tick.len()) as u64)?;
        file.sync_data()?;
    }
    let rate = (TICKS * tick.len()) as f64 / 1e6 / started.elapsed().as_secs_f64();
    Disk.remove(&path)?;
    Ok(rate)
}
