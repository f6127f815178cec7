//! `cargo xtask bench`: speed and size, each row with its reference measured in the same run.

mod commits;
mod memory;
mod reopen;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use ecsdb::Component;

use report::Report;

#[derive(Component, Clone, Copy, Default)]
#[component(name = "bench.position", plain)]
#[repr(C)]
pub(crate) struct Position {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "bench.velocity", plain)]
#[repr(C)]
pub(crate) struct Velocity {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "bench.health", plain)]
#[repr(C)]
pub(crate) struct Health {
    pub(crate) now: u32,
    pub(crate) full: u32,
}

/// Entities of the large world.
pub(crate) const MILLION: usize = 1_000_000;

pub(crate) fn run(json: Option<&Path>, only: &str, rounds: usize) -> anyhow::Result<()> {
    // On the disk of the build directory, which is a real one where /tmp may not be.
    std::fs::create_dir_all("target")?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in("target")?;
    let mut report = Report::new(only, rounds);
    commits::run(&mut report, dir.path())?;
    memory::run(&mut report, dir.path())?;
    reopen::run(&mut report, dir.path())?;
    report.print();
    match json {
        Some(path) => report.write_json(path),
        None => Ok(()),
    }
}

/// Runs `f` until `time` has passed and gives its rate per second.
pub(crate) fn rate(time: Duration, mut f: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut n = 0u64;
    while started.elapsed() < time {
        f()?;
        n += 1;
    }
    Ok(n as f64 / started.elapsed().as_secs_f64())
}
