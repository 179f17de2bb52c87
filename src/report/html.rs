//! `report.html`: one page without scripts, fonts, images or links to anything outside itself.

use super::escape::escape;
use super::{Report, plot, sections};
use std::fmt::Write;

const DARK_PAGE: &str = ":root { --page: #0f1318; --card: #171c23; --ink: #e6e9ee; --muted: #9aa4b2; \
                         --rule: #30363d; --accent: #5a9df0; }";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let style = include_str!("style.css");
    let figures = plot::stylesheet();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}@media (prefers-color-scheme: dark) {{\n{DARK_PAGE}\n{figures}}}\n</style>\n</head>\n\
         <body>\n<main>\n<header>\n<h1>{title}</h1>\n"
    );
    if !report.introduction.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", escape(&report.introduction));
    }
    out.push_str("</header>\n");
    for part in [
        sections::tiles,
        sections::facts,
        sections::results,
        sections::environment,
        sections::rewards,
        sections::forest,
        sections::curves,
        sections::stages,
    ] {
        out.push_str(&part(report).unwrap_or_default());
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(out, "<footer>Written by lea {version}.</footer>\n</main>\n</body>\n</html>\n");
    out
}
