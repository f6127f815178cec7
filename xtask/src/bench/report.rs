//! The rows: medians over the rounds, printed as a table and written as JSON.

use std::path::Path;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    /// The same quantity of the reference, or null.
    reference: Option<f64>,
    ratio: Option<f64>,
}

pub(crate) struct Report {
    only: String,
    pub(crate) rounds: usize,
    rows: Vec<Row>,
    /// What is said below the table.
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(only: &str, rounds: usize) -> Self {
        Report { only: only.into(), rounds: rounds.max(1), rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    pub(crate) fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// Measures reference and value alternately; value, reference and ratio are medians, each over the rounds.
    pub(crate) fn measure(
        &mut self,
        name: &'static str,
        unit: &'static str,
        mut reference: impl FnMut() -> anyhow::Result<f64>,
        mut value: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        eprintln!("{name} …");
        let mut pairs = Vec::new();
        for _ in 0..self.rounds {
            let before = reference()?;
            let measured = value()?;
            // On both sides of the measurement, so that a drift of the machine cancels out.
            pairs.push((measured, (before + reference()?) / 2.0));
        }
        self.record(name, unit, &pairs);
        Ok(())
    }

    /// What was measured by other means: a value and its reference from each round.
    pub(crate) fn record(&mut self, name: &'static str, unit: &'static str, pairs: &[(f64, f64)]) {
        if !self.wants(name) || pairs.is_empty() {
            return;
        }
        self.rows.push(Row {
            name,
            value: median(pairs.iter().map(|(value, _)| *value).collect()),
            unit,
            reference: Some(median(pairs.iter().map(|(_, reference)| *reference).collect())),
            ratio: Some(median(pairs.iter().map(|(value, reference)| value / reference).collect())),
        });
    }

    /// A quantity that is the same in every run.
    #[allow(dead_code, reason = "not of use in every benchmark that this file is part of")]
    pub(crate) fn exact(&mut self, name: &'static str, unit: &'static str, value: f64, reference: f64) {
        self.record(name, unit, &[(value, reference)]);
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["row", "value", "unit", "reference", "ratio"]);
        for row in &self.rows {
            table.add_row([
                row.name.to_string(),
                number(row.value),
                row.unit.to_string(),
                row.reference.map_or("–".into(), number),
                row.ratio.map_or("–".into(), |ratio| format!("{ratio:.3}")),
            ]);
        }
        for column in [1, 3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}");
        for note in &self.notes {
            println!("{note}");
        }
    }

    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
