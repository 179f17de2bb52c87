//! Tables with a header line, read row by row with the line number at hand for errors.
//!
//! Cells are separated by tabs, without quoting, or by commas as RFC 4180 has it: a cell in quotes may hold commas,
//! line breaks (read as a space) and doubled quotes. A byte-order mark, a carriage return at the end of a line, and
//! empty lines are skipped. Text is UTF-8; where a format allows it, a line that is not is read as Latin-1.

use super::fault::{Fault, quoted};
use super::lines::{LONGEST, Lines};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Commas and quotes instead of tabs.
    pub(super) commas: bool,
    /// Lines that are not UTF-8 are Latin-1.
    pub(super) latin1: bool,
    /// Cells at the end of a row may be missing, and count as empty.
    pub(super) short_rows: bool,
}

impl Dialect {
    /// Tabs, UTF-8, all cells in every row.
    pub(super) const TABS: Dialect = Dialect { commas: false, latin1: false, short_rows: false };
    /// The same with commas.
    pub(super) const COMMAS: Dialect = Dialect { commas: true, latin1: false, short_rows: false };
}

/// An open table whose header has been read.
pub(super) struct Table {
    lines: Lines,
    dialect: Dialect,
    columns: Vec<String>,
    cells: Vec<Range<usize>>,
    /// The text of a row where that is not the line itself.
    text: String,
    latin1_lines: usize,
}

/// One row: its cells, as many as the header has, and where it stands.
pub(super) struct Row<'a> {
    path: &'a Path,
    text: &'a str,
    cells: &'a [Range<usize>],
    /// Line in the file, counted from 1.
    pub(super) line: usize,
}

impl<'a> Row<'a> {
    /// The cell of a column, without white space around it.
    pub(super) fn cell(&self, column: usize) -> &'a str {
        self.cells.get(column).map_or("", |range| self.text[range.clone()].trim())
    }

    /// The cell of a column as it stands in the file.
    pub(super) fn whole_cell(&self, column: usize) -> &'a str {
        self.cells.get(column).map_or("", |range| &self.text[range.clone()])
    }

    /// The cell of an id.
    pub(super) fn id(&self, column: usize, name: &str) -> Result<&'a str, Fault> {
        match self.cell(column) {
            "" => {
                let problem = format!("the cell {name} is empty");
                Err(self.fault("no id", problem, "fill it, or remove the row"))
            }
            id if id.contains(['\t', '\r', '\n']) => {
                let problem = format!("the id {} holds a tab or a line break", quoted(id));
                Err(self.fault("an id with a tab or line break", problem, "give it another id"))
            }
            id => Ok(id),
        }
    }

    /// A fault of this row.
    pub(super) fn fault(&self, reason: &'static str, problem: impl Into<String>, remedy: &str) -> Fault {
        Fault::new(self.path, self.line, reason, problem, remedy)
    }
}

