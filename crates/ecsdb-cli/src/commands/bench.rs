//! `ecsdb bench`: what this machine and this disk give, in a few seconds. For measuring ecsdb itself there is `cargo xtask bench`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::prelude::*;
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use crate::output::{self, Output, spinner};
use crate::{interrupt, target};

/// Options of `bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// A directory on the disk that is measured; what is written there is removed again.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Entities of the world that is iterated over, 50,000,000 at most: each takes about 100 bytes of memory.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=ENTITIES_MAX))]
    entities: u64,
    /// Seconds for each row, 60 at most.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
}

/// A world of them and its changes fit into the memory of an ordinary machine.
const ENTITIES_MAX: u64 = 50_000_000;
const SECONDS_MAX: f64 = 60.0;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("write a number from 0 to {SECONDS_MAX}"))
}

#[derive(Component, Clone, Copy)]
#[component(name = "bench.position", plain)]
#[repr(C)]
struct Position {
    x: f32,
    y: f32,
}

#[derive(Component, Clone, Copy)]
#[component(name = "bench.velocity", plain)]
#[repr(C)]
struct Velocity {
    x: f32,
    y: f32,
}

/// Entities of one transaction, between two looks at whether somebody wants it to end.
const SPAWNED_AT_ONCE: u64 = 100_000;

struct Measured {
    row: &'static str,
    value: f64,
    unit: &'static str,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    target::is_there(&options.dir, "")?;
    // What is made in the directory is what must not be within a database.
    target::refuse(None, &options.dir.join("world"))?;
    interrupt::hold();
    let dir = tempfile::tempdir_in(&options.dir)
        .map_err(target::nameless)
        .with_context(|| format!("making a directory in {}", options.dir.display()))?;
    let bar = spinner();
    let db = Database::open(dir.path().join("world"))?;
    let mut rows = Vec::new();
    let mut measure = |row, unit, work: &mut dyn FnMut() -> Result<f64>| -> Result<()> {
        bar.set_message(row);
        let (started, mut n) = (Instant::now(), 0.0);
        loop {
            interrupt::check()?;
            n += work()?;
            if started.elapsed() >= options.seconds {
                break;
            }
        }
        rows.push(Measured { row, value: n / started.elapsed().as_secs_f64(), unit });
        Ok(())
    };
    let spawn = |i: f32| (Position { x: i, y: 0.0 }, Velocity { x: 1.0, y: 0.5 });
    measure("durable commits, one thread", "commits/s", &mut || {
        db.write(|tx| Ok(tx.spawn(spawn(0.0))))?;
        Ok(1.0)
    })?;
    measure("durable commits, 64 at once", "commits/s", &mut || {
        let mut tickets = Vec::new();
        for _ in 0..64 {
            tickets.push(db.submit(|tx| Ok(tx.spawn(spawn(0.0))))?);
        }
        let n = tickets.len() as f64;
        for ticket in tickets {
            ticket.wait()?;
        }
        Ok(n)
    })?;
    for first in (0..options.entities).step_by(SPAWNED_AT_ONCE as usize) {
        interrupt::check()?;
        let some = first..options.entities.min(first + SPAWNED_AT_ONCE);
        db.write_with(Durability::Batched, |tx| Ok(tx.spawn_batch(some.map(|i| spawn(i as f32))).len()))?;
    }
    db.sync()?;
    let view = db.view()?;
    let all = view.len() as f64;
    let mut sum = 0.0;
    measure("entities read", "entities/s", &mut || {
        for (positions, velocities) in view.query::<(&Position, &Velocity)>()?.chunks() {
            sum += positions.iter().zip(velocities).map(|(p, v)| p.x * v.x + p.y * v.y).sum::<f32>();
        }
        Ok(all)
    })?;
    std::hint::black_box(sum);
    drop(view);
    measure("entities changed and logged", "entities/s", &mut || {
        db.write_with(Durability::Batched, |tx| {
            for (p, v) in tx.query::<(&mut Position, &Velocity)>() {
                p.x += v.x;
                p.y += v.y;
            }
            Ok(())
        })?;
        Ok(all)
    })?;
    bar.set_message("snapshot");
    let started = Instant::now();
    let bytes = db.snapshot()?.wait()?.bytes;
    let value = bytes as f64 / started.elapsed().as_secs_f64();
    rows.push(Measured { row: "snapshot written", value, unit: "bytes/s" });
    bar.finish_and_clear();
    db.close()?;
    if out.is_json() {
        let rows: Vec<_> =
            rows.iter().map(|one| json!({ "row": one.row, "value": one.value, "unit": one.unit })).collect();
        return out
            .json(&json!({ "dir": output::path(&options.dir), "entities": options.entities, "rows": rows }));
    }
    let rows = rows.into_iter().map(|one| {
        let value = match one.unit {
            "bytes/s" => format!("{}/s", HumanBytes(one.value as u64)),
            unit => format!("{} {unit}", HumanCount(one.value as u64)),
        };
        vec![one.row.to_string(), value]
    });
    out.table(&[], rows.collect())
}
