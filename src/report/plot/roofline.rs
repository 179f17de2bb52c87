//! The roofline: rates of kernels over their FLOPs a byte, below the two limits of the device (Williams, Waterman and
//! Patterson, 2009).

use super::{
    Area, Drawn, GRID, INK, MUTED, NEUTRAL, WIDTH, colour, figure_of_width_with_legend, text, titled,
};
use crate::report::number::short;
use crate::report::{Ceiling, ComputeLimit};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// Kernels with a colour and a name in the legend; the others are grey.
const NAMED: usize = 8;

/// Share of the time below which a kernel is not drawn: the axes would grow for what does not matter.
const SMALL: f64 = 1e-3;

/// One kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct RooflinePoint {
    /// Its name.
    pub name: String,
    /// FLOPs a byte.
    pub intensity: f64,
    /// 10⁹ FLOPs a second.
    pub gflops: f64,
    /// Share of the whole time, of which the dot's area tells.
    pub share: f64,
}

/// The plot, both axes logarithmic.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofline {
    /// The limits.
    pub ceiling: Ceiling,
    /// Kernels, those that took longest first. Such whose work is unknown, or whose time is next to none, are not drawn.
    pub points: Vec<RooflinePoint>,
}

impl Roofline {
    fn drawn(&self) -> Vec<&RooflinePoint> {
        let known = |value: f64| value.is_finite() && value > 0.0;
        self.points.iter().filter(|p| known(p.intensity) && known(p.gflops) && p.share >= SMALL).collect()
    }

    /// Whether there is a limit and a kernel to draw.
    pub fn is_empty(&self) -> bool {
        let known = |limit: &ComputeLimit| {
            let ridge = limit.ridge(self.ceiling.gb_per_s);
            ridge.is_finite() && ridge > 0.0
        };
        !self.ceiling.compute.iter().all(known) || self.drawn().is_empty()
    }

    /// The plot as SVG; a dot under the pointer tells what it is.
    pub fn svg(&self) -> String {
        let names: Vec<&str> = self.drawn().iter().take(NAMED).map(|point| point.name.as_str()).collect();
        let size = (2 * WIDTH, 420);
        let svg = figure_of_width_with_legend("roofline", &names, size, |area| self.draw(area));
        titled(&svg, "circle", &self.drawn().iter().rev().map(|point| point.said()).collect::<Vec<_>>())
    }

    fn draw(&self, area: &Area) -> Drawn {
        let points = self.drawn();
        let (compute, gb_per_s) = (&self.ceiling.compute, self.ceiling.gb_per_s);
        let ridges = || compute.iter().map(|limit| limit.ridge(gb_per_s));
        let x = decades(points.iter().map(|p| p.intensity).chain(ridges().flat_map(|x| [x / 4.0, 4.0 * x])));
        // The top leaves room for the name of the limit.
        let roofs = compute.iter().flat_map(|limit| [limit.gflops * 1.5, limit.gflops / 8.0]);
        let y = decades(points.iter().map(|p| p.gflops).chain(roofs));
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((x[0]..x[1]).log_scale(), (y[0]..y[1]).log_scale())?;
        let label = text(12.0, MUTED, HPos::Center, VPos::Center);
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(MUTED)
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_desc("FLOPs a byte")
            .y_desc("GFLOP/s")
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        let label = |at: (f64, f64), said: String, style, (dx, dy): (i32, i32)| {
            EmptyElement::at(at) + Text::new(said, (dx, dy), style)
        };
        let slope = |intensity: f64| intensity * gb_per_s;
        let foot = (y[0] / gb_per_s).max(x[0]);
        let highest = ridges().fold(0.0, f64::max);
        chart.draw_series(LineSeries::new(
            [(foot, slope(foot)), (highest, slope(highest))],
            INK.stroke_width(2),
        ))?;
        let middle = (foot * ridges().fold(f64::INFINITY, f64::min)).sqrt();
        let memory = format!("{} GB/s", short(gb_per_s));
        let style = text(12.0, INK, HPos::Right, VPos::Bottom);
        chart.draw_series([label((middle, slope(middle)), memory, style.clone(), (-6, -6))])?;
        for limit in compute {
            let ridge = limit.ridge(gb_per_s);
            let roof = [(ridge, limit.gflops), (x[1], limit.gflops)];
            chart.draw_series(LineSeries::new(roof, INK.stroke_width(2)))?;
            let said = format!("{} GFLOP/s, {}", short(limit.gflops), limit.dtype);
            chart.draw_series([label(roof[1], said, style.clone(), (0, -6))])?;
            if limit.is_above_the_product() {
                let reached = limit.product_gflops;
                let line = [(reached / gb_per_s, reached), (x[1], reached)];
                chart.draw_series(LineSeries::new(line, MUTED.stroke_width(1)))?;
                // Left of the limits' names, which stand at the end.
                let said = format!("{} GFLOP/s, a product in {}", short(reached), limit.dtype);
                let style = text(12.0, MUTED, HPos::Right, VPos::Top);
                chart.draw_series([label(line[1], said, style, (-150, 4))])?;
            }
        }
        for (i, point) in points.iter().enumerate().rev() {
            let colour = if i < NAMED { colour(i) } else { NEUTRAL };
            let radius = (3.0 + 12.0 * point.share.clamp(0.0, 1.0).sqrt()).round() as i32;
            let dot = Circle::new((point.intensity, point.gflops), radius, colour.mix(0.75).filled());
            chart.draw_series([dot])?;
        }
        Ok(())
    }
}