impl Table {
    /// Opens `path`, through gzip if its name ends in `.gz`, and reads the header.
    pub(super) fn open(path: &Path, dialect: Dialect) -> Result<Self> {
        let mut table = Table {
            lines: Lines::open(path)?,
            dialect,
            columns: Vec::new(),
            cells: Vec::new(),
            text: String::new(),
            latin1_lines: 0,
        };
        let header = match table.next_row()? {
            None => {
                return Err(Error::invalid(
                    path,
                    "line 1",
                    "the file is empty",
                    "give a table with a header line and rows",
                ));
            }
            Some(row) => row.map_err(|fault| fault.error)?,
        };
        let columns: Vec<String> =
            (0..header.cells.len()).map(|c| header.cell(c).replace('\t', " ")).collect();
        let mut sorted: Vec<&String> = columns.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let problem = format!("the header names the column {} twice", quoted(twice[0]));
            return Err(Error::invalid(path, "line 1", problem, "rename one of the two"));
        }
        table.columns = columns;
        Ok(table)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.lines.path()
    }

    /// The header's names.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Puts other names in the place of the header's.
    pub(super) fn rename(&mut self, columns: Vec<String>) {
        self.columns = columns;
    }

    /// How many lines so far were read as Latin-1.
    pub(super) fn latin1_lines(&self) -> usize {
        self.latin1_lines
    }

    /// Index of the first of `names` that the header has.
    pub(super) fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.columns.iter().position(|column| column == name))
    }

    /// As [`Table::find`]; that none is there is an error which lists what is there.
    pub(super) fn require(&self, names: &[&str], remedy: &str) -> Result<usize> {
        self.find(names).ok_or_else(|| {
            let found: Vec<&str> = self.columns.iter().take(30).map(String::as_str).collect();
            let separator = if self.dialect.commas { "commas" } else { "tabs" };
            let problem = format!(
                "no column called {} (found: {}; columns are separated by {separator})",
                names.join(" or "),
                found.join(", ").chars().take(400).collect::<String>()
            );
            Error::invalid(self.path(), "line 1", problem, remedy)
        })
    }

    /// The next row that is not empty: itself or what is wrong with it. `None` at the end of the file.
    pub(super) fn next_row(&mut self) -> Result<Option<Result<Row<'_>, Fault>>> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        if self.dialect.commas && memchr::memchr(b'"', line.bytes).is_some() {
            return self.quoted_row();
        }
        let line = self.lines.again();
        let text = match std::str::from_utf8(line.bytes) {
            Ok(text) => text,
            Err(_) if self.dialect.latin1 => {
                self.latin1_lines += 1;
                self.text.clear();
                self.text.extend(line.bytes.iter().map(|&byte| char::from(byte)));
                &self.text
            }
            Err(e) => return Ok(Some(Err(not_utf8(line.path, line.number, e.valid_up_to())))),
        };
        split(text, if self.dialect.commas { b',' } else { b'\t' }, &mut self.cells);
        let row = Row { path: line.path, text, cells: &self.cells, line: line.number };
        Ok(Some(row.of_width(self.columns.len(), self.dialect)))
    }

    /// The row that begins on the line just read, which holds quotes: over as many lines as they stay open.
    ///
    /// # Errors
    /// A quote that stays open too long: where the row ends is then unknown, so it cannot be left out either.
    fn quoted_row(&mut self) -> Result<Option<Result<Row<'_>, Fault>>> {
        let mut line = self.lines.again();
        let number = line.number;
        let mut fault = None;
        let mut unquoting = Unquoting::new(&mut self.text, &mut self.cells);
        loop {
            // A line that is not UTF-8 is still part of this row.
            if let Err(e) = std::str::from_utf8(line.bytes) {
                fault.get_or_insert_with(|| not_utf8(line.path, line.number, e.valid_up_to()));
            }
            if !unquoting.line(&String::from_utf8_lossy(line.bytes)) {
                break;
            }
            if unquoting.len() > LONGEST {
                return Err(open_quote(line.path, number, &format!("within {} MiB", LONGEST >> 20)));
            }
            match self.lines.next()? {
                Some(next) => line = next,
                None => return Err(open_quote(self.lines.path(), number, "up to the end of the file")),
            }
        }
        if let Some(fault) = fault {
            return Ok(Some(Err(fault)));
        }
        let row = Row { path: self.lines.path(), text: &self.text, cells: &self.cells, line: number };
        Ok(Some(row.of_width(self.columns.len(), self.dialect)))
    }
}

impl<'a> Row<'a> {
    /// The row if it has as many cells as the header; a header itself is read with 0 columns.
    fn of_width(self, columns: usize, dialect: Dialect) -> Result<Row<'a>, Fault> {
        let cells = self.cells.len();
        if cells == columns || columns == 0 || (dialect.short_rows && cells < columns) {
            return Ok(self);
        }
        let problem = format!("{cells} columns where the header has {columns}");
        let remedy = if dialect.commas {
            "give every row all columns, and put cells with commas in quotes"
        } else {
            "give every row all columns, separated by single tabs"
        };
        Err(self.fault("another number of columns than the header", problem, remedy))
    }
}

fn not_utf8(path: &Path, line: usize, valid: usize) -> Fault {
    let problem = format!("byte {} of the line is not UTF-8", valid + 1);
    Fault::new(path, line, "not UTF-8", problem, "convert the file to UTF-8")
}

fn open_quote(path: &Path, line: usize, place: &str) -> Error {
    let problem = format!("a quote is opened in this row and not closed {place}");
    let remedy = "close it, or put the cell in quotes and double the quote in it";
    Error::invalid(path, format!("line {line}"), problem, remedy)
}

/// Where the cells of `text` stand.
fn split(text: &str, separator: u8, cells: &mut Vec<Range<usize>>) {
    cells.clear();
    let mut start = 0;
    for end in memchr::memchr_iter(separator, text.as_bytes()) {
        cells.push(start..end);
        start = end + 1;
    }
    cells.push(start..text.len());
}

/// Writes the cells of a comma-separated record into `out` without their quotes, and where they stand there.
struct Unquoting<'a> {
    out: &'a mut String,
    cells: &'a mut Vec<Range<usize>>,
    /// Where the cell begins that is being read.
    start: usize,
    open: bool,
}

impl<'a> Unquoting<'a> {
    fn new(out: &'a mut String, cells: &'a mut Vec<Range<usize>>) -> Self {
        out.clear();
        cells.clear();
        Unquoting { out, cells, start: 0, open: false }
    }

    fn len(&self) -> usize {
        self.out.len()
    }

