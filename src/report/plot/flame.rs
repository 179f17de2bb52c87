//! A flame of nested parts: each as wide as it took, its own parts below it.

use super::{Drawn, INK, NEUTRAL, WIDTH, colour, figure_of_width, text, titled, width_of};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const HEIGHT: i32 = 20;
/// As wide as two figures side by side.
const FLAME_WIDTH: u32 = 2 * WIDTH;
/// Pixels below which a part is not drawn.
const THIN: f64 = 0.5;
/// Depth at which parts are not looked into any more.
const DEEPEST: usize = 24;

/// One part.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlamePart {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// What it consists of, in the order in which they began.
    pub parts: Vec<FlamePart>,
}

impl FlamePart {
    /// Levels of parts that are drawn, itself included.
    fn depth(&self, scale: f64) -> usize {
        let wide = self.parts.iter().filter(|part| part.seconds * scale >= THIN);
        1 + wide.map(|part| part.depth(scale)).max().unwrap_or(0)
    }

    /// The flame as SVG; a part under the pointer tells what it is, and how long it took.
    pub fn svg(&self, title: &str) -> String {
        let scale = if self.seconds > 0.0 { f64::from(FLAME_WIDTH) / self.seconds } else { 0.0 };
        let levels = self.depth(scale).min(DEEPEST);
        let mut said = Vec::new();
        let svg = figure_of_width(title, (FLAME_WIDTH, levels as u32 * HEIGHT as u32 + 2), |root| {
            self.draw(root, scale, (0.0, 0), &mut |part| {
                let share = 100.0 * part.seconds / self.seconds;
                said.push(format!("{}: {:.3} s, {share:.1} %", part.name, part.seconds));
            })
        });
        titled(&svg, "rect", &said)
    }

    /// Draws the part and those below it, and hands each to `drawn` in the order of their rectangles.
    fn draw(
        &self,
        area: &super::Area,
        scale: f64,
        (left, level): (f64, usize),
        drawn: &mut dyn FnMut(&FlamePart),
    ) -> Drawn {
        let width = self.seconds * scale;
        let (x, y) = (left.round() as i32, 1 + level as i32 * HEIGHT);
        let right = (left + width).round() as i32;
        let fill = if level == 0 { NEUTRAL } else { colour(level - 1) };
        // A gap of a pixel tells neighbours apart.
        let corners = [(x, y), ((right - 1).max(x + 1), y + HEIGHT - 2)];
        area.draw(&Rectangle::new(corners, fill.mix(0.4).filled()))?;
        drawn(self);
        if let Some(name) = fitting(&self.name, right - x - 8) {
            area.draw(&Text::new(
                name,
                (x + 4, y + HEIGHT / 2 - 1),
                text(12.0, INK, HPos::Left, VPos::Center),
            ))?;
        }
        if level + 1 >= DEEPEST {
            return Ok(());
        }
        let mut left = left;
        for part in &self.parts {
            if part.seconds * scale >= THIN {
                part.draw(area, scale, (left, level + 1), drawn)?;
            }
            left += part.seconds * scale;
        }
        Ok(())
    }
}

/// As much of a name as `room` pixels hold; nothing where that would say nothing.
fn fitting(name: &str, room: i32) -> Option<String> {
    if width_of(name) <= room {
        return Some(name.to_string());
    }
    let short: String = name.chars().take((f64::from(room) / 6.6) as usize).collect();
    let kept = short.chars().count().checked_sub(1).filter(|&kept| kept >= 3)?;
    Some(short.chars().take(kept).chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, seconds: f64, parts: Vec<FlamePart>) -> FlamePart {
        FlamePart { name: name.into(), seconds, parts }
    }

    #[test]
    fn parts_lie_below_what_they_belong_to_and_too_thin_ones_are_left_out() {
        let flame = part(
            "all",
            1.0,
            vec![part("a<b", 0.75, vec![part("c", 0.5, vec![])]), part("thin", 1e-6, vec![])],
        );
        let svg = flame.svg("stages");
        assert_eq!(svg.matches("<rect").count(), 3, "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("thin"), "{svg}");
        let told: Vec<&str> =
            svg.split("<title>").skip(1).filter_map(|rest| rest.split("</title>").next()).collect();
        assert_eq!(told, ["all: 1.000 s, 100.0 %", "a&lt;b: 0.750 s, 75.0 %", "c: 0.500 s, 50.0 %"]);
        assert!(part("nothing", 0.0, vec![]).svg("stages").ends_with("</svg>\n"));
    }

    #[test]
    fn a_name_is_cut_to_its_room() {
        assert_eq!(fitting("matmul", 100).as_deref(), Some("matmul"));
        assert_eq!(fitting("forest_attention", 60).as_deref(), Some("forest_a…"));
        assert_eq!(fitting("forest_attention", 12), None);
    }
}