impl RooflinePoint {
    fn said(&self) -> String {
        format!(
            "{}: {} GFLOP/s, {} FLOPs a byte, {:.1} % of the time",
            self.name,
            short(self.gflops),
            short(self.intensity),
            100.0 * self.share
        )
    }
}

/// The powers of ten around the values.
fn decades(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    [10f64.powf(low), 10f64.powf(if high > low { high } else { low + 1.0 })]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roofline(points: &[(f64, f64)]) -> Roofline {
        let limit = |dtype: &str, gflops| ComputeLimit {
            dtype: dtype.into(),
            gflops,
            product_gflops: 0.75 * gflops,
            extent: 1,
        };
        let compute = vec![limit("f32", 80.0), limit("bf16", 200.0)];
        let ceiling = Ceiling { compute, gb_per_s: 16.0, copied: 1 };
        let point = |&(intensity, gflops): &(f64, f64)| RooflinePoint {
            name: "a<b".into(),
            intensity,
            gflops,
            share: 0.5,
        };
        Roofline { ceiling, points: points.iter().map(point).collect() }
    }

    #[test]
    fn kernels_of_known_work_are_drawn_below_named_limits() {
        let svg = roofline(&[(12.0, 70.0), (0.2, 2.0), (0.0, 0.0), (f64::NAN, 1.0)]).svg();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("a&lt;b") && svg.contains("80 GFLOP/s, f32") && svg.contains("16 GB/s"));
        assert!(svg.contains("200 GFLOP/s, bf16") && svg.contains("150 GFLOP/s, a product in bf16"));
        assert!(
            svg.contains("<title>a&lt;b: 70 GFLOP/s, 12 FLOPs a byte, 50.0 % of the time</title></circle>")
        );
        assert_eq!(svg.matches("</title></circle>").count(), 2);
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn without_a_kernel_there_is_no_plot() {
        assert!(roofline(&[]).is_empty() && roofline(&[(0.0, 0.0)]).is_empty());
        assert!(!roofline(&[(1.0, 1.0)]).is_empty());
        let mut short = roofline(&[(1.0, 1.0)]);
        short.points[0].share = 1e-4;
        assert!(short.is_empty());
    }

    #[test]
    fn axes_span_whole_decades() {
        assert_eq!(decades([0.3, 25.0].into_iter()), [0.1, 100.0]);
        assert_eq!(decades([10.0].into_iter()), [10.0, 100.0]);
    }
}
