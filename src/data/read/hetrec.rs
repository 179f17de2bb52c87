//! The `.dat` files of HetRec 2011: Last.fm, Delicious and MovieLens. Tables with tabs, UTF-8 in some files and
//! Latin-1 in others; cells at the end of a row may be missing.
//!
//! | file | columns read |
//! | --- | --- |
//! | log: `user_tagged*-timestamps.dat`, `user_ratedmovies-timestamps.dat` | `userID`; `artistID`, `bookmarkID` or `movieID`; `timestamp` |
//! | log: the same without `-timestamps` | the ids; `day`, `month`, `year` (also `date_day` …), `hour`, `minute`, `second` |
//! | log: `user_artists.dat` | the ids; it has no time |
//! | items: `artists.dat`, `bookmarks.dat`, `movies.dat` | `id`, all others as they stand |
//!
//! A row of a tag log is one tag, so tags that a user gave an item at one time are one event.

use super::catalogue::Catalogue;
use super::fault::Reading;
use super::find::Files;
use super::log::Log;
use super::table::{Dialect, Table};
use super::tabular::{LogColumns, Names, read_log};
use crate::Result;

const DIALECT: Dialect = Dialect { commas: false, latin1: true, short_rows: true };
const NAMES: Names = Names {
    user: &["userID"],
    item: &["artistID", "bookmarkID", "movieID"],
    time: &["timestamp"],
    untimed: true,
};

/// Names of logs, the best first: with times, with dates, with neither.
pub(super) const LOGS: [&str; 7] = [
    "user_taggedartists-timestamps.dat",
    "user_ratedmovies-timestamps.dat",
    "user_taggedbookmarks-timestamps.dat",
    "user_taggedartists.dat",
    "user_ratedmovies.dat",
    "user_taggedbookmarks.dat",
    "user_artists.dat",
];

/// Names of items' files.
pub(super) const ITEMS: [&str; 3] = ["artists.dat", "movies.dat", "bookmarks.dat"];

/// Reads log and items; also whether each row of the log is a tag.
pub(super) fn read(files: &Files, reading: &mut Reading<'_>) -> Result<(Catalogue, Log, bool)> {
    let mut catalogue = Catalogue::default();
    let table = Table::open(&files.log, DIALECT)?;
    let tags = table.find(&["tagID"]).is_some();
    let columns = LogColumns::of(&table, &NAMES, reading.wish)?;
    let log = read_log(table, &columns, &mut catalogue, reading)?;
    if let Some(path) = &files.items {
        let mut table = Table::open(path, DIALECT)?;
        let id_column = table.require(&["id"], "name the column of item ids id")?;
        catalogue.describe(&mut table, id_column, reading)?;
    }
    Ok((catalogue, log, tags))
}
