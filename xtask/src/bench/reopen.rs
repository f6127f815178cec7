//! Opening a closed database of a million entities, and what it takes on disk.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ecsdb::prelude::*;

use super::report::Report;
use super::{Health, MILLION, Position, Velocity, open_quiet};

pub(crate) fn run(report: &mut Report, dir: &Path) -> anyhow::Result<()> {
    if !["open", "open_replay", "disk_bytes"].iter().any(|row| report.wants(row)) {
        return Ok(());
    }
    let raw_bytes = MILLION * (size_of::<Position>() + size_of::<Velocity>() + size_of::<Health>());
    let with_snapshot = dir.join("snapshot");
    make(&with_snapshot, true)?;
    report.measure("open", "ms", || read_files(&with_snapshot), || open(&with_snapshot))?;
    report.exact("disk_bytes", "bytes", bytes_of(&with_snapshot)? as f64, raw_bytes as f64);
    let log_only = dir.join("replay");
    make(&log_only, false)?;
    report.measure("open_replay", "ms", || read_files(&log_only), || open(&log_only))
}

fn make(path: &Path, snapshot: bool) -> anyhow::Result<()> {
    let db = open_quiet(path)?;
    let mut random = fastrand::Rng::with_seed(7);
    let mut vector = || Position { x: random.f32(), y: random.f32(), z: random.f32() };
    db.write(|tx| {
        tx.spawn_batch((0..MILLION).map(|i| {
            let Position { x, y, z } = vector();
            (vector(), Velocity { x, y, z }, Health { now: i as u32 % 100, full: 100 })
        }));
        Ok(())
    })?;
    if snapshot {
        db.snapshot()?.wait()?;
    }
    Ok(db.close()?)
}

fn open(path: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    let db = Database::open(path)?;
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(db.view()?.len() == MILLION, "{} entities", db.view()?.len());
    db.close()?;
    Ok(ms)
}

pub(crate) fn read_files(path: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    for file in files(path)? {
        std::hint::black_box(std::fs::read(file)?);
    }
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}

fn bytes_of(path: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for file in files(path)? {
        bytes += file.metadata()?.len();
    }
    Ok(bytes)
}

pub(crate) fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() {
            files.extend(self::files(&entry)?);
        } else {
            files.push(entry);
        }
    }
    Ok(files)
}
