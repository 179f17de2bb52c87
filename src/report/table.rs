//! A table for terminals (aligned plain text) and for HTML.

use super::escape::escape;
use std::fmt::Write;

/// Side to which a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One cell: its text, an optional smaller addition (a deviation, a count) and whether it is its column's best.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// What the cell says.
    pub text: String,
    /// Said after the text, in smaller letters where there are any.
    pub detail: String,
    /// Marked with `*` in text and in bold in HTML.
    pub best: bool,
}

impl Cell {
    /// A cell that only says `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Cell { text: text.into(), ..Cell::default() }
    }

    /// The same cell with `detail` after its text.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn plain(&self) -> String {
        format!("{}{}{}", self.text, self.detail, if self.best { "*" } else { "" })
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(text)
    }
}

/// A table: columns with names, rows of cells, and rules between groups of rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<Cell>>,
    rules: Vec<usize>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let columns = columns.into_iter().map(|(name, align)| (name.to_string(), align)).collect();
        Table { columns, ..Table::default() }
    }

    /// Appends a row; cells that it lacks stay empty and cells beyond the last column are not shown.
    pub fn row(&mut self, cells: Vec<Cell>) {
        let mut cells = cells;
        cells.resize(self.columns.len(), Cell::default());
        self.rows.push(cells);
    }

    /// Draws a rule between the rows so far and the next one.
    pub fn rule(&mut self) {
        if !self.rows.is_empty() && self.rules.last() != Some(&self.rows.len()) {
            self.rules.push(self.rows.len());
        }
    }

    /// Marks the cells of `column` whose `values` (one a row, NaN for none) are the highest.
    pub fn mark_highest(&mut self, column: usize, values: &[f64]) {
        let highest = values.iter().copied().filter(|v| !v.is_nan()).fold(f64::NEG_INFINITY, f64::max);
        // Alone, a row is the best of nothing.
        if values.len() < 2 {
            return;
        }
        for (row, value) in self.rows.iter_mut().zip(values) {
            if let Some(cell) = row.get_mut(column) {
                cell.best = *value == highest;
            }
        }
    }

    /// The table as aligned plain text, a line a row, ending with a line break. The best of a column bears a `*`.
    pub fn to_text(&self) -> String {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::plain).collect()).collect();
        let width = |column: usize| {
            let head = self.columns[column].0.chars().count();
            cells.iter().map(|row| row[column].chars().count()).fold(head, usize::max)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |texts: &mut dyn Iterator<Item = &str>| {
            let mut out = String::new();
            for ((text, (_, align)), &width) in texts.zip(&self.columns).zip(&widths) {
                let padding = " ".repeat(width - text.chars().count());
                let (before, after) = if *align == Align::Left { ("", &*padding) } else { (&*padding, "") };
                let gap = if out.is_empty() { "" } else { "  " };
                let _ = write!(out, "{gap}{before}{text}{after}");
            }
            format!("{}\n", out.trim_end())
        };
        let rule =
            format!("{}\n", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
        let mut out = line(&mut self.columns.iter().map(|(name, _)| name.as_str()));
        out.push_str(&rule);
        for (i, row) in cells.iter().enumerate() {
            if self.rules.contains(&i) {
                out.push_str(&rule);
            }
            out.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        out
    }

    /// The table as HTML; every text is escaped. The best of a column is bold.
    pub fn to_html(&self) -> String {
        let class = |align: Align| if align == Align::Right { " class=\"number\"" } else { "" };
        let mut out = String::from("<div class=\"wide\"><table>\n<thead><tr>");
        for (name, align) in &self.columns {
            let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(*align), escape(name));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for (i, row) in self.rows.iter().enumerate() {
            out.push_str(if self.rules.contains(&i) { "<tr class=\"rule\">" } else { "<tr>" });
            for (cell, (_, align)) in row.iter().zip(&self.columns) {
                let text = escape(&cell.text);
                let text = if cell.best { format!("<strong>{text}</strong>") } else { text };
                let detail = match cell.detail.as_str() {
                    "" => String::new(),
                    detail => format!("<small>{}</small>", escape(detail)),
                };
                let _ = write!(out, "<td{}>{text}{detail}</td>", class(*align));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([("name", Align::Left), ("α", Align::Right)]);
        table.row(vec!["one".into(), Cell::new("0.5").with_detail(" ±0.1")]);
        table.rule();
        table.row(vec!["three".into(), Cell::new("10")]);
        table.mark_highest(1, &[0.5, f64::NAN]);
        table
    }

    #[test]
    fn text_columns_are_aligned_by_characters_and_the_best_bears_a_star() {
        let expected = "\
name           α
────────────────
one    0.5 ±0.1*
────────────────
three         10
";
        assert_eq!(sample().to_text(), expected);
    }

    #[test]
    fn html_marks_best_and_rules_and_escapes_every_text() {
        let mut table = sample();
        table.row(vec![Cell::new("<b>&").with_detail("\"x\"")]);
        let html = table.to_html();
        assert!(
            html.contains("<td class=\"number\"><strong>0.5</strong><small> ±0.1</small></td>"),
            "{html}"
        );
        assert!(html.contains("<tr class=\"rule\"><td>three</td>"), "{html}");
        assert!(
            html.contains("<td>&lt;b&gt;&amp;<small>&quot;x&quot;</small></td><td class=\"number\"></td>")
        );
    }
}
