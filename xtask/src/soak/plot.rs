//! What was measured over time as a picture.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::font::{self, FONT};

const SIZE: (u32, u32) = (1600, 1500);
pub(super) const MIB: f64 = (1 << 20) as f64;
/// Points of a line at most; of a longer run the means of as many parts are drawn, or their peaks.
const POINTS: usize = 800;

pub(super) const BLACK: RGBColor = RGBColor(20, 20, 20);
pub(super) const BLUE: RGBColor = RGBColor(31, 119, 180);
pub(super) const GREEN: RGBColor = RGBColor(44, 160, 44);
pub(super) const RED: RGBColor = RGBColor(214, 39, 40);

/// What is noted over time.
pub(super) trait Timeline {
    /// Since the beginning of the run.
    fn seconds(&self) -> f64;
}

pub(super) struct Line<S: 'static> {
    name: &'static str,
    color: RGBColor,
    of: fn(&S) -> Option<f64>,
    /// What of a part of the samples is drawn.
    fold: fn(&[f64]) -> f64,
}

pub(super) struct Panel<S: 'static> {
    pub(super) unit: &'static str,
    pub(super) lines: &'static [Line<S>],
}

/// Drawn by its means.
pub(super) const fn line<S>(name: &'static str, color: RGBColor, of: fn(&S) -> Option<f64>) -> Line<S> {
    Line { name, color, of, fold: |values| values.iter().sum::<f64>() / values.len() as f64 }
}

/// Drawn by its peaks, of which none is left out.
pub(super) const fn peak<S>(name: &'static str, color: RGBColor, of: fn(&S) -> Option<f64>) -> Line<S> {
    Line { name, color, of, fold: |values| values.iter().copied().fold(0.0, f64::max) }
}

pub(super) fn draw<S: Timeline>(panels: &[Panel<S>], samples: &[S], path: &Path) -> anyhow::Result<()> {
    font::register()?;
    let area = BitMapBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
        draw_panel(panel, samples, &area)?;
    }
    area.present()?;
    Ok(())
}

fn draw_panel<S: Timeline>(
    panel: &Panel<S>,
    samples: &[S],
    area: &DrawingArea<BitMapBackend<'_>, Shift>,
) -> anyhow::Result<()> {
    let end = samples.last().map_or(0.0, |last| last.seconds() / 60.0).max(0.01);
    let lines: Vec<_> = panel.lines.iter().map(|line| (line, points(samples, line))).collect();
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

/// Minutes and values.
fn points<S: Timeline>(samples: &[S], line: &Line<S>) -> Vec<(f64, f64)> {
    let parts = samples.chunks(samples.len().div_ceil(POINTS).max(1));
    let points = parts.filter_map(|part| {
        let values: Vec<f64> = part.iter().filter_map(line.of).collect();
        let minutes = part.first()?.seconds() / 60.0;
        (!values.is_empty()).then(|| (minutes, (line.fold)(&values)))
    });
    points.collect()
}
