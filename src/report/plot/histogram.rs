//! Overlaid histograms: the rewards of positives against those of negatives.

use super::axes::{Axis, chart};
use super::{Area, Drawn, colour, figure_with_legend};
use crate::report::json::nan_if_null;
use crate::report::number::short;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// Share of the values that the outermost bins gather at each end, so that a few extremes do not flatten the rest.
const TAIL: f64 = 0.001;

/// One group of values, counted in the bins of its histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramGroup {
    /// Name in the legend.
    pub name: String,
    /// Mean of the values.
    #[serde(deserialize_with = "nan_if_null")]
    pub mean: f64,
    /// Number of values in each bin; the outermost also hold what lies beyond them.
    pub counts: Vec<u64>,
}

/// Histograms of several groups over the same bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Title above the plot.
    pub title: String,
    /// Name and unit of the values.
    pub x_label: String,
    /// Lower end of the first bin.
    pub low: f64,
    /// Upper end of the last bin.
    pub high: f64,
    /// The groups.
    pub groups: Vec<HistogramGroup>,
}

impl Histogram {
    /// Counts the values of every group in `bins` bins between the 0.1 % and 99.9 % quantiles of all of them. Values
    /// that are not finite are not counted.
    pub fn new(
        title: impl Into<String>,
        x_label: impl Into<String>,
        bins: usize,
        groups: &[(&str, &[f32])],
    ) -> Self {
        let bins = bins.max(1);
        let mut all: Vec<f32> = groups.iter().flat_map(|group| finite(group.1)).collect();
        all.sort_unstable_by(f32::total_cmp);
        let quantile = |share: f64| all.get((share * all.len().saturating_sub(1) as f64).round() as usize);
        let low = quantile(TAIL).map_or(0.0, |v| f64::from(*v));
        let high = quantile(1.0 - TAIL).map_or(1.0, |v| f64::from(*v));
        // Equal values all the way still need a bin of some width around them.
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, high + 0.5) };
        let count = |(name, values): &(&str, &[f32])| {
            let mut counts = vec![0; bins];
            let (mut sum, mut n) = (0.0, 0u64);
            for value in finite(values).map(f64::from) {
                let bin = ((value - low) / (high - low) * bins as f64).floor();
                counts[bin.clamp(0.0, (bins - 1) as f64) as usize] += 1;
                (sum, n) = (sum + value, n + 1);
            }
            HistogramGroup { name: name.to_string(), mean: sum / n as f64, counts }
        };
        let groups = groups.iter().map(count).collect();
        Histogram { title: title.into(), x_label: x_label.into(), low, high, groups }
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.counts.iter().all(|count| *count == 0))
    }

    /// The plot as SVG. Every group is shown as shares of its own size, so that groups of different sizes compare.
    pub fn svg(&self) -> String {
        let named = |group: &HistogramGroup| match group.mean.is_finite() {
            true => format!("{} (mean {})", group.name, short(group.mean)),
            false => group.name.clone(),
        };
        let names: Vec<String> = self.groups.iter().map(named).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        figure_with_legend(&self.title, &names, 280, |area| self.draw(area))
    }

    fn draw(&self, area: &Area) -> Drawn {
        let shares: Vec<Vec<f64>> = self.groups.iter().map(shares).collect();
        let highest = shares.iter().flatten().copied().fold(0.0, f64::max);
        let (low, high) =
            if self.high > self.low { (self.low, self.high) } else { (self.low, self.low + 1.0) };
        let top = if highest > 0.0 { 1.08 * highest } else { 1.0 };
        let x = Axis { range: low..high, name: &self.x_label };
        let y = Axis { range: 0.0..top, name: "share of the group (%)" };
        let mut chart = chart(area, x, y, false)?;
        for (i, shares) in shares.iter().enumerate() {
            let edge = |bin: usize| low + (high - low) * bin as f64 / shares.len() as f64;
            let bars =
                shares.iter().enumerate().map(|(bin, share)| [(edge(bin), 0.0), (edge(bin + 1), *share)]);
            chart.draw_series(bars.map(|corners| Rectangle::new(corners, colour(i).mix(0.3).filled())))?;
            let outline = shares.iter().enumerate().flat_map(|(b, s)| [(edge(b), *s), (edge(b + 1), *s)]);
            chart.draw_series(LineSeries::new(outline, colour(i).stroke_width(2)))?;
        }
        Ok(())
    }
}

fn finite(values: &[f32]) -> impl Iterator<Item = f32> + '_ {
    values.iter().copied().filter(|value| value.is_finite())
}

/// Percentages of the group's values in each bin.
fn shares(group: &HistogramGroup) -> Vec<f64> {
    let total: u64 = group.counts.iter().sum();
    group.counts.iter().map(|count| 100.0 * *count as f64 / total.max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_falls_into_a_bin_of_its_group() {
        let values: Vec<f32> = (0..2000).map(|i| i as f32 / 100.0).chain([1e9, -1e9, f32::NAN]).collect();
        let histogram = Histogram::new("", "", 10, &[("all", &values), ("two", &[0.5, 19.9]), ("none", &[])]);
        let total = |i: usize| histogram.groups[i].counts.iter().sum::<u64>();
        assert_eq!((total(0), total(1), total(2)), (2002, 2, 0));
        assert_eq!((histogram.groups[1].counts[0], histogram.groups[1].counts[9]), (1, 1));
        assert!(histogram.high < 20.0 && histogram.low > -1.0, "{} {}", histogram.low, histogram.high);
        assert!(!histogram.svg().contains("NaN"));
    }

    #[test]
    fn equal_or_absent_values_are_drawn_without_dividing_by_zero() {
        let equal = Histogram::new("", "", 4, &[("a", &[2.0, 2.0])]);
        assert_eq!((equal.low, equal.high, equal.groups[0].mean), (1.5, 2.5, 2.0));
        let none = Histogram::new("", "", 4, &[("a", &[])]);
        assert!(none.is_empty() && !equal.is_empty());
        for histogram in [equal, none] {
            let svg = histogram.svg();
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        }
    }
}
