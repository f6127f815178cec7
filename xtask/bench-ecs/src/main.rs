//! `cargo xtask bench ecs`: entity operations beside hecs and bevy_ecs, which are built for this alone.
//!
//! A million entities with two components of 12 bytes, one transaction a measurement, its commit included; the database is in
//! memory unless the row says otherwise. The reference is the faster of the two peers in the same round.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tools stand beside the engine: their own files are not its files"
)]

mod commits;
mod fragmented;
mod memory;
mod million;
#[path = "../../src/bench/report.rs"]
mod report;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use report::{Report, median, number};

#[derive(Parser)]
#[command(name = "cargo xtask bench ecs")]
struct Args {
    /// Also write the rows as JSON: a list of {name, value, unit, reference, ratio}.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of all three; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Entities as a part of a million: 0.01 for a smoke test.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Say what an entity of such a world takes of memory: what a child process of this one does.
    #[arg(long, hide = true, requires = "entities")]
    memory_of: Option<memory::Kind>,
    #[arg(long, hide = true)]
    entities: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(kind), Some(entities)) = (args.memory_of, args.entities) {
        return memory::say(kind, entities);
    }
    let entities = ((1e6 * args.scale) as usize).max(1000);
    let mut report = Report::new(&args.only, args.rounds);
    let measured = million::run(&mut report, entities)
        .and_then(|()| fragmented::run(&mut report))
        .and_then(|()| commits::run(&mut report, entities))
        .and_then(|()| memory::run(&mut report, entities));
    report.print();
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    measured
}

/// What one row takes in each of the three, in nanoseconds per entity.
pub(crate) struct Row<'a> {
    pub(crate) ecsdb: &'a mut dyn FnMut() -> anyhow::Result<f64>,
    pub(crate) hecs: &'a mut dyn FnMut() -> f64,
    pub(crate) bevy: &'a mut dyn FnMut() -> f64,
}

/// Measures all three in turn, round by round.
pub(crate) fn beside_peers(report: &mut Report, name: &'static str, row: Row<'_>) -> anyhow::Result<()> {
    if !report.wants(name) {
        return Ok(());
    }
    eprintln!("{name} …");
    let (mut pairs, mut hecs, mut bevy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..report.rounds {
        let (h, e, b) = ((row.hecs)(), (row.ecsdb)()?, (row.bevy)());
        pairs.push((e, h.min(b)));
        hecs.push(h);
        bevy.push(b);
    }
    report.note(format!("{name}: hecs {}, bevy_ecs {}", number(median(hecs)), number(median(bevy))));
    report.record(name, "ns/entity", &pairs);
    Ok(())
}

/// Nanoseconds per entity that `f` takes. What it returns is dropped outside.
pub(crate) fn time<T>(entities: usize, f: impl FnOnce() -> T) -> f64 {
    let started = Instant::now();
    let value = std::hint::black_box(f());
    let ns = started.elapsed().as_nanos() as f64 / entities as f64;
    drop(value);
    ns
}

/// The same of what may fail: a failed transaction would look like a fast one.
pub(crate) fn try_time<T, E: Into<anyhow::Error>>(
    entities: usize,
    f: impl FnOnce() -> Result<T, E>,
) -> anyhow::Result<f64> {
    let mut done = None;
    let ns = time(entities, || done = Some(f()));
    done.transpose().map_err(Into::into)?;
    Ok(ns)
}

macro_rules! vectors {
    ($($ecsdb:ident, $name:literal, $peer:ident;)*) => {
        /// The components, for ecsdb.
        pub(crate) mod own {$(
            #[derive(ecsdb::Component, Clone, Copy, Default)]
            #[component(name = $name, plain)]
            #[repr(C)]
            pub(crate) struct $ecsdb { pub(crate) x: f32, pub(crate) y: f32, pub(crate) z: f32 }
        )*}
        /// The same, for hecs and bevy_ecs.
        pub(crate) mod peer {$(
            #[derive(bevy_ecs::component::Component, Clone, Copy, Default)]
            #[allow(dead_code, reason = "of one only the size counts")]
            pub(crate) struct $peer { pub(crate) x: f32, pub(crate) y: f32, pub(crate) z: f32 }
        )*}
    };
}

vectors! {
    Position, "bench.position", Position;
    Velocity, "bench.velocity", Velocity;
    Extra, "bench.extra", Extra;
}
