//! What happened when a log was read: rows dropped and why, and how the events came by their order.

use super::Format;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What orders the events of a user. Ties keep the order of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The column `position`, then the time if there is one.
    Position,
    /// The time.
    Time,
    /// The file has neither: events stand as in the file.
    #[default]
    File,
}

/// Rows dropped for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// How many.
    pub rows: usize,
    /// Place and fault of the first of them.
    pub first: String,
}

/// Counts of one reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadReport {
    /// The format read.
    pub format: Format,
    /// Rows of the log.
    pub rows: usize,
    /// What orders a user's events.
    pub order: Order,
    /// Rows that stood before an earlier one of the same user, and were put after it.
    pub out_of_order: usize,
    /// Events that tie with the user's event before and keep the order of the file.
    pub ties: usize,
    /// Rows of log and items that could not be used and were dropped, by reason.
    pub skipped: BTreeMap<String, Skipped>,
    /// Rows dropped because they agree with another in user, item, kind, position and time.
    pub duplicates: usize,
    /// Lines that were not UTF-8 and were read as Latin-1.
    pub latin1_lines: usize,
    /// Items of the log that the items' file does not know and that were kept without a text.
    pub unknown_items: usize,
    /// Events dropped because the items' file does not know their item.
    pub unknown_events: usize,
    /// Rows of the items' file left out because no event names their item.
    pub unmet_items: usize,
    /// Further rows about an item that already had one.
    pub repeated_items: usize,
    /// Items without a text, where texts were asked for.
    pub items_without_text: usize,
}

impl ReadReport {
    /// Counts a row that `error` is about.
    pub(super) fn skip(&mut self, reason: &str, error: &Error) {
        if let Some(skipped) = self.skipped.get_mut(reason) {
            skipped.rows += 1;
            return;
        }
        // The file's name alone: where it lay is not part of what was imported.
        let first = match error {
            Error::Invalid { path, place, problem, .. } => {
                format!("{}: {place}: {problem}", path.file_name().unwrap_or_default().to_string_lossy())
            }
            other => other.to_string(),
        };
        self.skipped.insert(reason.to_string(), Skipped { rows: 1, first });
    }

    /// What was dropped, a line a reason.
    pub fn dropped(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .skipped
            .iter()
            .map(|(reason, of)| format!("dropped {} rows: {reason} (the first: {})", of.rows, of.first))
            .collect();
        let counts = [
            (self.duplicates, "duplicate rows (same user, item, kind, position and time)"),
            (self.unknown_events, "events whose item the items' file does not know"),
            (self.unmet_items, "items of the items' file that no event names"),
            (self.repeated_items, "further rows about an item that already had one"),
        ];
        lines.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("dropped {n} {what}")));
        lines
    }

    /// What else is worth knowing, a line each.
    pub fn notes(&self) -> Vec<String> {
        let order = match self.order {
            Order::Position => "position",
            Order::Time => "time",
            Order::File => "their place in the file, for there is neither a position nor a time",
        };
        let mut lines =
            vec![format!("read {} rows as {}; events ordered by {order}", self.rows, self.format)];
        let counts = [
            (self.out_of_order, "rows stood before an earlier one of their user and were moved"),
            (self.ties, "events tie with the one before and keep the order of the file"),
            (self.latin1_lines, "lines are not UTF-8 and were read as Latin-1"),
            (self.unknown_items, "items of the log are not in the items' file: kept, without a text"),
            (self.items_without_text, "items have no text"),
        ];
        let counted =
            counts.iter().enumerate().filter(|(c, (n, _))| *n > 0 && !(*c == 1 && self.order == Order::File));
        lines.extend(counted.map(|(_, (n, what))| format!("{n} {what}")));
        lines
    }
}
