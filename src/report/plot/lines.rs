//! Line plots: learning curves, several series with a legend.

use super::axes::{Axis, chart};
use super::{Area, Drawn, colour, figure_with_legend};
use crate::report::json::nan_if_null;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One point of a series. A y that is not finite leaves a gap in the line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Epoch or step.
    #[serde(deserialize_with = "nan_if_null")]
    pub x: f64,
    /// What was measured there.
    #[serde(deserialize_with = "nan_if_null")]
    pub y: f64,
}

/// A named line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points in the order of the line.
    pub points: Vec<Point>,
}

impl Series {
    /// A series through the points (x, y).
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Series { name: name.into(), points: points.into_iter().map(|(x, y)| Point { x, y }).collect() }
    }

    /// Stretches of neighbouring finite points.
    fn stretches(&self) -> impl Iterator<Item = Vec<(f64, f64)>> + '_ {
        let finite = |point: &Point| point.x.is_finite() && point.y.is_finite();
        self.points
            .split(move |point| !finite(point))
            .filter(|stretch| !stretch.is_empty())
            .map(|stretch| stretch.iter().map(|point| (point.x, point.y)).collect())
    }
}

/// A line plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Title above the plot.
    pub title: String,
    /// Name and unit of x.
    pub x_label: String,
    /// Name and unit of y.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
}

impl Curves {
    /// Whether there is any point to draw.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.stretches().next().is_none())
    }

    /// The plot as SVG.
    pub fn svg(&self) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        figure_with_legend(&self.title, &names, 300, |area| self.draw(area))
    }

    fn draw(&self, area: &Area) -> Drawn {
        let points: Vec<(f64, f64)> = self.series.iter().flat_map(Series::stretches).flatten().collect();
        let whole = points.iter().all(|point| point.0.fract() == 0.0);
        let x = extent(points.iter().map(|point| point.0), 0.0);
        let y = extent(points.iter().map(|point| point.1), 0.06);
        let (x, y) = (Axis { range: x, name: &self.x_label }, Axis { range: y, name: &self.y_label });
        let mut chart = chart(area, x, y, whole)?;
        for (i, series) in self.series.iter().enumerate() {
            let markers = series.points.len() <= 40;
            for stretch in series.stretches() {
                if markers || stretch.len() == 1 {
                    chart.draw_series(
                        stretch.iter().map(|point| Circle::new(*point, 3, colour(i).filled())),
                    )?;
                }
                chart.draw_series(LineSeries::new(stretch, colour(i).stroke_width(2)))?;
            }
        }
        Ok(())
    }
}

/// The range of `values` widened by `margin` of it at both ends, never empty; it does not cross zero by the margin.
fn extent(values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    if low == high {
        let around = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
        return low - around..high + around;
    }
    let padding = margin * (high - low);
    let padded = if low >= 0.0 { (low - padding).max(0.0) } else { low - padding };
    padded..high + padding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(series: Vec<Series>) -> Curves {
        Curves { title: "T".into(), x_label: "epoch".into(), y_label: "loss (nats)".into(), series }
    }

    #[test]
    fn a_value_that_is_not_finite_leaves_a_gap() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.5), (3.0, 0.4)];
        let gapped = curves(vec![Series::new("a", points)]);
        let svg = gapped.svg();
        assert!(!svg.contains("NaN") && svg.matches("<circle").count() == 3, "{svg}");
        let text = serde_json::to_string(&gapped).unwrap();
        let back: Curves = serde_json::from_str(&text).unwrap();
        assert!(back.series[0].points[1].y.is_nan());
        assert_eq!(back.svg(), svg);
    }

    #[test]
    fn labels_and_series_names_are_drawn_and_escaped() {
        let svg = curves(vec![Series::new("a<b", [(0.0, 1.0), (1.0, 2.0)])]).svg();
        assert!(svg.contains("a&lt;b") && svg.contains("loss (nats)") && !svg.contains("a<b"));
    }

    #[test]
    fn plots_without_extent_are_drawn_all_the_same() {
        for points in [vec![], vec![(1.0, 0.0)], vec![(1.0, 5.0), (2.0, 5.0)], vec![(0.0, f64::INFINITY)]] {
            let plot = curves(vec![Series::new("a", points.clone())]);
            assert_eq!(plot.is_empty(), points.iter().all(|p| !p.1.is_finite()));
            assert!(plot.svg().ends_with("</svg>\n"), "{points:?}");
        }
    }
}
