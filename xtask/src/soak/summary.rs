//! The table at the end: what happened, how the end of the run compares with its beginning, and whether it was good.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::sample::Sample;
use super::state::{Counts, State};

const HOUR: f64 = 3600.0;
/// Of the longest life, the beginning (in which the caches of allocator and engine fill) is left out, and the next part compared with the last.
const LIFE_PARTS: usize = 5;
/// A shorter run has too few teeth of the saw to be judged by.
const JUDGED_SECONDS_MIN: f64 = 180.0;

#[derive(Serialize)]
pub(super) struct Summary {
    seed: u64,
    seconds: f64,
    processes: u64,
    counts: Counts,
    /// Of what length the first and the last part is that are compared.
    part_seconds: f64,
    judged: bool,
    rows: Vec<Row>,
    failures: Vec<String>,
}

/// One measure, by its median, at the beginning and at the end.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    first: u64,
    last: u64,
    max: u64,
    flat: bool,
}

impl Summary {
    pub(super) fn new(state: &State, samples: &[Sample]) -> Self {
        let part_seconds = if state.seconds >= 2.0 * HOUR { HOUR } else { state.seconds / 4.0 };
        let first = between(samples, 0.0, part_seconds);
        let last = between(samples, state.seconds - part_seconds, f64::MAX);
        // Disk use is a saw with teeth of minutes, and a database is small at first: what counts is that it does not grow any more.
        let middle = between(samples, state.seconds / 3.0, state.seconds * 2.0 / 3.0);
        let (early, late) = longest_life(samples);
        let row = |name, first, last, of: fn(&Sample) -> Option<u64>, flat: fn(f64, f64) -> bool| {
            let (first, last) = (median(first, of), median(last, of));
            let max = samples.iter().filter_map(of).max().unwrap_or(0);
            Row { name, first, last, max, flat: flat(first as f64, last as f64) }
        };
        let loaded = |sample: &Sample| (sample.commits > 0).then_some(sample.commits);
        let memory = |sample: &Sample| Some(sample.resident_bytes);
        let handles = |sample: &Sample| Some(sample.handles);
        let threads = |sample: &Sample| Some(sample.threads);
        let disk = |sample: &Sample| Some(sample.disk_bytes);
        let less_than_a_fifth_more = |first, last| last <= first * 1.2 + f64::from(16 << 20);
        let few_more = |first, last| last <= first + 4.0;
        let rows = vec![
            row("commits in a second", first, last, loaded, |first, last| last >= first * 0.8),
            row("memory, bytes", first, last, memory, less_than_a_fifth_more),
            row("memory, bytes (within the longest life)", early, late, memory, less_than_a_fifth_more),
            row("file handles", first, last, handles, few_more),
            row("file handles (within the longest life)", early, late, handles, few_more),
            row("threads", first, last, threads, few_more),
            row("threads (within the longest life)", early, late, threads, few_more),
            row("disk, bytes (first: the middle third)", middle, last, disk, |first, last| {
                last <= first * 1.3
            }),
        ];
        Summary {
            seed: state.seed,
            seconds: state.seconds,
            processes: state.lives,
            counts: state.counts.clone(),
            part_seconds,
            judged: state.seconds >= JUDGED_SECONDS_MIN,
            rows,
            failures: state.failures.clone(),
        }
    }

    pub(super) fn print(&self) {
        let counts = &self.counts;
        let mut table = table(["soak", ""]);
        let kills = format!(
            "{} ({} opening, {} restoring)",
            counts.kills, counts.kills_in_opening, counts.kills_in_restoring
        );
        let rows = [
            ("minutes", format!("{:.1}", self.seconds / 60.0)),
            ("processes", self.processes.to_string()),
            ("killed", kills),
            ("directories verified after a kill", counts.verified.to_string()),
            ("commits", counts.commits.to_string()),
            ("acknowledgments kept outside", counts.acknowledgments.to_string()),
            ("snapshots", counts.snapshots.to_string()),
            ("compactions", counts.compactions.to_string()),
            ("segments archived", counts.archived.to_string()),
            ("openings", counts.openings.to_string()),
            ("slowest opening", format!("{:.2} s", counts.slowest_opening_seconds)),
            ("full disks, failing syncs", format!("{}, {}", counts.disk_full, counts.failed_syncs)),
            ("operations that failed by that", counts.operations_failed.to_string()),
            ("changes of settings", counts.settings_changed.to_string()),
            ("copies of a past moment compared", counts.copies_compared.to_string()),
            ("restored there and back", counts.worlds_restored.to_string()),
            ("failures", self.failures.len().to_string()),
        ];
        for (name, value) in rows {
            table.add_row([name.to_string(), value]);
        }
        println!("{}", right(table, 1));
        let part = format!("{:.1} min", self.part_seconds / 60.0);
        let mut table = table_of_four(&part);
        for row in &self.rows {
            let flat = match (self.judged, row.flat) {
                (false, _) => "too short",
                (true, true) => "yes",
                (true, false) => "NO",
            };
            let value =
                |n: u64| if row.name.contains("bytes") { format!("{} MiB", n >> 20) } else { n.to_string() };
            table.add_row([
                row.name.to_string(),
                value(row.first),
                value(row.last),
                value(row.max),
                flat.to_string(),
            ]);
        }
        println!("{}", right(table, 4));
        for failure in &self.failures {
            println!("FAILED (seed {}): {failure}", self.seed);
        }
    }

    /// Throughput depends on who else uses the machine, and is only shown.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.failures.is_empty(), "{} checks failed", self.failures.len());
        anyhow::ensure!(self.counts.openings > 1, "the run was too short to check anything");
        let grows = |row: &&Row| self.judged && !row.flat && !row.name.contains("commits");
        let growing: Vec<&str> = self.rows.iter().filter(grows).map(|row| row.name).collect();
        anyhow::ensure!(growing.is_empty(), "not flat: {}", growing.join(", "));
        Ok(())
    }
}

fn table_of_four(part: &str) -> Table {
    table(["by the median", &format!("first {part}"), &format!("last {part}"), "max", "flat"])
}

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    table
}

pub(super) fn right(mut table: Table, columns: usize) -> Table {
    for column in 1..=columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn between(samples: &[Sample], from: f64, to: f64) -> &[Sample] {
    let at = |seconds: f64| samples.partition_point(|sample| sample.seconds < seconds);
    &samples[at(from)..at(to)]
}

/// An early part and the last part of the life of the process that had the longest one: a leak shows there, and a kill hides it.
fn longest_life(samples: &[Sample]) -> (&[Sample], &[Sample]) {
    let lives = samples.chunk_by(|one, next| one.life == next.life);
    let life = lives.max_by_key(|life| life.len()).unwrap_or_default();
    let part = life.len() / LIFE_PARTS;
    (&life[part..2 * part], &life[life.len() - part..])
}

fn median(samples: &[Sample], of: fn(&Sample) -> Option<u64>) -> u64 {
    let mut values: Vec<u64> = samples.iter().filter_map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
