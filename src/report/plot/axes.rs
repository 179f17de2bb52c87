//! The two axes that line plots and histograms share.

use super::{Area, GRID, MUTED, text};
use crate::report::number::short;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::ops::Range;

pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One axis: what it shows, and its name with the unit.
pub(super) struct Axis<'a> {
    pub range: Range<f64>,
    pub name: &'a str,
}

/// A chart on `area` with both axes drawn. With `whole_x` only whole numbers are written along x: between two epochs
/// there is nothing to read.
pub(super) fn chart<'a, 'b>(
    area: &'a Area<'b>,
    x: Axis,
    y: Axis,
    whole_x: bool,
) -> Result<Chart<'a, 'b>, DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x.range, y.range)?;
    let label = text(12.0, MUTED, HPos::Center, VPos::Center);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(MUTED)
        .label_style(label.clone())
        .axis_desc_style(label)
        .x_labels(10)
        .y_labels(6)
        .x_desc(x.name)
        .y_desc(y.name)
        .x_label_formatter(&|x| if whole_x && x.fract() != 0.0 { String::new() } else { short(*x) })
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    Ok(chart)
}
