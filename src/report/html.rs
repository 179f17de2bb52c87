//! One page without scripts, fonts, images or links to anything outside itself: its frame and building blocks, and
//! `report.html`.

use super::escape::escape;
use super::{Report, plot, sections};
use std::fmt::Write;

const DARK_PAGE: &str = ":root { --page: #0f1318; --card: #171c23; --ink: #e6e9ee; --muted: #9aa4b2; \
                         --rule: #30363d; --accent: #5a9df0; }";

/// The whole page of a report.
pub(super) fn page(report: &Report) -> String {
    let parts = [
        sections::tiles,
        sections::facts,
        sections::results,
        sections::environment,
        sections::rewards,
        sections::forest,
        sections::curves,
        sections::stages,
    ];
    let body: String = parts.iter().filter_map(|part| part(report)).collect();
    frame(&report.title, &report.introduction, &body)
}

/// A page around `body`, which is HTML; the introduction may be empty.
pub(super) fn frame(title: &str, introduction: &str, body: &str) -> String {
    let title = escape(title);
    let style = include_str!("style.css");
    let figures = plot::stylesheet();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}@media (prefers-color-scheme: dark) {{\n{DARK_PAGE}\n{figures}}}\n</style>\n</head>\n\
         <body>\n<main>\n<header>\n<h1>{title}</h1>\n"
    );
    if !introduction.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", escape(introduction));
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        out,
        "</header>\n{body}<footer>Written by lea {version}.</footer>\n</main>\n</body>\n</html>\n"
    );
    out
}

/// A part of the page with a title; `body` is HTML.
pub(super) fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", escape(title))
}

/// A plot with a title.
pub(super) fn figure(title: &str, svg: &str) -> String {
    format!("<figure><figcaption>{}</figcaption>\n{svg}</figure>\n", escape(title))
}

/// The few figures that a reader wants first, each with what it is.
pub(super) fn tiles(tiles: &[(String, String)]) -> String {
    let mut out = String::from("<div class=\"tiles\">\n");
    for (value, label) in tiles {
        let _ =
            writeln!(out, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(value), escape(label));
    }
    out + "</div>\n"
}

/// Names and values of what was run.
pub(super) fn facts<'a>(facts: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("<dl class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    out + "</dl>\n"
}
