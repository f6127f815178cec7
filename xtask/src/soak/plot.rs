//! What was measured over time as a picture.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::sample::{Engine, Sample};
use crate::font::{self, FONT};

const SIZE: (u32, u32) = (1600, 1500);
const MIB: f64 = (1 << 20) as f64;
/// Points of a line at most; of a longer run the means of as many parts are drawn.
const POINTS: usize = 800;

const BLACK: RGBColor = RGBColor(20, 20, 20);
const BLUE: RGBColor = RGBColor(31, 119, 180);
const GREEN: RGBColor = RGBColor(44, 160, 44);
const RED: RGBColor = RGBColor(214, 39, 40);

struct Line {
    name: &'static str,
    color: RGBColor,
    of: fn(&Sample) -> Option<f64>,
}

struct Panel {
    unit: &'static str,
    lines: &'static [Line],
}

const fn line(name: &'static str, color: RGBColor, of: fn(&Sample) -> Option<f64>) -> Line {
    Line { name, color, of }
}

fn mib(sample: &Sample, of: fn(&Engine) -> u64) -> Option<f64> {
    Some(of(sample.engine.as_ref()?) as f64 / MIB)
}

const PANELS: [Panel; 4] = [
    Panel {
        unit: "commits in a second",
        lines: &[line("while under load", BLUE, |s| (s.commits > 0).then_some(s.commits as f64))],
    },
    Panel {
        unit: "memory, MiB",
        lines: &[
            line("of the process", BLACK, |s| Some(s.resident_bytes as f64 / MIB)),
            line("components, old values included", BLUE, |s| mib(s, |engine| engine.memory_bytes)),
        ],
    },
    Panel {
        unit: "number",
        lines: &[
            line("file handles", BLUE, |s| Some(s.handles as f64)),
            line("threads", RED, |s| Some(s.threads as f64)),
        ],
    },
    Panel {
        unit: "disk, MiB",
        lines: &[
            line("all files", BLACK, |s| Some(s.disk_bytes as f64 / MIB)),
            line("snapshots", BLUE, |s| mib(s, |engine| engine.snapshot_bytes)),
            line("archive", GREEN, |s| mib(s, |engine| engine.archive_bytes)),
            line("log", RED, |s| mib(s, |engine| engine.log_bytes)),
        ],
    },
];

pub(super) fn draw(samples: &[Sample], path: &Path) -> anyhow::Result<()> {
    font::register()?;
    let area = BitMapBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, area) in PANELS.iter().zip(area.split_evenly((PANELS.len(), 1))) {
        draw_panel(panel, samples, &area)?;
    }
    area.present()?;
    Ok(())
}

fn draw_panel(
    panel: &Panel,
    samples: &[Sample],
    area: &DrawingArea<BitMapBackend<'_>, Shift>,
) -> anyhow::Result<()> {
    let end = samples.last().map_or(0.0, |last| last.seconds / 60.0).max(0.01);
    let lines: Vec<_> = panel.lines.iter().map(|line| (line, points(samples, line.of))).collect();
    let values = lines.iter().flat_map(|(_, points)| points.iter().map(|&(_, value)| value));
    let top = values.fold(1.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("minutes")
        .y_desc(panel.unit)
        .label_style((FONT, 16))
        .axis_desc_style((FONT, 18))
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|minutes| format!("{minutes:.1}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (line, points) in lines {
        let color = line.color;
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(32)
        .label_font((FONT, 16))
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(160, 160, 160))
        .draw()?;
    Ok(())
}

/// Minutes and means.
fn points(samples: &[Sample], of: fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    let parts = samples.chunks(samples.len().div_ceil(POINTS).max(1));
    let means = parts.filter_map(|part| {
        let values: Vec<f64> = part.iter().filter_map(of).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some((part.first()?.seconds / 60.0, mean)).filter(|_| !values.is_empty())
    });
    means.collect()
}
