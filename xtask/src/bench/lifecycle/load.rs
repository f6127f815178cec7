//! Opening a cleanly closed database with one snapshot, against reading its files.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use ecsdb::{Database, PersistenceConfig};

use super::world::Big;
use crate::bench::report::Report;

pub(super) const ROWS: &[&str] =
    &["snapshot_load", "snapshot_load_1_thread", "snapshot_load_zstd", "snapshot_load_zstd_1_thread"];

const READ_BYTES: usize = 1 << 20;

pub(super) fn run(report: &mut Report, mut big: Big) -> anyhow::Result<()> {
    for (rows, level) in [(&ROWS[..2], 0), (&ROWS[2..], 1)] {
        if !report.wants_any(rows) {
            continue;
        }
        // A compaction leaves one full snapshot and an empty log.
        big.next_snapshot(level, true)?;
        big.touch()?;
        big.db.compact()?.wait()?;
        big.db.close()?;
        let (bytes, count) = (big.component_bytes() / 1e6, big.entities.len());
        let Big { path, db, entities } = big;
        // One world of this size in memory is enough.
        drop(db);
        for (row, threads) in [(rows[0], 0), (rows[1], 1)] {
            report.measure(
                row,
                "MB/s",
                || Ok(bytes / read_files(&path)?),
                || Ok(bytes / open(&path, threads, count)?),
            )?;
        }
        big = Big { db: Database::builder(&path).config(PersistenceConfig::manual).open()?, path, entities };
    }
    big.db.close()?;
    Ok(())
}

/// Seconds to open it.
fn open(path: &Path, threads: usize, count: usize) -> anyhow::Result<f64> {
    let builder = Database::builder(path)
        .config(PersistenceConfig::manual)
        .config(|config| config.recovery.threads = threads);
    let started = Instant::now();
    let db = builder.open()?;
    let seconds = started.elapsed().as_secs_f64();
    anyhow::ensure!(db.view()?.len() == count, "{} entities", db.view()?.len());
    let replayed = db.recovery_report().map_or(0, |report| report.transactions);
    anyhow::ensure!(replayed == 0, "{replayed} transactions were replayed: the log was not empty");
    db.close()?;
    Ok(seconds)
}

/// Seconds to read the snapshot from one end to the other. The log is only room for what is to come.
fn read_files(path: &Path) -> anyhow::Result<f64> {
    let mut buffer = vec![0; READ_BYTES];
    let started = Instant::now();
    for entry in std::fs::read_dir(path.join("snapshots"))? {
        let mut file = std::fs::File::open(entry?.path())?;
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(started.elapsed().as_secs_f64())
}
