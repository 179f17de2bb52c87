//! Rows whose ids are looked up together.
//!
//! A look-up mostly waits for memory. One after the other, each waits by itself; a pass over the batch that only touches
//! the slots lets the waits overlap, and the look-ups proper then find them in the cache.

use super::catalogue::Catalogue;
use super::fault::{Fault, Reading};
use super::log::{Entry, Log};
use super::number::Number;
use crate::Result;
use crate::data::dataset::Feedback;
use std::path::Path;

/// So many rows, that their slots fit the nearest cache.
const ROWS: usize = 64;

/// What a row says beside its ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) kind: Feedback,
    pub(super) position: Option<Number>,
    pub(super) time: Option<Number>,
}

#[derive(Debug)]
struct Pending {
    line: usize,
    /// Where user and item stand in the batch's text.
    start: usize,
    middle: usize,
    end: usize,
    said: Said,
}

/// Rows that are read and not yet in the log.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: String,
    rows: Vec<Pending>,
}

impl Batch {
    /// Adds a row.
    pub(super) fn add(&mut self, line: usize, user: &str, item: &str, said: Said) {
        let start = self.text.len();
        self.text.push_str(user);
        let middle = self.text.len();
        self.text.push_str(item);
        self.rows.push(Pending { line, start, middle, end: self.text.len(), said });
    }

    /// Whether the rows should go on to the log.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS
    }

    /// Moves the rows to `log` in their order; `path` is the file they stand in.
    pub(super) fn flush(
        &mut self,
        path: &Path,
        catalogue: &mut Catalogue,
        log: &mut Log,
        reading: &mut Reading<'_>,
    ) -> Result<()> {
        let ids = |row: &Pending| (&self.text[row.start..row.middle], &self.text[row.middle..row.end]);
        let touch = |sum: u32, row: &Pending| {
            let (user, item) = ids(row);
            sum.wrapping_add(log.touch(user)).wrapping_add(catalogue.touch(item))
        };
        std::hint::black_box(self.rows.iter().fold(0, touch));
        for row in &self.rows {
            let (user, item) = ids(row);
            let fault =
                |reason, problem: String, remedy: &str| Fault::new(path, row.line, reason, problem, remedy);
            let number = catalogue.number(item, reading.wish.unknown_items, fault);
            match reading.keep(number)? {
                Some(Some(item)) => {
                    let Said { kind, position, time } = row.said;
                    log.push(user, Entry { item, kind, position, time })?;
                }
                Some(None) => reading.report.unknown_events += 1,
                None => {}
            }
        }
        self.rows.clear();
        self.text.clear();
        Ok(())
    }
}
