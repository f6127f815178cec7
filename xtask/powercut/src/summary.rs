//! The figures.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cuts::CONTROLS;
use crate::disk::Class;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    seed: u64,
    pub(crate) seconds: f64,
    pub(crate) processes: u64,
    pub(crate) cuts: u64,
    /// Hashes of what was left, with what had been acknowledged.
    #[serde(skip)]
    pub(crate) states: BTreeSet<u64>,
    distinct: usize,
    /// Cuts by what the process was doing, and by what survived.
    pub(crate) by_phase: BTreeMap<String, u64>,
    pub(crate) by_survival: BTreeMap<String, u64>,
    /// Records in which a lying disk was caught, of so many.
    controls: BTreeMap<String, (u64, u64)>,
    pub(crate) failure: Option<String>,
}

impl Summary {
    pub(crate) fn new(seed: u64) -> Self {
        Summary { seed, ..Summary::default() }
    }

    pub(crate) fn control(&mut self, class: Class, caught: bool) {
        let (count, all) = self.controls.entry(format!("{class:?}")).or_default();
        (*count, *all) = (*count + u64::from(caught), *all + 1);
    }

    pub(crate) fn count(&mut self, state: u64, phase: String, survival: String) {
        self.cuts += 1;
        self.states.insert(state);
        self.distinct = self.states.len();
        *self.by_phase.entry(phase).or_default() += 1;
        *self.by_survival.entry(survival).or_default() += 1;
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["powercut", ""]);
        table.add_row(["seconds", &format!("{:.0}", self.seconds)]);
        table.add_row(["processes recorded", &self.processes.to_string()]);
        table.add_row(["cuts", &self.cuts.to_string()]);
        table.add_row(["distinct states left", &self.distinct.to_string()]);
        for (name, count) in &self.by_phase {
            table.add_row([&format!("cut in: {name}"), &count.to_string()]);
        }
        for (name, count) in &self.by_survival {
            table.add_row([&format!("survived: {name}"), &count.to_string()]);
        }
        for (name, (caught, all)) in &self.controls {
            table.add_row([
                &format!("control, lying about: {name}"),
                &format!("caught in {caught} of {all} records"),
            ]);
        }
        table.add_row(["failures", &u64::from(self.failure.is_some()).to_string()]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        if let Some(failure) = &self.failure {
            println!("FAILED (seed {}): {failure}", self.seed);
        }
    }

    /// Nothing is proven by a run that would not have seen it.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        for class in CONTROLS {
            let caught = self.controls.get(&format!("{class:?}")).is_some_and(|(caught, _)| *caught > 0);
            anyhow::ensure!(caught, "a disk that lies about syncs of class {class:?} was not caught");
        }
        Ok(())
    }
}