    /// Reads the next line of the record. Whether a quote is open at its end, so that the record goes on.
    fn line(&mut self, line: &str) -> bool {
        if self.open {
            self.out.push(' ');
        }
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if self.open && chars.peek() == Some(&'"') => {
                    chars.next();
                    self.out.push('"');
                }
                '"' if self.open => self.open = false,
                // Elsewhere than at the beginning of a cell a quote stands for itself.
                '"' if self.out[self.start..].trim().is_empty() => {
                    self.out.truncate(self.start);
                    self.open = true;
                }
                ',' if !self.open => self.end_cell(),
                c => self.out.push(c),
            }
        }
        if !self.open {
            self.end_cell();
        }
        self.open
    }

    fn end_cell(&mut self) {
        self.cells.push(self.start..self.out.len());
        self.start = self.out.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn open(name: &str, dialect: Dialect, bytes: &[u8]) -> Result<Vec<Vec<String>>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut table = Table::open(&path, dialect)?;
        let (mut rows, columns) = (Vec::new(), table.columns().len());
        while let Some(row) = table.next_row()? {
            let row = row.map_err(|fault| fault.error)?;
            rows.push((0..columns).map(|c| row.whole_cell(c).to_string()).collect());
        }
        Ok(rows)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn plain_gzipped_and_windows_files_read_alike() {
        let text = "a\tb\n1\t\"x\n2\t\n";
        let plain = open("t.tsv", Dialect::TABS, text.as_bytes()).unwrap();
        assert_eq!(plain, [["1", "\"x"], ["2", ""]]);
        assert_eq!(open("t.tsv.gz", Dialect::TABS, &gzip(text)).unwrap(), plain);
        let windows = format!("\u{feff}{}\r\n", text.replace('\n', "\r\n"));
        assert_eq!(open("t.tsv", Dialect::TABS, windows.as_bytes()).unwrap(), plain);
    }

    #[test]
    fn quotes_of_commas_hold_commas_breaks_and_quotes() {
        let text = "a,b\n\"x, y\",1\n\"say \"\"hi\"\"\n twice\", \"q\"\n5\" by 3\",\"\"\n";
        assert_eq!(
            open("t.csv", Dialect::COMMAS, text.as_bytes()).unwrap(),
            [["x, y", "1"], ["say \"hi\"  twice", "q"], ["5\" by 3\"", ""]]
        );
    }

    #[test]
    fn a_quote_within_a_cell_opens_nothing() {
        let text = "a,b\n12\" disk,1\n3,4\n5\" by 3\" by 1\",6\n7,8\n";
        assert_eq!(
            open("t.csv", Dialect::COMMAS, text.as_bytes()).unwrap(),
            [["12\" disk", "1"], ["3", "4"], ["5\" by 3\" by 1\"", "6"], ["7", "8"]]
        );
    }

    #[test]
    fn an_open_quote_takes_in_no_more_than_a_line_may_have() {
        let line = "x".repeat(1 << 20);
        let text = format!("a,b\n1,\"2\n{}", format!("{line}\n").repeat((LONGEST >> 20) + 1));
        let message = open("t.csv", Dialect::COMMAS, text.as_bytes()).unwrap_err().to_string();
        assert!(
            message.contains("line 2: a quote is opened") && message.contains("within 32 MiB"),
            "{message}"
        );
    }

    #[test]
    fn latin_1_is_read_where_the_format_has_it_line_by_line() {
        let dialect = Dialect { latin1: true, short_rows: true, ..Dialect::TABS };
        let rows = open("t.dat", dialect, b"a\tb\nBj\xf6rk\t1\nBj\xc3\xb6rk\n").unwrap();
        assert_eq!(rows, [["Bj\u{f6}rk", "1"], ["Bj\u{f6}rk", ""]]);
    }

    #[test]
    fn broken_tables_are_refused_with_file_line_and_remedy() {
        let cut = &gzip(&"a\tb\n1\t2\n".repeat(500))[..40];
        let cases: [(&str, Dialect, &[u8], &str); 9] = [
            ("t.tsv", Dialect::TABS, b"", "line 1: the file is empty"),
            ("t.tsv", Dialect::TABS, b"a\tb\n1\t2\n3\n", "line 3: 1 columns where the header has 2"),
            ("t.tsv", Dialect::TABS, b"a\tb\n1\t\xff\n", "line 2: byte 3 of the line is not UTF-8"),
            ("t.tsv", Dialect::TABS, b"a\ta\n", "twice"),
            ("t.tsv.gz", Dialect::TABS, b"a\tb\n1\t2\n", "gzip data is broken"),
            ("t.tsv.gz", Dialect::TABS, cut, "gzip data is broken"),
            ("t.csv", Dialect::COMMAS, b"a,b\n1,\"2\n3,4\n", "line 2: a quote is opened"),
            ("t.csv", Dialect::COMMAS, b"a,b\n1,\"2\n\xff\"\n", "line 3: byte 1 of the line is not UTF-8"),
            ("t.csv", Dialect::COMMAS, b"a,b\n1,2,3\n", "line 2: 3 columns where the header has 2"),
        ];
        for (name, dialect, bytes, expected) in cases {
            let message = open(name, dialect, bytes).unwrap_err().to_string();
            assert!(
                message.contains(expected) && message.contains(name) && message.contains("; "),
                "{message}"
            );
        }
    }
}
