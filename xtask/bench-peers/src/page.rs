//! What comes out: a table, a page, JSON and a plot.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use plotters::prelude::*;
use serde::Serialize;

use crate::font::{self, FONT};
use crate::rows::Row;
use crate::store::{Kind, Promise};

/// A row's medians.
#[derive(Serialize)]
pub(crate) struct Measured {
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    more_is_better: bool,
    /// By store, in the order of [`Kind::ALL`].
    values: Vec<(&'static str, f64)>,
    /// ecsdb beside the best of the others; over 1 is better than that.
    ratio: f64,
}

impl Measured {
    pub(crate) fn new(row: &Row, rounds: Vec<Vec<f64>>) -> Self {
        let values: Vec<(&'static str, f64)> =
            Kind::ALL.into_iter().map(Kind::name).zip(rounds.into_iter().map(median)).collect();
        let others = values[1..].iter().map(|(_, value)| *value);
        let ratio = if row.more {
            values[0].1 / others.fold(0.0, f64::max)
        } else {
            others.fold(f64::INFINITY, f64::min) / values[0].1
        };
        Measured { name: row.name, unit: row.unit, what: row.what, more_is_better: row.more, values, ratio }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} k", value / 1e3),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

pub(crate) fn print(measured: &[Measured]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let names = Kind::ALL.into_iter().map(|kind| kind.name().to_string());
    table.set_header(["row".to_string(), "unit".into()].into_iter().chain(names).chain(["ratio".into()]));
    for row in measured {
        let values = row.values.iter().map(|(_, value)| number(*value));
        let cells = [row.name.to_string(), row.unit.into()].into_iter().chain(values);
        table.add_row(cells.chain([format!("{:.2}", row.ratio)]));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\nratio: ecsdb beside the best of the others; over 1 is better");
}

pub(crate) fn write(output: &Path, measured: &[Measured], values: u64, rounds: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(output)?;
    let json = serde_json::to_string_pretty(measured)?;
    std::fs::write(output.join("peers.json"), json + "\n")?;
    std::fs::write(output.join("peers.md"), page(measured, values, rounds)?)?;
    plot(&output.join("peers.png"), measured)
}

fn page(measured: &[Measured], values: u64, rounds: usize) -> anyhow::Result<String> {
    let mut page = String::from("# ecsdb beside other durable stores\n\n");
    writeln!(
        page,
        "Written by `cargo xtask bench peers --output docs/benchmarks`. {values} values of 12 bytes in each store; medians of {rounds} rounds, all stores in \
         each round in turn. **Ratio**: ecsdb beside the best of the others; over 1 is better than that, under 1 is worse.\n"
    )?;
    writeln!(page, "{}\n", machine())?;
    let names: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
    writeln!(page, "| row | what | unit | {} | ratio |", names.join(" | "))?;
    writeln!(page, "|---|---|---|{}---:|", "---:|".repeat(names.len()))?;
    for row in measured {
        let cells: Vec<String> = row.values.iter().map(|(_, value)| number(*value)).collect();
        let (name, what, unit) = (row.name, row.what, row.unit);
        let less = if row.more_is_better { "" } else { " (less is better)" };
        writeln!(page, "| `{name}` | {what} | {unit}{less} | {} | {:.2} |", cells.join(" | "), row.ratio)?;
    }
    writeln!(page, "\n![The ratios](peers.png)\n\n## What each of them promises\n")?;
    writeln!(page, "| store | durable | relaxed |\n|---|---|---|")?;
    for kind in Kind::ALL {
        let (durable, relaxed) = (kind.guarantee(Promise::Durable), kind.guarantee(Promise::Relaxed));
        writeln!(page, "| {} | {durable} | {relaxed} |", kind.name())?;
    }
    Ok(page)
}

/// Machine, versions and date.
fn machine() -> String {
    let output = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().ok();
        output.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let versions: Vec<String> = include_str!("../../../Cargo.lock")
        .split("[[package]]")
        .filter_map(|package| {
            let field = |name: &str| {
                package.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'))
            };
            let name = field("name = ")?;
            ["rusqlite", "libsqlite3-sys", "redb", "fjall", "heed", "lmdb-master-sys"]
                .contains(&name)
                .then(|| format!("{name} {}", field("version = ").unwrap_or_default()))
        })
        .collect();
    format!(
        "{}; {} cores, {}; {}; ecsdb at {}; {}.",
        output("date", &["-u", "+%Y-%m-%d"]),
        cores,
        cpu.trim_start_matches([' ', '\t', ':']),
        output("uname", &["-sr"]),
        output("git", &["rev-parse", "--short", "HEAD"]),
        versions.join(", "),
    )
}

fn plot(path: &Path, measured: &[Measured]) -> anyhow::Result<()> {
    font::register()?;
    let drawn = (|| -> Result<(), Box<dyn std::error::Error>> {
        let root = BitMapBackend::new(path, (900, 60 + 40 * measured.len() as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let ratios = || measured.iter().map(|row| row.ratio);
        // Beside the longest bar its label has room.
        let most = ratios().fold(10.0, f64::max) * 30.0;
        let least = ratios().fold(0.5, f64::min) / 1.5;
        let rows = measured.len() as f64;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(30)
            .build_cartesian_2d((least..most).log_scale(), 0.0..rows)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc("times the best of the others")
            .draw()?;
        for (i, row) in measured.iter().enumerate() {
            let y = rows - i as f64;
            let color = if row.ratio >= 1.0 { BLUE.mix(0.7) } else { RED.mix(0.7) };
            let bar = [(1.0f64.min(row.ratio), y - 0.8), (1.0f64.max(row.ratio), y - 0.3)];
            chart.draw_series([Rectangle::new(bar, color.filled())])?;
            let label = format!("{}: {:.2}", row.name, row.ratio);
            chart.draw_series([Text::new(label, (row.ratio.max(1.0) * 1.05, y - 0.4), (FONT, 15))])?;
        }
        root.present()?;
        Ok(())
    })();
    drawn.map_err(|e| anyhow::anyhow!("{e}")).with_context(|| format!("cannot draw {}", path.display()))
}
