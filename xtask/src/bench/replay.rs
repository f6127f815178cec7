//! Opening what a process left that was killed: its log, verified and applied, and the time until the application goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;

use super::reopen::{files, read_files};
use super::report::Report;
use super::{MILLION, Position, open_quiet};

/// Transactions of one value each.
const POINTS: usize = 1_000_000;
/// Transactions that change a component of every entity.
const TICKS: usize = 40;

pub(crate) fn run(report: &mut Report, dir: &Path) -> anyhow::Result<()> {
    let megabytes = (TICKS * MILLION * size_of::<Position>()) as f64 / 1e6;
    let (left, opened) = (&dir.join("left"), &dir.join("opened"));
    let log = left.join("log");
    if report.wants("replay_point") {
        leave(left, |db, entities| points(db, entities, POINTS))?;
        let rate = |ms: f64| POINTS as f64 / (ms / 1e3);
        let replay = || Ok(rate(open(left, opened, |_, db| Ok(replayed(db)))?));
        report.measure("replay_point", "transactions/s", || Ok(rate(read_files(&log)?)), replay)?;
    }
    if report.wants("replay_runs") {
        leave(left, |db, _| (0..TICKS).try_for_each(|_| tick(db)))?;
        let rate = |ms: f64| megabytes / (ms / 1e3);
        let replay = || Ok(rate(open(left, opened, |_, db| Ok(replayed(db)))?));
        report.measure("replay_runs", "MB/s", || Ok(rate(read_files(&log)?)), replay)?;
    }
    if report.wants("first_tick") {
        leave(left, |db, entities| {
            points(db, entities, POINTS / 10)?;
            tick(db)
        })?;
        let first_tick = |started: Instant, db: &Database| {
            tick(db)?;
            Ok(ms(started.elapsed()))
        };
        report.measure("first_tick", "ms", || read_files(left), || open(left, opened, first_tick))?;
    }
    Ok(())
}

fn points(db: &Database, entities: &[Entity], n: usize) -> ecsdb::Result<()> {
    for i in 0..n {
        let entity = entities[i * 7919 % entities.len()];
        db.write_with(Durability::Buffered, |tx| Ok(tx.get_mut::<Position>(entity)?.x += 1.0))?;
    }
    Ok(())
}

fn tick(db: &Database) -> ecsdb::Result<()> {
    db.write(|tx| {
        tx.query::<&mut Position>().for_each(|position| position.x += 1.0);
        Ok(())
    })
}

/// What is on the disk when a process is killed that made a million entities, took a snapshot of them, and did `work`.
fn leave(left: &Path, work: impl FnOnce(&Database, &[Entity]) -> ecsdb::Result<()>) -> anyhow::Result<()> {
    let path = left.with_extension("live");
    let db = open_quiet(&path)?;
    let made = |i| Position { x: i as f32, y: 1.0, z: 2.0 };
    let entities = db.write(|tx| Ok(tx.spawn_batch((0..MILLION).map(made))))?;
    db.snapshot()?.wait()?;
    work(&db, &entities)?;
    db.sync()?;
    // What nothing needs any more may be deleted meanwhile.
    let mut tries = 0..9;
    while copy(&path, left).is_err() && tries.next().is_some() {
        std::thread::sleep(Duration::from_millis(100));
    }
    copy(&path, left)?;
    db.close()?;
    Ok(std::fs::remove_dir_all(path)?)
}

/// Opens a copy of `left`, and gives what `measure` says, which gets the time before.
fn open(
    left: &Path,
    opened: &Path,
    measure: impl Fn(Instant, &Database) -> ecsdb::Result<f64>,
) -> anyhow::Result<f64> {
    copy(left, opened)?;
    let started = Instant::now();
    let db = open_quiet(opened)?;
    let measured = measure(started, &db)?;
    anyhow::ensure!(db.view()?.len() == MILLION, "{} entities", db.view()?.len());
    db.close()?;
    Ok(measured)
}

/// Milliseconds that it took to verify the log and to apply it.
fn replayed(db: &Database) -> f64 {
    let timings = db.recovery_report().map_or(&[][..], |report| &report.timings);
    timings.iter().filter(|(step, _)| *step == "log").map(|(_, time)| ms(*time)).sum()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    // A segment that is being prepared has another name the next moment.
    let is_whole = |file: &PathBuf| file.extension().is_none_or(|extension| extension != "tmp");
    for file in files(from)?.into_iter().filter(is_whole) {
        let copy = to.join(file.strip_prefix(from)?);
        std::fs::create_dir_all(copy.parent().unwrap_or(to))?;
        std::fs::copy(file, &copy)?;
        // A process that was killed had synced it: that is no part of what opening takes.
        std::fs::File::open(copy)?.sync_all()?;
    }
    Ok(())
}
