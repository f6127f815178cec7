//! Disk use over time as a picture. The font comes from a crate: there may be none on the machine.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::register_font;

use super::sample::Sample;

const SIZE: (u32, u32) = (1600, 720);
const FONT: &str = "sans-serif";
const MIB: f64 = (1 << 20) as f64;

type Line = (&'static str, RGBColor, fn(&Sample) -> u64);

const LINES: [Line; 4] = [
    ("total", RGBColor(20, 20, 20), |sample| sample.total_bytes),
    ("snapshots", RGBColor(31, 119, 180), |sample| sample.snapshot_bytes),
    ("archive", RGBColor(44, 160, 44), |sample| sample.archive_bytes),
    ("log", RGBColor(214, 39, 40), |sample| sample.log_bytes),
];

pub(super) fn draw(samples: &[Sample], path: &Path) -> anyhow::Result<()> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| anyhow!("the font cannot be read"))?;
    let end = samples.last().map_or(0.0, |last| last.seconds / 60.0).max(0.01);
    let top = samples.iter().map(|sample| sample.total_bytes as f64 / MIB).fold(1.0, f64::max) * 1.1;

    let area = BitMapBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("disk use of a soak run", (FONT, 24))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("minutes")
        .y_desc("MiB")
        .label_style((FONT, 16))
        .axis_desc_style((FONT, 18))
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|minutes| format!("{minutes:.1}"))
        .y_label_formatter(&|mib| format!("{mib:.0}"))
        .draw()?;
    for (name, color, bytes) in LINES {
        let points = samples.iter().map(|sample| (sample.seconds / 60.0, bytes(sample) as f64 / MIB));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
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
    area.present()?;
    Ok(())
}
