//! The figures.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::strike::{Ended, Strike};
use ecsdb_witness::Claims;

#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    seed: u64,
    pub(super) seconds: f64,
    /// Processes, those included that the strike did not reach.
    pub(super) lives: u64,
    /// Processes that were killed.
    kills: u64,
    /// Processes that ended with an error.
    errors: u64,
    /// Kills and errors by what the process was doing, and by how it was struck.
    by_phase: BTreeMap<String, u64>,
    by_kind: BTreeMap<String, u64>,
    pub(super) failure: Option<String>,
    pub(super) smallest: Option<String>,
}

impl Summary {
    pub(super) fn new(seed: u64) -> Self {
        Summary { seed, ..Summary::default() }
    }

    pub(super) fn struck(&self) -> u64 {
        self.kills + self.errors
    }

    pub(super) fn count(&mut self, strike: &Strike, ended: &Ended, claims: &Claims) {
        self.lives += 1;
        match ended {
            Ended::Killed => self.kills += 1,
            Ended::Failed => self.errors += 1,
            Ended::Done | Ended::Wrongly(_) => return,
        }
        *self.by_phase.entry(claims.phase()).or_default() += 1;
        *self.by_kind.entry(strike.kind()).or_default() += 1;
    }

    pub(super) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["kill", ""]);
        table.add_row(["seconds", &format!("{:.0}", self.seconds)]);
        table.add_row(["processes", &self.lives.to_string()]);
        table.add_row(["killed", &self.kills.to_string()]);
        table.add_row(["ended by an error", &self.errors.to_string()]);
        for (name, count) in &self.by_phase {
            table.add_row([&format!("struck in: {name}"), &count.to_string()]);
        }
        for (name, count) in &self.by_kind {
            table.add_row([name, &count.to_string()]);
        }
        table.add_row(["failures", &u64::from(self.failure.is_some()).to_string()]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        if let Some(failure) = &self.failure {
            println!("FAILED (seed {}): {failure}", self.seed);
            match &self.smallest {
                Some(smallest) => println!("smallest case: {smallest}"),
                None => println!("not seen again on a new directory"),
            }
        }
    }
}
