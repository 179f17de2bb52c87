//! Tab-separated tables, plain or gzipped, read row by row with the line number at hand for errors.
//!
//! A table is UTF-8 with one header line and one tab between cells; there is no quoting. A byte-order mark, a
//! carriage return at the end of a line, and empty lines are skipped.

use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

/// An open table whose header has been read.
pub struct Table {
    path: PathBuf,
    columns: Vec<String>,
    input: Box<dyn BufRead>,
    buffer: Vec<u8>,
    line: usize,
}

/// One row: its cells, as many as the header has, and where it stands.
pub struct Row<'a> {
    path: &'a Path,
    /// Line in the file, counted from 1.
    pub line: usize,
    /// The cells as they stand in the file.
    pub cells: Vec<&'a str>,
}

impl Row<'_> {
    /// An error about this row.
    pub fn invalid(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::invalid(self.path, format!("line {}", self.line), problem, remedy)
    }
}

impl Table {
    /// Opens `path`, through gzip if its name ends in `.gz`, and reads the header.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let gzipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
        let input: Box<dyn BufRead> = if gzipped {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Box::new(BufReader::with_capacity(1 << 16, file))
        };
        let mut table =
            Table { path: path.to_path_buf(), columns: Vec::new(), input, buffer: Vec::new(), line: 0 };
        table.read_header()?;
        Ok(table)
    }

    fn read_header(&mut self) -> Result<()> {
        if !self.next_line()? {
            return Err(Error::invalid(
                &self.path,
                "line 1",
                "the file is empty",
                "give a table with a header line and tab-separated rows",
            ));
        }
        let header = self.text()?.trim_start_matches('\u{feff}');
        let columns: Vec<String> = header.split('\t').map(|name| name.trim().to_string()).collect();
        let twice = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name));
        if let Some((_, name)) = twice {
            let problem = format!("the header names the column {name:?} twice");
            return Err(Error::invalid(&self.path, "line 1", problem, "rename one of the two"));
        }
        self.columns = columns;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header's names.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Index of the first of `names` that the header has.
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.columns.iter().position(|column| column == name))
    }

    /// As [`Table::find`]; that none is there is an error which lists what is there.
    pub fn require(&self, names: &[&str], remedy: &str) -> Result<usize> {
        self.find(names).ok_or_else(|| {
            let problem = format!(
                "no column called {} (found: {}; columns are separated by tabs)",
                names.join(" or "),
                self.columns.join(", ")
            );
            Error::invalid(&self.path, "line 1", problem, remedy)
        })
    }

    /// The next row that is not empty, or `None` at the end of the file.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>> {
        if !self.next_line()? {
            return Ok(None);
        }
        let (expected, line) = (self.columns.len(), self.line);
        let cells: Vec<&str> = self.text()?.split('\t').collect();
        let row = Row { path: &self.path, line, cells };
        if row.cells.len() != expected {
            return Err(row.invalid(
                format!("{} columns where the header has {expected}", row.cells.len()),
                "give every row all columns, separated by single tabs",
            ));
        }
        Ok(Some(row))
    }

    /// Reads the next line that is not empty into the buffer, without its line ending.
    fn next_line(&mut self) -> Result<bool> {
        loop {
            self.buffer.clear();
            let read = self.input.read_until(b'\n', &mut self.buffer);
            if read.map_err(|e| read_error(&self.path, self.line, e))? == 0 {
                return Ok(false);
            }
            self.line += 1;
            while matches!(self.buffer.last(), Some(b'\n' | b'\r')) {
                self.buffer.pop();
            }
            if !self.buffer.is_empty() {
                return Ok(true);
            }
        }
    }

    fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.buffer).map_err(|e| {
            let problem = format!("byte {} of the line is not UTF-8", e.valid_up_to() + 1);
            Error::invalid(&self.path, format!("line {}", self.line), problem, "convert the file to UTF-8")
        })
    }
}

fn read_error(path: &Path, line: usize, e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::InvalidData => Error::invalid(
            path,
            format!("after line {line}"),
            format!("the gzip data is broken or cut short ({e})"),
            "fetch the file again, or drop .gz from its name if it is not gzipped",
        ),
        _ => Error::io(path, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn open(name: &str, bytes: &[u8]) -> Result<Vec<Vec<String>>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut table = Table::open(&path)?;
        let mut rows = Vec::new();
        while let Some(row) = table.next_row()? {
            rows.push(row.cells.iter().map(|cell| cell.to_string()).collect());
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
        let plain = open("t.tsv", text.as_bytes()).unwrap();
        assert_eq!(plain, [["1", "\"x"], ["2", ""]]);
        assert_eq!(open("t.tsv.gz", &gzip(text)).unwrap(), plain);
        let windows = format!("\u{feff}{}\r\n", text.replace('\n', "\r\n"));
        assert_eq!(open("t.tsv", windows.as_bytes()).unwrap(), plain);
    }

    #[test]
    fn broken_tables_are_refused_with_file_line_and_remedy() {
        let cut = &gzip(&"a\tb\n1\t2\n".repeat(500))[..40];
        let cases: [(&str, &[u8], &str); 6] = [
            ("t.tsv", b"", "line 1: the file is empty"),
            ("t.tsv", b"a\tb\n1\t2\n3\n", "line 3: 1 columns where the header has 2"),
            ("t.tsv", b"a\tb\n1\t\xff\n", "line 2: byte 3 of the line is not UTF-8"),
            ("t.tsv", b"a\ta\n", "twice"),
            ("t.tsv.gz", b"a\tb\n1\t2\n", "gzip data is broken"),
            ("t.tsv.gz", cut, "gzip data is broken"),
        ];
        for (name, bytes, expected) in cases {
            let message = open(name, bytes).unwrap_err().to_string();
            assert!(
                message.contains(expected) && message.contains(name) && message.contains("; "),
                "{message}"
            );
        }
    }
}
