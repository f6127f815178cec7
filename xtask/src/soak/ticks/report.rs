//! What is noted each second, and the table at the end.

use std::fmt;

use comfy_table::Table;
use ecsdb::Stats;
use serde::Serialize;

use super::run::{PERIOD, Timed, Times};
use crate::soak::sample::Process;
use crate::soak::summary::{right, table};

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Second {
    /// Since the beginning of the run.
    pub(super) seconds: f64,
    pub(super) ticks: u64,
    pub(super) tick_p50_ms: f64,
    pub(super) tick_p99_ms: f64,
    pub(super) tick_max_ms: f64,
    pub(super) durable_max_ms: f64,
    pub(super) commits: u64,
    pub(super) commit_p50_ms: f64,
    pub(super) commit_max_ms: f64,
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    pub(super) handles: u64,
    pub(super) disk_bytes: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) archive_bytes: u64,
}

impl Second {
    pub(super) fn new(seconds: f64, timed: &Timed, stats: &Stats, process: Process, disk_bytes: u64) -> Self {
        let store = stats.store.clone().unwrap_or_default();
        Second {
            seconds,
            ticks: timed.tick.len(),
            tick_p50_ms: millis(timed.tick.value_at_quantile(0.5)),
            tick_p99_ms: millis(timed.tick.value_at_quantile(0.99)),
            tick_max_ms: millis(timed.tick.max()),
            durable_max_ms: millis(timed.durable.max()),
            commits: timed.commit.len(),
            commit_p50_ms: millis(timed.commit.value_at_quantile(0.5)),
            commit_max_ms: millis(timed.commit.max()),
            resident_bytes: process.resident_bytes,
            threads: process.threads,
            handles: process.handles,
            disk_bytes,
            snapshot_bytes: store.snapshot_bytes,
            log_bytes: store.log_bytes,
            archive_bytes: store.archive_bytes,
        }
    }
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ticks/s, {:.1} ms at most, {} MiB of memory, {} MiB on disk",
            self.ticks,
            self.tick_max_ms,
            self.resident_bytes >> 20,
            self.disk_bytes >> 20
        )
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Of the whole run.
pub(super) struct Totals {
    pub(super) seconds: f64,
    pub(super) timed: Timed,
    pub(super) reads: u64,
    pub(super) snapshots: u64,
    pub(super) compactions: u64,
    pub(super) archived: u64,
    pub(super) segments_late: u64,
    pub(super) log_bytes: u64,
}

impl Totals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Totals {
            seconds: 0.0,
            timed: Timed::new()?,
            reads: 0,
            snapshots: 0,
            compactions: 0,
            archived: 0,
            segments_late: 0,
            log_bytes: 0,
        })
    }
}

/// What the run comes to.
#[derive(Serialize)]
pub(super) struct Summary {
    entities: usize,
    moving: usize,
    minutes: f64,
    ticks: Row,
    /// Ticks that were not done when the next one was due.
    late_ticks: u64,
    durable: Row,
    commits: Row,
    reads: u64,
    snapshots: u64,
    compactions: u64,
    segments_archived: u64,
    segments_late: u64,
    log_bytes: u64,
    /// From the call to the first tick of the world that was opened again.
    first_tick_ms: f64,
}

/// Milliseconds.
#[derive(Serialize)]
struct Row {
    count: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Row {
    fn new(times: &Times) -> Self {
        let at = |quantile| millis(times.value_at_quantile(quantile));
        Row { count: times.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: millis(times.max()) }
    }
}

impl Summary {
    pub(super) fn new(entities: usize, moving: usize, totals: &Totals, first_tick_ms: f64) -> Self {
        let ticks = &totals.timed.tick;
        Summary {
            entities,
            moving,
            minutes: totals.seconds / 60.0,
            ticks: Row::new(ticks),
            late_ticks: ticks.count_between(PERIOD.as_nanos() as u64 + 1, ticks.max().max(1)),
            durable: Row::new(&totals.timed.durable),
            commits: Row::new(&totals.timed.commit),
            reads: totals.reads,
            snapshots: totals.snapshots,
            compactions: totals.compactions,
            segments_archived: totals.archived,
            segments_late: totals.segments_late,
            log_bytes: totals.log_bytes,
            first_tick_ms,
        }
    }

    pub(super) fn print(&self) {
        let mut times: Table = table(["milliseconds", "count", "p50", "p99", "p99.9", "max"]);
        for (name, row) in [
            ("tick, from due to committed", &self.ticks),
            ("tick, from due to durable", &self.durable),
            ("point commit, durable", &self.commits),
        ] {
            let number = |n: f64| format!("{n:.2}");
            times.add_row([
                name.to_string(),
                row.count.to_string(),
                number(row.p50),
                number(row.p99),
                number(row.p999),
                number(row.max),
            ]);
        }
        println!("{}", right(times, 5));
        let mut counts = table(["soak --ticks", ""]);
        for (name, value) in [
            ("minutes", format!("{:.1}", self.minutes)),
            ("entities, moving in each tick", format!("{}, {}", self.entities, self.moving)),
            ("ticks that the next one had to wait for", self.late_ticks.to_string()),
            ("log", format!("{:.1} GiB", self.log_bytes as f64 / f64::from(1 << 30))),
            ("log segments that were needed before they were prepared", self.segments_late.to_string()),
            ("states checked", self.reads.to_string()),
            ("snapshots", self.snapshots.to_string()),
            ("compactions", self.compactions.to_string()),
            ("segments archived", self.segments_archived.to_string()),
            ("first tick after opening again", format!("{:.0} ms", self.first_tick_ms)),
        ] {
            counts.add_row([name.to_string(), value]);
        }
        println!("{}", right(counts, 1));
    }
}
