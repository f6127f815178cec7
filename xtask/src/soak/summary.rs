//! The table at the end, and whether the run was good.

use comfy_table::{CellAlignment, Table, presets};

use super::run::Outcome;
use super::sample::Sample;

/// How much more of the disk may be in use, by the median, in the last third of the run than in the one before. Peaks say little: they
/// come with restores, which keep files from being deleted.
const ENVELOPE: f64 = 1.3;
/// A shorter run has too few teeth of the saw to be judged by.
const ENVELOPE_SECONDS_MIN: f64 = 180.0;

pub(super) fn print(outcome: &Outcome) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["soak", ""]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_string(), value]);
    };
    row("commits", outcome.commits.to_string());
    row("commits/s", format!("{:.0}", outcome.commits as f64 / outcome.loaded.as_secs_f64().max(0.001)));
    row("snapshots", outcome.snapshots.to_string());
    row("compactions", outcome.compactions.to_string());
    row("segments archived", outcome.archived.to_string());
    row("reopenings", outcome.reopenings.len().to_string());
    let slowest = outcome.reopenings.iter().max().copied().unwrap_or_default();
    row("slowest opening", format!("{slowest:.1?}"));
    row("restores checked", outcome.restores.to_string());
    let thirds = thirds(&outcome.samples);
    for (name, third) in ["first", "middle", "last"].iter().zip(thirds) {
        let (max, median) = (mib(max(third)), mib(median(third)));
        row(&format!("disk in the {name} third"), format!("max {max} MiB, median {median} MiB"));
    }
    let memory = outcome.samples.iter().map(|sample| sample.memory_bytes).max().unwrap_or(0);
    row("component memory, max", format!("{} MiB", mib(memory)));
    row("failures", outcome.failures.len().to_string());
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    for failure in &outcome.failures {
        println!("FAILED: {failure}");
    }
}

pub(super) fn verdict(outcome: &Outcome) -> anyhow::Result<()> {
    anyhow::ensure!(outcome.failures.is_empty(), "{} checks failed", outcome.failures.len());
    anyhow::ensure!(!outcome.reopenings.is_empty(), "the run was too short to check anything");
    let [_, middle, last] = thirds(&outcome.samples).map(median);
    let judged = outcome.samples.last().is_some_and(|last| last.seconds >= ENVELOPE_SECONDS_MIN);
    anyhow::ensure!(
        !judged || last as f64 <= middle as f64 * ENVELOPE,
        "disk use grows: {} MiB in the last third, {} MiB in the one before, by the median",
        mib(last),
        mib(middle)
    );
    Ok(())
}

fn thirds(samples: &[Sample]) -> [&[Sample]; 3] {
    let end = samples.last().map_or(0.0, |last| last.seconds);
    let at = |part: f64| samples.partition_point(|sample| sample.seconds < end * part);
    let (one, two) = (at(1.0 / 3.0), at(2.0 / 3.0));
    [&samples[..one], &samples[one..two], &samples[two..]]
}

fn max(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| sample.total_bytes).max().unwrap_or(0)
}

fn median(samples: &[Sample]) -> u64 {
    let mut bytes: Vec<u64> = samples.iter().map(|sample| sample.total_bytes).collect();
    bytes.sort_unstable();
    bytes.get(bytes.len() / 2).copied().unwrap_or(0)
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}
