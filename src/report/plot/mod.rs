//! Figures as SVG: line plots, histograms, bars, rooflines and flames in one style.
//!
//! A figure stands alone in light colours. In a page, [`stylesheet`] recolours it for a dark background: every
//! colour here has a counterpart there, found by its hexadecimal value.

mod axes;
mod bars;
mod flame;
mod histogram;
mod legend;
mod lines;
mod roofline;

pub use bars::{Bar, BarGroup, Bars};
pub use flame::FlamePart;
pub use histogram::{Histogram, HistogramGroup};
pub use lines::{Curves, Point, Series};
pub use roofline::{Roofline, RooflinePoint};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Write;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const MUTED: RGBColor = RGBColor(0x5f, 0x68, 0x74);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
/// Bars that only serve comparison.
const NEUTRAL: RGBColor = RGBColor(0xa9, 0xb4, 0xc2);

/// Colours of series, distinguishable without red-green vision, in the order of use.
const SERIES: [RGBColor; 8] = [
    RGBColor(0x2a, 0x78, 0xd6),
    RGBColor(0xeb, 0x68, 0x34),
    RGBColor(0x1b, 0xaf, 0x7a),
    RGBColor(0xed, 0xa1, 0x00),
    RGBColor(0x7b, 0x61, 0xd9),
    RGBColor(0xd9, 0x55, 0x8a),
    RGBColor(0x5c, 0x7f, 0x2e),
    RGBColor(0x8a, 0x5a, 0x3c),
];

/// Counterparts on a dark background: ink, muted, grid, neutral, then the series.
const DARK: [&str; 12] = [
    "#e6e9ee", "#9aa4b2", "#30363d", "#5b6675", "#5a9df0", "#f08352", "#35c48f", "#e0ac36", "#a08cf2",
    "#e57ba6", "#94b85c", "#c18f6f",
];

/// Width of every figure in pixels.
const WIDTH: u32 = 560;

/// CSS rules that recolour figures for a dark background; to be placed inside a media query.
pub fn stylesheet() -> String {
    let mut css = String::new();
    for (colour, dark) in [INK, MUTED, GRID, NEUTRAL].iter().chain(&SERIES).zip(DARK) {
        // The backend writes colours in capitals; presentation attributes yield to any rule.
        let light = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        let _ =
            writeln!(css, "svg [fill=\"{light}\"]{{fill:{dark}}} svg [stroke=\"{light}\"]{{stroke:{dark}}}");
    }
    css
}

/// Colour of the series at `index`; beyond the palette it starts again.
fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()]
}

/// A text style of `pixels` height.
fn text(pixels: f64, colour: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    // The backend divides font sizes by 1.24.
    let font = ("system-ui, sans-serif", pixels * 1.24).into_font();
    let style = TextStyle::from(font).pos(Pos::new(horizontal, vertical));
    TextStyle { color: colour.to_backend_color(), ..style }
}

/// Estimated width in pixels of a 12 pixel text: the backend knows no fonts.
fn width_of(text: &str) -> i32 {
    (6.6 * text.chars().count() as f64).ceil() as i32
}

/// Draws a figure `height` pixels high that a screen reader calls `title`.
fn figure(title: &str, height: u32, draw: impl FnOnce(&Area) -> Drawn) -> String {
    figure_of_width(title, (WIDTH, height), draw)
}

/// The same of another width, in pixels as the height.
fn figure_of_width(title: &str, (width, height): (u32, u32), draw: impl FnOnce(&Area) -> Drawn) -> String {
    let mut svg = String::new();
    let drawn = {
        let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        draw(&root).and_then(|()| root.present())
    };
    match drawn {
        Ok(()) => {
            let label = format!("<svg role=\"img\" aria-label=\"{}\" ", super::escape::escape(title));
            svg.replacen("<svg ", &label, 1)
        }
        // Nothing is written but a string, so only a plot without extent could come here.
        Err(e) => format!("<p>{} could not be drawn: {}</p>", super::escape::escape(title), e),
    }
}

/// A figure whose legend of `names` stands above a drawing of `height` pixels.
fn figure_with_legend(title: &str, names: &[&str], height: u32, draw: impl FnOnce(&Area) -> Drawn) -> String {
    figure_of_width_with_legend(title, names, (WIDTH, height), draw)
}

/// The same of another width.
fn figure_of_width_with_legend(
    title: &str,
    names: &[&str],
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area) -> Drawn,
) -> String {
    let top = legend::height(names, width);
    figure_of_width(title, (width, top + height), |root| {
        let (above, below) = root.split_vertically(top);
        legend::draw(&above, names, width)?;
        draw(&below)
    })
}

/// Puts a title into every element `<tag …/>` of an SVG, in order: what is shown where a pointer rests on it.
fn titled(svg: &str, tag: &str, titles: &[String]) -> String {
    let open = format!("<{tag} ");
    let (mut out, mut rest) = (String::with_capacity(svg.len()), svg);
    for title in titles {
        let Some(end) = rest.find(&open).and_then(|start| Some(start + rest[start..].find("/>")?)) else {
            break;
        };
        let _ = write!(out, "{}><title>{}</title></{tag}>", &rest[..end], super::escape::escape(title));
        rest = &rest[end + 2..];
    }
    out + rest
}

/// Round values that divide `low..=high` into about `parts`, and the distance between them.
fn ticks(low: f64, high: f64, parts: usize) -> Vec<f64> {
    let raw = (high - low) / parts as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return vec![low];
    }
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= raw * 0.999).unwrap_or(raw);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let shown: Vec<String> = ticks(0.03, 0.11, 4).iter().map(|tick| format!("{tick:.2}")).collect();
        assert_eq!(shown, ["0.04", "0.06", "0.08", "0.10"]);
        assert_eq!(ticks(1.0, 1.0, 4), [1.0]);
        assert_eq!(ticks(0.0, f64::INFINITY, 4), [0.0]);
    }

    #[test]
    fn elements_get_their_titles_in_order() {
        let svg = "<svg>\n<a x=\"1\"/>\n<b y=\"2\"/>\n<a x=\"3\"/>\n</svg>";
        let titles = ["one".to_string(), "<2>".to_string(), "three".to_string()];
        let want = "<svg>\n<a x=\"1\"><title>one</title></a>\n<b y=\"2\"/>\n<a x=\"3\"><title>&lt;2&gt;</title></a>\n</svg>";
        assert_eq!(titled(svg, "a", &titles), want);
        assert_eq!(titled(svg, "c", &titles), svg);
    }

    #[test]
    fn every_colour_has_a_counterpart_in_the_dark() {
        assert_eq!(DARK.len(), 4 + SERIES.len());
        assert_eq!(stylesheet().lines().count(), DARK.len());
        assert!(stylesheet().contains("svg [fill=\"#2A78D6\"]{fill:#5a9df0}"));
    }
}
