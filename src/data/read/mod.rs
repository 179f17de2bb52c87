//! Reading data sets: one file a format, and what they share.
//!
//! A format's reader gives a [`Log`](log::Log) of rows and a [`Catalogue`](catalogue::Catalogue) of items; here they
//! become users with ordered events and items with text.

mod amazon;
mod atomic;
mod by_user;
mod catalogue;
mod fault;
mod find;
mod hetrec;
mod html;
mod interner;
mod lines;
mod log;
mod number;
mod plain;
mod python;
mod report;
mod table;
mod tabular;
mod wish;

pub(super) use by_user::Opened;
pub use by_user::StoredUsers;
pub(super) use find::Files;
pub use report::{Order, ReadReport, Skipped};
pub use wish::UnknownItems;
pub(super) use wish::{TextWish, Wish};

use super::dataset::{Dataset, User};
use crate::{Error, Result};
use catalogue::{Catalogue, Finished};
use fault::Reading;
use serde::{Deserialize, Serialize};
use std::path::Path;
use table::Dialect;

/// How the files of a data set are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tables with tabs: `interactions.tsv` and `items.tsv`.
    #[default]
    Tsv,
    /// Tables with commas and quotes: `interactions.csv` and `items.csv`.
    Csv,
    /// RecBole's atomic files: `*.inter` and `*.item`.
    Atomic,
    /// HetRec 2011: `user_*.dat` and `artists.dat`, `movies.dat` or `bookmarks.dat`.
    HetRec,
    /// Amazon reviews and metadata, one JSON object a line.
    Amazon,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] = [Format::Tsv, Format::Csv, Format::Atomic, Format::HetRec, Format::Amazon];

    fn name(self) -> &'static str {
        match self {
            Format::Tsv => "tsv",
            Format::Csv => "csv",
            Format::Atomic => "atomic",
            Format::HetRec => "hetrec",
            Format::Amazon => "amazon",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Format::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Format::ALL.map(Format::name).join(", ");
            Error::setting(format!("no format is called {name:?}"), format!("choose one of {names}"))
        })
    }
}

/// Reads `files` as a data set called `name`.
///
/// # Errors
/// The first thing that is wrong with a file, by its line; without `skip_bad_rows` that includes every row that
/// cannot be used.
pub(super) fn read(name: &str, files: &Files, wish: &Wish<'_>) -> Result<(Dataset, ReadReport)> {
    let report = ReadReport { format: files.format, ..ReadReport::default() };
    let mut reading = Reading { wish, report };
    let mut drop_duplicates = wish.drop_duplicates;
    let (catalogue, log) = match files.format {
        Format::Tsv => plain::read(files, Dialect::TABS, &mut reading)?,
        Format::Csv => plain::read(files, Dialect::COMMAS, &mut reading)?,
        Format::Atomic => atomic::read(files, &mut reading)?,
        Format::Amazon => amazon::read(files, &mut reading)?,
        Format::HetRec => {
            let (catalogue, log, tags) = hetrec::read(files, &mut reading)?;
            drop_duplicates |= tags;
            (catalogue, log)
        }
    };
    let mut users = log.into_users(drop_duplicates, &mut reading.report)?;
    let finished = finish(catalogue, files, &mut users, &mut reading)?;
    let Finished { columns, text, items, .. } = finished;
    let without = items.iter().filter(|item| item.text.is_empty()).count();
    reading.report.items_without_text = if text.columns.is_empty() { 0 } else { without };
    Ok((Dataset { name: name.to_string(), columns, text, items, users }, reading.report))
}

/// As [`read`], of the tables of an import of `users` users, but the users stay in their table: those of the data set are
/// none. `None` where the table of events is not as an import writes it.
///
/// # Errors
/// What is wrong with the items, and whatever the file system refuses.
pub(super) fn read_by_user(
    name: &str,
    (log, items): (&Path, &Path),
    wish: &Wish<'_>,
    users: usize,
) -> Result<Option<(Dataset, Opened)>> {
    let mut reading = Reading { wish, report: ReadReport::default() };
    let catalogue = plain::read_items(items, Dialect::TABS, &mut reading)?;
    let Finished { columns, text, items, .. } = catalogue.finish(wish.text, log)?;
    let opened = StoredUsers::open(log, &items, users)?;
    let dataset = Dataset { name: name.to_string(), columns, text, items, users: Vec::new() };
    Ok(opened.map(|opened| (dataset, opened)))
}

/// Completes the items, and does with those that no row of the items' file is about as the user wishes.
fn finish(
    catalogue: Catalogue,
    files: &Files,
    users: &mut [User],
    reading: &mut Reading<'_>,
) -> Result<Finished> {
    let source = catalogue.source().map(Path::to_path_buf);
    let closed = catalogue.is_closed();
    let mut finished = catalogue.finish(reading.wish.text, &files.log)?;
    let unknown = finished.undescribed.iter().filter(|&&unknown| unknown).count();
    let (Some(source), true) = (source, unknown > 0) else { return Ok(finished) };
    // A closed catalogue has unknown items only where they were asked for.
    match reading.wish.unknown_items.unwrap_or(UnknownItems::Keep) {
        UnknownItems::Keep => reading.report.unknown_items = unknown,
        UnknownItems::Drop if !closed => drop_unknown(&mut finished, users, &mut reading.report),
        UnknownItems::Refuse | UnknownItems::Drop => {
            let first = finished.undescribed.iter().position(|&unknown| unknown).unwrap_or(0);
            let problem = format!(
                "no row is about {unknown} items that {} names, such as {}",
                files.log.display(),
                fault::quoted(&finished.items[first].id)
            );
            let remedy = "add them, or pass --unknown-items drop or keep";
            return Err(Error::invalid(source, "its items", problem, remedy));
        }
    }
    Ok(finished)
}

/// Takes the undescribed items out, and the events that name them.
fn drop_unknown(finished: &mut Finished, users: &mut [User], report: &mut ReadReport) {
    let mut next = 0;
    let mut number = Vec::with_capacity(finished.items.len());
    for &unknown in &finished.undescribed {
        number.push((!unknown).then_some(next));
        next += u32::from(!unknown);
    }
    for user in users {
        let before = user.events.len();
        user.events.retain_mut(|event| match number[event.item as usize] {
            Some(known) => {
                event.item = known;
                true
            }
            None => false,
        });
        report.unknown_events += before - user.events.len();
    }
    let mut undescribed = finished.undescribed.iter();
    finished.items.retain(|_| undescribed.next() != Some(&true));
    finished.undescribed.clear();
}
