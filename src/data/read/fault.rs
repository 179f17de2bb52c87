//! Rows that cannot be used: an error each, or dropped and counted where the user says so.

use super::report::ReadReport;
use super::wish::Wish;
use crate::{Error, Result};
use std::path::Path;

/// What is wrong with one row.
#[derive(Debug)]
pub(super) struct Fault {
    /// Under what it is counted where such rows are dropped.
    pub(super) reason: &'static str,
    /// The error where they are not.
    pub(super) error: Error,
}

impl Fault {
    /// A fault of `line` in `path`.
    pub(super) fn new(
        path: &Path,
        line: usize,
        reason: &'static str,
        problem: impl Into<String>,
        remedy: &str,
    ) -> Self {
        Fault { reason, error: Error::invalid(path, format!("line {line}"), problem, remedy) }
    }
}

/// A cell as an error quotes it: its first characters.
pub(super) fn quoted(cell: &str) -> String {
    match cell.char_indices().nth(60) {
        None => format!("{cell:?}"),
        Some((end, _)) => format!("{:?} …", &cell[..end]),
    }
}

/// A reading on its way: what the user wants of it, and what happened so far.
pub(super) struct Reading<'a> {
    pub(super) wish: &'a Wish<'a>,
    pub(super) report: ReadReport,
}

impl Reading<'_> {
    /// Drops and counts the row, or fails with its error: as the user wishes.
    pub(super) fn skip(&mut self, fault: Fault) -> Result<()> {
        if !self.wish.skip_bad_rows {
            return Err(fault.error);
        }
        self.report.skip(fault.reason, &fault.error);
        Ok(())
    }

    /// The value, or `None` for a row that [`Reading::skip`] dropped.
    pub(super) fn keep<T>(&mut self, value: Result<T, Fault>) -> Result<Option<T>> {
        value.map_or_else(|fault| self.skip(fault).map(|()| None), |value| Ok(Some(value)))
    }
}
