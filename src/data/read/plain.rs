//! The plain formats: a table of interactions and, beside it, a table of items, separated by tabs or by commas.
//!
//! | table | columns found by name |
//! | --- | --- |
//! | interactions | `user_id` or `session_id`; `item_id`; `position`, or `timestamp` or `time`; optionally `kind`, `cat` or `event` |
//! | items | `item_id`; any others, of which some form the text |
//!
//! Users are numbered in the order of their first row, items in the order of the items table, or of their first row
//! without one. The items table is the catalogue: an item that no event names stays in it.

use super::catalogue::Catalogue;
use super::fault::Reading;
use super::find::Files;
use super::log::Log;
use super::table::{Dialect, Table};
use super::tabular::{LogColumns, PLAIN, read_log};
use crate::Result;
use std::path::Path;

pub(super) fn read(files: &Files, dialect: Dialect, reading: &mut Reading<'_>) -> Result<(Catalogue, Log)> {
    let mut catalogue = match &files.items {
        None => Catalogue::default(),
        Some(path) => read_items(path, dialect, reading)?,
    };
    let table = Table::open(&files.log, dialect)?;
    let columns = LogColumns::of(&table, &PLAIN, reading.wish)?;
    let log = read_log(table, &columns, &mut catalogue, reading)?;
    Ok((catalogue, log))
}

/// The catalogue of the items table at `path`.
pub(super) fn read_items(path: &Path, dialect: Dialect, reading: &mut Reading<'_>) -> Result<Catalogue> {
    let table = Table::open(path, dialect)?;
    let name = reading.wish.item_column.filter(|name| table.find(&[name]).is_some());
    let remedy = "name the column of item ids item_id";
    let id_column = table.require(&[name.unwrap_or(PLAIN.item[0])], remedy)?;
    Catalogue::of_table(table, id_column, reading)
}
