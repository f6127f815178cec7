//! `cargo xtask soak --ticks`: a world that ticks sixty times a second for as long as it is told, each tick durable, with other threads that
//! commit and read beside it and with all that happens in the background. How long do the ticks take?

mod report;
mod run;
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use ecsdb::{Database, Durability};
use serde_json::json;

use super::plot::{self, BLACK, BLUE, GREEN, MIB, Panel, RED, Timeline, line, peak};
use report::{Second, Summary};
use world::{World, whole};

impl Timeline for Second {
    fn seconds(&self) -> f64 {
        self.seconds
    }
}

const PANELS: [Panel<Second>; 4] = [
    Panel {
        unit: "tick, ms",
        lines: &[
            peak("longest", RED, |s| Some(s.tick_max_ms)),
            line("p99", BLUE, |s| Some(s.tick_p99_ms)),
            line("median", BLACK, |s| Some(s.tick_p50_ms)),
            line("until the next one is due", GREEN, |_| Some(run::PERIOD.as_secs_f64() * 1e3)),
        ],
    },
    Panel {
        unit: "until durable, ms",
        lines: &[
            peak("tick, longest", RED, |s| Some(s.durable_max_ms)),
            peak("point commit, longest", BLUE, |s| Some(s.commit_max_ms)),
            line("point commit, median", BLACK, |s| Some(s.commit_p50_ms)),
        ],
    },
    Panel {
        unit: "memory, MiB",
        lines: &[line("of the process", BLACK, |s| Some(s.resident_bytes as f64 / MIB))],
    },
    Panel {
        unit: "disk, MiB",
        lines: &[
            line("all files", BLACK, |s| Some(s.disk_bytes as f64 / MIB)),
            line("snapshots", BLUE, |s| Some(s.snapshot_bytes as f64 / MIB)),
            line("archive", GREEN, |s| Some(s.archive_bytes as f64 / MIB)),
            line("log", RED, |s| Some(s.log_bytes as f64 / MIB)),
        ],
    },
];

pub(super) struct Options<'a> {
    pub(super) time: Duration,
    pub(super) entities: usize,
    pub(super) moving: usize,
    pub(super) plot: Option<&'a Path>,
    pub(super) json: Option<&'a Path>,
}

pub(super) fn run(dir: &Path, options: &Options<'_>) -> anyhow::Result<()> {
    let (entities, moving) = (options.entities, options.moving);
    anyhow::ensure!(moving <= entities, "of {entities} entities, {moving} cannot move");
    let path = dir.join("database");
    let db = open(&path)?;
    let world = World::populate(&db, entities, moving)?;
    let (totals, seconds) = run::run(&path, &db, &world, options.time)?;
    let (seen, digest) = (whole(&db.view()?)?, db.view()?.digest()?);
    db.close().context("closing")?;
    drop(db);

    let started = Instant::now();
    let db = open(&path)?;
    let (again, opened) = (whole(&db.view()?)?, db.view()?.digest()?);
    anyhow::ensure!(
        (again, opened) == (seen, digest),
        "{seen:?}, {digest} was closed, {again:?}, {opened} opened"
    );
    db.write_with(Durability::Immediate, |tx| world.tick(tx))?;
    let first_tick = started.elapsed();
    db.close().context("closing again")?;

    let summary = Summary::new(entities, moving, &totals, first_tick.as_secs_f64() * 1e3);
    if let Some(file) = options.json {
        let text = serde_json::to_string_pretty(&json!({ "summary": summary, "seconds": seconds }))?;
        std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
    }
    if let Some(file) = options.plot {
        plot::draw(&PANELS, &seconds, file).with_context(|| format!("drawing {}", file.display()))?;
    }
    summary.print();
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<Database> {
    Ok(Database::builder(path).config(run::settings).open()?)
}
