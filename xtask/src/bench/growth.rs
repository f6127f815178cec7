//! `cargo xtask bench growth`: the same of worlds of ten thousand to ten million entities. The reference is the smallest world's.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ecsdb::prelude::*;
use plotters::prelude::*;

use super::lifecycle::{ended, paced};
use super::report::{Report, median};
use super::{Position, Velocity, open_quiet};
use crate::font::{self, FONT};

const SIZES: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// A quantity, and its row for each size.
const QUANTITIES: [(&str, [&str; 4]); 4] = [
    ("commit", ["growth_commit_10k", "growth_commit_100k", "growth_commit_1m", "growth_commit_10m"]),
    ("capture", ["growth_capture_10k", "growth_capture_100k", "growth_capture_1m", "growth_capture_10m"]),
    (
        "longest pause of a writer beside a snapshot",
        ["growth_pause_10k", "growth_pause_100k", "growth_pause_1m", "growth_pause_10m"],
    ),
    ("open", ["growth_open_10k", "growth_open_100k", "growth_open_1m", "growth_open_10m"]),
];

/// Calls that are timed together.
const CALLS: usize = 20_000;

pub(crate) fn run(report: &mut Report, dir: &Path, plot: Option<&Path>) -> anyhow::Result<()> {
    let mut seen: Vec<[f64; 4]> = Vec::new();
    for size in SIZES {
        eprintln!("{size} entities …");
        let path = dir.join(size.to_string());
        let db = open_quiet(&path)?;
        // Each snapshot is a full one.
        ecsdb_tests::reconfigure(&db, |config| config.snapshot.chain_max = 1)?;
        let made = |i| (Position { x: i as f32, y: 1.0, z: 2.0 }, Velocity { x: 1.0, y: 0.0, z: 0.0 });
        let ids = db.write(|tx| Ok(tx.spawn_batch((0..size).map(made))))?;
        let mut rounds: [Vec<f64>; 4] = Default::default();
        for _ in 0..report.rounds {
            rounds[0].push(commit(&db, ids[size / 2])?);
            rounds[1].push(capture(&db)?);
            rounds[2].push(pause(&db, ids[size / 2])?);
        }
        db.close()?;
        drop(db);
        for _ in 0..report.rounds {
            rounds[3].push(open(&path, size)?);
        }
        std::fs::remove_dir_all(&path)?;
        seen.push(rounds.map(median));
    }
    for (i, (_, rows)) in QUANTITIES.iter().enumerate() {
        for (row, values) in rows.iter().zip(&seen) {
            report.exact(row, "ns", values[i], seen[0][i]);
        }
    }
    plot.map_or(Ok(()), |path| draw(path, &seen))
}

/// Nanoseconds of a commit of one value, the same each time, which nobody waits for to be durable.
fn commit(db: &Database, entity: Entity) -> anyhow::Result<f64> {
    let started = Instant::now();
    for _ in 0..CALLS {
        db.write_with(Durability::Buffered, |tx| Ok(tx.get_mut::<Position>(entity)?.x += 1.0))?;
    }
    let time = started.elapsed();
    db.sync()?;
    Ok(time.as_nanos() as f64 / CALLS as f64)
}

fn capture(db: &Database) -> anyhow::Result<f64> {
    let started = Instant::now();
    for _ in 0..CALLS {
        black_box(db.view()?);
    }
    Ok(started.elapsed().as_nanos() as f64 / CALLS as f64)
}

fn pause(db: &Database, entity: Entity) -> anyhow::Result<f64> {
    let mut commit =
        || Ok(db.write_with(Durability::Buffered, |tx| Ok(tx.get_mut::<Position>(entity)?.x += 1.0))?);
    let seen = std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> anyhow::Result<()> {
            ended(&db.snapshot()?);
            Ok(())
        });
        // A small snapshot is over before long: as long as this at least.
        let started = Instant::now();
        let done = || thread.is_finished() && started.elapsed() > Duration::from_millis(100);
        let seen = paced(done, &mut commit);
        thread.join().map_err(|_| anyhow!("the other thread panicked"))??;
        seen
    })?;
    db.sync()?;
    Ok(seen.longest() as f64)
}

fn open(path: &Path, size: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let db = open_quiet(path)?;
    let time = started.elapsed();
    anyhow::ensure!(db.view()?.len() == size, "{} entities", db.view()?.len());
    db.close()?;
    Ok(time.as_nanos() as f64)
}

fn draw(path: &Path, seen: &[[f64; 4]]) -> anyhow::Result<()> {
    font::register()?;
    let drawn = (|| -> Result<(), Box<dyn std::error::Error>> {
        let root = BitMapBackend::new(path, (900, 500)).into_drawing_area();
        root.fill(&WHITE)?;
        let most = seen.iter().flatten().copied().fold(1e3, f64::max) * 4.0;
        let (x, y) = ((8e3..1.3e7).log_scale(), (50.0..most).log_scale());
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        chart.configure_mesh().x_desc("entities").y_desc("nanoseconds").draw()?;
        for (i, ((name, _), color)) in QUANTITIES.iter().zip([BLUE, GREEN, RED, BLACK]).enumerate() {
            let points = || SIZES.iter().zip(seen).map(|(size, values)| (*size as f64, values[i]));
            chart
                .draw_series(LineSeries::new(points(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
            chart.draw_series(points().map(|at| Circle::new(at, 3, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font((FONT, 14))
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        root.present()?;
        Ok(())
    })();
    drawn.map_err(|e| anyhow!("{e}")).with_context(|| format!("cannot draw {}", path.display()))
}
