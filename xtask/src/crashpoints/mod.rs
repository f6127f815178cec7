//! `cargo xtask crashpoints`: scripts of every kind of transition, crashed after each storage operation, with every subset of the
//! un-synced sectors up to a bound, every torn prefix, and some at random; and crashed again in the recovery.
//!
//! The first pass over the scripts is the same in every run. The passes after it go on at random, by the seed.

mod scenario;
mod states;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use ecsdb_sim::Exploration;
use serde::Serialize;

use scenario::{SCENARIOS, Scenario};
use states::States;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Decides what is kept at random, and the random lives.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Write the figures into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    scenario: String,
    /// Only the crashes after so many operations, in the pass that a finding names.
    #[arg(long, num_args = 2, value_names = ["PASS", "OPERATIONS"])]
    point: Option<Vec<u64>>,
}

/// A pass takes each script's crash points in so many shares, and all scripts by turns, so that a short run sees something of everything.
const SHARES: usize = 24;
/// Un-synced sectors and names (or changes, if the sectors are more) of which every subset is kept.
const EXHAUSTIVE_MAX: usize = 11;

#[derive(Serialize)]
struct Figures {
    seed: u64,
    seconds: f64,
    /// Crashed disks that were opened and judged: one for each disk and what had been acknowledged by then.
    checked: u64,
    /// Different disks among them, by a hash of all files.
    distinct: u64,
    distinct_per_second: f64,
    /// Passes over all crash points that were finished.
    passes: u64,
    /// Distinct disks for each transition that the crash fell into.
    transitions: BTreeMap<String, u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds);
    let states = States::new(until);
    let chosen: Vec<&Scenario> =
        SCENARIOS.iter().filter(|scenario| scenario.name.contains(&args.scenario)).collect();
    anyhow::ensure!(!chosen.is_empty(), "there is no scenario with “{}” in its name", args.scenario);
    let mut passes = 0;
    let found = if let Some(point) = &args.point {
        let exploration = Exploration { share: (point[1] as usize, usize::MAX), ..pass(args.seed, point[0]) };
        chosen.iter().find_map(|scenario| failure(scenario, &exploration, &states, point[0]))
    } else {
        loop {
            let one = (0..SHARES).flat_map(|share| chosen.iter().map(move |scenario| (share, scenario)));
            let found = one
                .take_while(|_| Instant::now() < until)
                .map(|(share, scenario)| {
                    let exploration = Exploration { share: (share, SHARES), ..pass(args.seed, passes) };
                    failure(scenario, &exploration, &states, passes)
                })
                .find_map(|found| found);
            if found.is_some() || Instant::now() >= until {
                break found;
            }
            passes += 1;
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    let distinct = states.distinct();
    let figures = Figures {
        seed: args.seed,
        seconds,
        checked: states.checked(),
        distinct,
        distinct_per_second: distinct as f64 / seconds,
        passes,
        transitions: states.transitions(),
    };
    print(&figures);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    match found {
        None => Ok(()),
        Some(found) => anyhow::bail!("{found}"),
    }
}

/// How each scenario is explored in a pass: thoroughly at first, then at random.
fn pass(seed: u64, pass: u64) -> Exploration {
    let random_variants = if pass == 0 { 8 } else { 160 };
    let exhaustive_max = if pass == 0 { EXHAUSTIVE_MAX } else { 0 };
    Exploration { seed: seed.wrapping_add(pass), exhaustive_max, random_variants, ..Exploration::default() }
}

fn failure(scenario: &Scenario, exploration: &Exploration, states: &States, pass: u64) -> Option<String> {
    let counterexample = (scenario.explore)(exploration, states).err()?;
    let seed = exploration.seed - pass;
    Some(format!(
        "{}: {counterexample}\nagain with: cargo xtask crashpoints --seed {seed} --scenario “{}” --point {pass} {}",
        scenario.name, scenario.name, counterexample.point
    ))
}

fn print(figures: &Figures) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["crashpoints", ""]);
    table.add_row(["seed".to_string(), figures.seed.to_string()]);
    table.add_row(["crashed disks judged".to_string(), figures.checked.to_string()]);
    table.add_row(["distinct crash states".to_string(), figures.distinct.to_string()]);
    table.add_row(["distinct states/s".to_string(), format!("{:.0}", figures.distinct_per_second)]);
    table.add_row(["passes over all crash points".to_string(), figures.passes.to_string()]);
    for (transition, count) in &figures.transitions {
        table.add_row([format!("  {transition}"), count.to_string()]);
    }
    println!("{table}");
}
