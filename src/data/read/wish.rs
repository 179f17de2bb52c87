//! What the caller wants of a reading.

use crate::Error;
use serde::{Deserialize, Serialize};

/// What becomes of an event whose item the items' file does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownItems {
    /// It is an error.
    Refuse,
    /// The event goes.
    Drop,
    /// The item stays, without a text.
    Keep,
}

impl std::str::FromStr for UnknownItems {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "refuse" => Ok(UnknownItems::Refuse),
            "drop" => Ok(UnknownItems::Drop),
            "keep" => Ok(UnknownItems::Keep),
            _ => Err(Error::setting(format!("unknown items: {name:?}"), "choose refuse, drop or keep")),
        }
    }
}

/// What the caller wants of the items' texts.
#[derive(Debug, Clone, Copy)]
pub(in crate::data) struct TextWish<'a> {
    /// The columns that form the text. `None`: those called `title`, `name` or `text`. Empty: no text.
    pub columns: Option<&'a [String]>,
    /// Which of them are lists; `None`: those that look like it.
    pub lists: Option<&'a [String]>,
    /// What stands between two columns.
    pub joiner: &'a str,
}

/// What the caller wants of a reading.
#[derive(Debug, Clone, Copy)]
pub(in crate::data) struct Wish<'a> {
    /// The items' texts.
    pub text: TextWish<'a>,
    /// Column of users, where it does not have the format's name.
    pub user_column: Option<&'a str>,
    /// Column of items, likewise.
    pub item_column: Option<&'a str>,
    /// Column of times, likewise.
    pub time_column: Option<&'a str>,
    /// Drop and count rows that cannot be used; otherwise each is an error.
    pub skip_bad_rows: bool,
    /// Drop all but one of the events that agree in all that is read.
    pub drop_duplicates: bool,
    /// What becomes of items that the items' file does not know; `None`: as the format has it.
    pub unknown_items: Option<UnknownItems>,
}
