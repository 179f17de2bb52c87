//! Horizontal bars from zero, in groups, each with its value and, where there is one, its deviation.

use super::{Area, Drawn, GRID, INK, MUTED, NEUTRAL, WIDTH, colour, figure, text, ticks, width_of};
use crate::report::number::short;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const BAR: i32 = 18;
const STEP: i32 = 25;
const HEADING: i32 = 26;
const AXIS: i32 = 42;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Name at its left.
    pub name: String,
    /// Its length, not negative.
    pub value: f64,
    /// Half the length of its whisker.
    pub deviation: Option<f64>,
    /// Text at its end.
    pub text: String,
    /// Drawn in colour; the others are grey.
    pub highlight: bool,
}

/// Bars under one heading.
#[derive(Debug, Clone, PartialEq)]
pub struct BarGroup {
    /// The heading; none is drawn when empty.
    pub name: String,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
}

/// A bar plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// Title above the plot.
    pub title: String,
    /// Name and unit of the values.
    pub value_label: String,
    /// The groups from top to bottom.
    pub groups: Vec<BarGroup>,
}

impl Bars {
    /// The plot as SVG.
    pub fn svg(&self) -> String {
        let rows = |group: &BarGroup| {
            let heading = if group.name.is_empty() { 0 } else { HEADING };
            heading + STEP * group.bars.len() as i32
        };
        let height = 8 + self.groups.iter().map(rows).sum::<i32>();
        figure(&self.title, (height + AXIS) as u32, |root| self.draw(root, height))
    }

    fn draw(&self, root: &Area, bottom: i32) -> Drawn {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let left = 12 + bars().map(|bar| width_of(&bar.name)).max().unwrap_or(0).min(200);
        let right = WIDTH as i32 - 20 - bars().map(|bar| width_of(&bar.text)).max().unwrap_or(0).min(120);
        let ends = bars().map(|bar| bar.value + bar.deviation.unwrap_or(0.0)).filter(|end| end.is_finite());
        let highest = ends.fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let x =
            |value: f64| left + ((right - left) as f64 * (value / highest).clamp(0.0, 1.0)).round() as i32;
        for tick in ticks(0.0, highest, 5) {
            root.draw(&PathElement::new(vec![(x(tick), 4), (x(tick), bottom)], GRID))?;
            let style = text(12.0, MUTED, HPos::Center, VPos::Top);
            root.draw(&Text::new(short(tick), (x(tick), bottom + 4), style))?;
        }
        let style = text(12.0, MUTED, HPos::Center, VPos::Top);
        root.draw(&Text::new(self.value_label.clone(), ((left + right) / 2, bottom + 22), style))?;
        let mut y = 4;
        for group in &self.groups {
            if !group.name.is_empty() {
                let style = text(12.0, INK, HPos::Left, VPos::Center);
                root.draw(&Text::new(group.name.clone(), (4, y + HEADING / 2 + 2), style))?;
                y += HEADING;
            }
            for bar in &group.bars {
                draw_bar(root, bar, y + (STEP - BAR) / 2, left, &x)?;
                y += STEP;
            }
        }
        Ok(())
    }
}

fn draw_bar(root: &Area, bar: &Bar, top: i32, left: i32, x: &dyn Fn(f64) -> i32) -> Drawn {
    let middle = top + BAR / 2;
    let name = text(12.0, MUTED, HPos::Right, VPos::Center);
    root.draw(&Text::new(bar.name.clone(), (left - 8, middle), name))?;
    // A value without a finite length has its text only.
    let fill = if bar.highlight { colour(0) } else { NEUTRAL };
    let value = if bar.value.is_finite() { bar.value } else { 0.0 };
    root.draw(&Rectangle::new([(left, top), (x(value), top + BAR)], fill.filled()))?;
    let mut end = x(value);
    if let Some(deviation) = bar.deviation.filter(|d| d.is_finite() && *d > 0.0) {
        let (from, to) = (x(value - deviation), x(value + deviation));
        root.draw(&PathElement::new(vec![(from, middle), (to, middle)], INK.stroke_width(1)))?;
        for cap in [from, to] {
            root.draw(&PathElement::new(vec![(cap, middle - 4), (cap, middle + 4)], INK.stroke_width(1)))?;
        }
        end = to;
    }
    let style = text(12.0, INK, HPos::Left, VPos::Center);
    root.draw(&Text::new(bar.text.clone(), (end + 6, middle), style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, value: f64) -> Bar {
        Bar { name: name.into(), value, deviation: None, text: short(value), highlight: false }
    }

    fn lengths(bars: Vec<Bar>) -> Vec<f64> {
        let groups = vec![BarGroup { name: String::new(), bars }];
        let svg = Bars { title: "T".into(), value_label: "tokens".into(), groups }.svg();
        let width = |rect: &str| rect.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
        svg.lines().filter(|line| line.starts_with("<rect")).filter_map(width).collect()
    }

    #[test]
    fn bars_start_at_zero_and_are_as_long_as_their_values() {
        let lengths = lengths(vec![bar("a", 10.0), bar("b", 5.0), bar("c", 0.0)]);
        assert!((lengths[0] / lengths[1] - 2.0).abs() < 0.01 && lengths[2] <= 1.0, "{lengths:?}");
    }

    #[test]
    fn values_that_are_not_finite_have_no_length() {
        let lengths = lengths(vec![bar("a", f64::NAN), bar("b", f64::INFINITY), bar("c", 2.0)]);
        assert!(lengths[0] <= 1.0 && lengths[1] <= 1.0 && lengths[2] > 100.0, "{lengths:?}");
    }
}
