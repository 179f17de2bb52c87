//! RecBole's atomic files: `.inter`, the log, and `.item`. Tables with tabs whose header gives each column a type:
//!
//! ```text
//! user_id:token    item_id:token    rating:float    timestamp:float
//! ```
//!
//! Types are `token`, `token_seq`, `float` and `float_seq`; sequences stand in one cell, separated by spaces. The
//! columns are those of the plain format, of which the time may be missing.

use super::catalogue::Catalogue;
use super::fault::{Reading, quoted};
use super::find::Files;
use super::log::Log;
use super::table::{Dialect, Table};
use super::tabular::{LogColumns, Names, PLAIN, read_log};
use crate::{Error, Result};
use std::path::Path;

const NAMES: Names = Names { untimed: true, ..PLAIN };

pub(super) fn read(files: &Files, reading: &mut Reading<'_>) -> Result<(Catalogue, Log)> {
    let mut catalogue = Catalogue::default();
    let table = open(&files.log)?;
    if table.columns().iter().any(|name| name == "item_id_list") {
        let problem = "the column item_id_list holds whole histories";
        let remedy = "give the log with one row an event, as RecBole has it before it is split";
        return Err(Error::invalid(&files.log, "line 1", problem, remedy));
    }
    let columns = LogColumns::of(&table, &NAMES, reading.wish)?;
    let log = read_log(table, &columns, &mut catalogue, reading)?;
    if let Some(path) = &files.items {
        let mut table = open(path)?;
        let name = reading.wish.item_column.unwrap_or(NAMES.item[0]);
        let id_column = table.require(&[name], "name the column of item ids item_id:token")?;
        catalogue.describe(&mut table, id_column, reading)?;
    }
    Ok((catalogue, log))
}

/// Opens an atomic file and takes the types off its columns' names.
fn open(path: &Path) -> Result<Table> {
    let mut table = Table::open(path, Dialect::TABS)?;
    let name = |column: &String| match column.rsplit_once(':') {
        Some((name, "token" | "token_seq" | "float" | "float_seq")) if !name.is_empty() => {
            Ok(name.to_string())
        }
        _ => {
            let problem = format!("the column {} has no type that RecBole knows", quoted(column));
            let remedy = "write it as name:token, name:token_seq, name:float or name:float_seq";
            Err(Error::invalid(path, "line 1", problem, remedy))
        }
    };
    let names = table.columns().iter().map(name).collect::<Result<Vec<String>>>()?;
    if let Some(name) = names.iter().enumerate().find(|(c, name)| names[..*c].contains(name)) {
        let problem = format!("the header names the column {} twice", quoted(name.1));
        return Err(Error::invalid(path, "line 1", problem, "rename one of the two"));
    }
    table.rename(names);
    Ok(table)
}
