//! Logs that are tables: which column is what, and their rows.

use super::catalogue::Catalogue;
use super::fault::{Fault, Reading, quoted};
use super::log::{Entry, Log};
use super::number::{self, Number};
use super::table::{Row, Table};
use super::wish::Wish;
use crate::data::dataset::Feedback;
use crate::{Error, Result};
use std::ops::RangeInclusive;

/// Names of columns that a format knows, the first found counts.
pub(super) struct Names {
    pub(super) user: &'static [&'static str],
    pub(super) item: &'static [&'static str],
    pub(super) time: &'static [&'static str],
    /// Whether the time may be missing; the file is the order then.
    pub(super) untimed: bool,
}

/// The names of the plain tables and of RecBole's.
pub(super) const PLAIN: Names = Names {
    user: &["user_id", "session_id"],
    item: &["item_id"],
    time: &["timestamp", "time"],
    untimed: false,
};

const POSITION: &str = "position";
const KIND: [&str; 3] = ["kind", "cat", "event"];

/// Where the columns of a log are.
pub(super) struct LogColumns {
    user: usize,
    item: usize,
    position: Option<usize>,
    time: Option<Time>,
    kind: Option<usize>,
}

/// What a row's time is made of.
enum Time {
    Column(usize, String),
    /// Year, month, day, hour, minute and second; those without a column count as 0.
    Date([Option<usize>; 6]),
}

impl LogColumns {
    /// Finds the columns by the caller's names or else the format's.
    pub(super) fn of(table: &Table, names: &Names, wish: &Wish<'_>) -> Result<Self> {
        let user = match wish.user_column {
            Some(name) => table.require(&[name], "name the column of users with --user-column")?,
            None => table
                .require(names.user, "name the column of users so, or say with --user-column which it is")?,
        };
        let both = names.user.iter().filter(|name| table.find(&[name]).is_some()).count() > 1;
        if both && wish.user_column.is_none() {
            let problem =
                format!("both {} are there, and each could be the sequence", names.user.join(" and "));
            let remedy = "say with --user-column which it is";
            return Err(Error::invalid(table.path(), "line 1", problem, remedy));
        }
        let item = match wish.item_column {
            Some(name) => table.require(&[name], "name the column of items with --item-column")?,
            None => table
                .require(names.item, "name the column of items so, or say with --item-column which it is")?,
        };
        let position = table.find(&[POSITION]);
        let time = Self::time(table, names, wish)?;
        if position.is_none() && time.is_none() && !names.untimed {
            let wanted: Vec<&str> = std::iter::once(POSITION).chain(names.time.iter().copied()).collect();
            let remedy =
                "add one, so that the events of a user have an order, or say with --time-column which it is";
            table.require(&wanted, remedy)?;
        }
        Ok(LogColumns { user, item, position, time, kind: table.find(&KIND) })
    }

    fn time(table: &Table, names: &Names, wish: &Wish<'_>) -> Result<Option<Time>> {
        let column = match wish.time_column {
            Some(name) => Some(table.require(&[name], "name the column of times with --time-column")?),
            None => table.find(names.time),
        };
        if let Some(column) = column {
            return Ok(Some(Time::Column(column, table.columns()[column].clone())));
        }
        let part = |name: &str| table.find(&[name, &format!("date_{name}")]);
        let parts = ["year", "month", "day", "hour", "minute", "second"].map(part);
        let whole = parts[..3].iter().all(Option::is_some);
        Ok((names.untimed && whole).then_some(Time::Date(parts)))
    }
}

/// Reads all rows of `table`; the items are numbered by `catalogue`.
pub(super) fn read_log(
    mut table: Table,
    columns: &LogColumns,
    catalogue: &mut Catalogue,
    reading: &mut Reading<'_>,
) -> Result<Log> {
    let mut log = Log::new(columns.position.is_some(), columns.time.is_some());
    let policy = reading.wish.unknown_items;
    while let Some(row) = table.next_row()? {
        reading.report.rows += 1;
        let event = row.and_then(|row| read_row(&row, columns, catalogue, policy));
        match reading.keep(event)? {
            Some((_, None)) => reading.report.unknown_events += 1,
            Some((user, Some(entry))) => log.push(user, entry)?,
            None => {}
        }
    }
    reading.report.latin1_lines += table.latin1_lines();
    if log.rows() == 0 {
        let problem = "the table has no interactions";
        let problem = if reading.report.rows > 0 { "the table has no row that can be used" } else { problem };
        return Err(Error::invalid(table.path(), "line 2", problem, "add one row for every event"));
    }
    Ok(log)
}

/// User and event of a row; no event if its item is to be left out.
fn read_row<'a>(
    row: &Row<'a>,
    columns: &LogColumns,
    catalogue: &mut Catalogue,
    policy: Option<super::wish::UnknownItems>,
) -> Result<(&'a str, Option<Entry>), Fault> {
    let user = row.id(columns.user, "of the user")?;
    let id = row.id(columns.item, "of the item")?;
    let position = columns.position.map(|c| number_of(row, c, POSITION)).transpose()?;
    let time = match &columns.time {
        None => None,
        Some(Time::Column(column, name)) => Some(number_of(row, *column, name)?),
        Some(Time::Date(parts)) => Some(date_of(row, parts)?),
    };
    let kind = kind_of(row, columns.kind)?;
    let fault = |reason, problem: String, remedy: &str| row.fault(reason, problem, remedy);
    let item = catalogue.number(id, policy, fault)?;
    Ok((user, item.map(|item| Entry { item, kind, position, time })))
}

fn number_of(row: &Row<'_>, column: usize, name: &str) -> Result<Number, Fault> {
    let cell = row.cell(column);
    number::parse(cell).ok_or_else(|| {
        let reason =
            if cell.is_empty() { "no position or time" } else { "a position or time that is no number" };
        let problem = format!("{name} {} is not a number", quoted(cell));
        row.fault(reason, problem, "write it as a number, such as 17 or 1440692763.5")
    })
}

/// A date as a number that grows with it: seconds if every month had 32 days.
fn date_of(row: &Row<'_>, parts: &[Option<usize>; 6]) -> Result<Number, Fault> {
    // A month or day of 0, which some sources write for one that is not known, gives no place in the order.
    const LIMITS: [RangeInclusive<i64>; 6] = [0..=99_999, 1..=12, 1..=31, 0..=23, 0..=59, 0..=61];
    let mut sum = 0;
    for (part, limits) in parts.iter().zip(LIMITS) {
        let value = match part {
            None => 0,
            Some(column) => {
                let cell = row.cell(*column);
                let value = cell.parse::<i64>().ok().filter(|value| limits.contains(value));
                value.ok_or_else(|| {
                    let problem = format!("{} is not a part of a date", quoted(cell));
                    let remedy = "write year, month (1 to 12) and day (1 to 31) as numbers";
                    row.fault("no date", problem, remedy)
                })?
            }
        };
        sum = sum * (limits.end() + 1) + value;
    }
    Ok((sum, 0.0))
}

fn kind_of(row: &Row<'_>, column: Option<usize>) -> Result<Feedback, Fault> {
    let Some(column) = column else { return Ok(Feedback::Other) };
    Feedback::parse(row.cell(column)).ok_or_else(|| {
        let problem = format!("unknown kind of feedback {}", quoted(row.cell(column)));
        let remedy = "use click, view, addtocart, buy, purchase, transaction or other";
        row.fault("an unknown kind of feedback", problem, remedy)
    })
}
