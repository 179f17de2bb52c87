//! Lines of a file, plain or gzipped, as bytes in a buffer that is used again and again.

use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes read at a time, at least.
const CHUNK: usize = 1 << 16;
/// No real row is longer; what is, was not meant to be read by lines, or is gzip that swells without end.
pub(super) const LONGEST: usize = 1 << 25;

/// An open file and the part of it that is in memory.
pub(super) struct Lines {
    path: PathBuf,
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    /// What was read and not yet given out.
    rest: Range<usize>,
    /// Where the line stands that was given last.
    last: Range<usize>,
    ended: bool,
    line: usize,
}

/// One line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// The file.
    pub(super) path: &'a Path,
    /// Counted from 1.
    pub(super) number: usize,
    /// Without the line's ending.
    pub(super) bytes: &'a [u8],
}

impl Lines {
    /// Opens `path`, through gzip if its name ends in `.gz`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let gzipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
        let input: Box<dyn Read> = if gzipped {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file)))
        } else {
            Box::new(file)
        };
        Ok(Lines {
            path: path.to_path_buf(),
            input,
            buffer: vec![0; CHUNK],
            rest: 0..0,
            last: 0..0,
            ended: false,
            line: 0,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The line that [`Lines::next`] gave last, once more.
    pub(super) fn again(&self) -> Line<'_> {
        Line { path: &self.path, number: self.line, bytes: &self.buffer[self.last.clone()] }
    }

    /// The next line that is not empty, without its ending (`\n` or `\r\n`) and without a byte-order mark; `None` at
    /// the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>> {
        loop {
            match self.advance()? {
                Some(line) if line.is_empty() => {}
                Some(line) => {
                    self.last = line;
                    return Ok(Some(self.again()));
                }
                None => return Ok(None),
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Range<usize>>> {
        let mut searched = 0;
        loop {
            let unseen = &self.buffer[self.rest.start + searched..self.rest.end];
            let found = memchr::memchr(b'\n', unseen).map(|at| self.rest.start + searched + at);
            searched = self.rest.len();
            let (end, next) = match found {
                Some(end) => (end, end + 1),
                None if self.ended && self.rest.is_empty() => return Ok(None),
                None if self.ended => (self.rest.end, self.rest.end),
                None => {
                    self.fill()?;
                    continue;
                }
            };
            let mut line = self.rest.start..end;
            self.rest.start = next;
            self.line += 1;
            while !line.is_empty() && self.buffer[line.end - 1] == b'\r' {
                line.end -= 1;
            }
            if self.line == 1 && self.buffer[line.clone()].starts_with(b"\xef\xbb\xbf") {
                line.start += 3;
            }
            return Ok(Some(line));
        }
    }

    /// Reads on behind the rest, which moves to the front.
    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.rest.clone(), 0);
        self.rest = 0..self.rest.len();
        if self.rest.end == self.buffer.len() {
            if self.buffer.len() >= LONGEST {
                let place = format!("line {}", self.line + 1);
                let problem = format!("the line is longer than {} MiB", LONGEST >> 20);
                return Err(Error::invalid(&self.path, place, problem, "check that this is a file of lines"));
            }
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.rest.end..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(&self.path, self.line, e)),
                Ok(bytes) => {
                    self.rest.end += bytes;
                    self.ended = bytes == 0;
                    return Ok(());
                }
            }
        }
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

    #[test]
    fn lines_longer_than_the_buffer_and_a_last_one_without_ending_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let long = "y".repeat(3 * CHUNK + 7);
        std::fs::write(&path, format!("\u{feff}a\r\n\n{long}\n\r\nlast")).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.number, String::from_utf8(line.bytes.to_vec()).unwrap()));
        }
        assert_eq!(found, [(1, "a".to_string()), (3, long), (5, "last".into())]);
    }
}
