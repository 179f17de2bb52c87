//! The legend above a plot: a swatch and a name a series, wrapped into lines.

use super::{Area, Drawn, INK, colour, text, width_of};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const LINE: i32 = 20;
const SWATCH: i32 = 14;

/// Places of the names within `width` pixels: x and y of each swatch's left upper corner.
fn places(names: &[&str], width: u32) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (4, 4);
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let own = SWATCH + 6 + width_of(name) + 18;
        if x > 4 && x + own > width as i32 {
            (x, y) = (4, y + LINE);
        }
        places.push((x, y));
        x += own;
    }
    places
}

/// Height in pixels that the legend takes; none for a single unnamed series.
pub(super) fn height(names: &[&str], width: u32) -> u32 {
    match names {
        [] | [""] => 4,
        _ => (places(names, width).last().map_or(0, |place| place.1) + LINE + 4) as u32,
    }
}

/// Draws the legend at the top of `area`.
pub(super) fn draw(area: &Area, names: &[&str], width: u32) -> Drawn {
    if matches!(names, [] | [""]) {
        return Ok(());
    }
    for (i, (name, (x, y))) in names.iter().zip(places(names, width)).enumerate() {
        let swatch = [(x, y + 3), (x + SWATCH, y + 11)];
        area.draw(&Rectangle::new(swatch, colour(i).filled()))?;
        let style = text(12.0, INK, HPos::Left, VPos::Center);
        area.draw(&Text::new(name.to_string(), (x + SWATCH + 6, y + 7), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::WIDTH;

    #[test]
    fn long_legends_wrap_within_the_figure() {
        let name = "a name of some length";
        let names = [name; 12];
        let places = places(&names, WIDTH);
        assert!(places.last().unwrap().1 > 4);
        assert!(places.iter().all(|(x, _)| x + SWATCH + 6 + width_of(name) <= WIDTH as i32));
        assert_eq!(height(&names, WIDTH), places.last().unwrap().1 as u32 + 24);
    }
}
