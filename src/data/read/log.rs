//! The rows of a log, column by column, until they are users with ordered events.
//!
//! A row takes 9 bytes and 8 for each of position and time that the log has; then come 4 bytes a row for the order
//! and 8 bytes an event.

use super::interner::IdColumn;
use super::number::{Number, Numbers};
use super::report::{Order, ReadReport};
use crate::data::dataset::{Event, Feedback, User};
use crate::{Error, Result};
use std::cmp::Ordering;
use std::collections::HashSet;

/// Rows read so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    user: IdColumn,
    item: Vec<u32>,
    kind: Vec<Feedback>,
    position: Numbers,
    time: Numbers,
    has_position: bool,
    has_time: bool,
}

/// What one row says beside its user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) item: u32,
    pub(super) kind: Feedback,
    pub(super) position: Option<Number>,
    pub(super) time: Option<Number>,
}

impl Log {
    /// A log whose rows have, or lack, a position and a time.
    pub(super) fn new(has_position: bool, has_time: bool) -> Self {
        Log { has_position, has_time, ..Log::default() }
    }

    pub(super) fn rows(&self) -> usize {
        self.item.len()
    }

    /// Adds a row.
    pub(super) fn push(&mut self, user: &str, entry: Entry) -> Result<()> {
        if self.rows() >= u32::MAX as usize {
            return Err(too_many());
        }
        self.user.push(user).ok_or_else(too_many)?;
        self.item.push(entry.item);
        self.kind.push(entry.kind);
        if self.has_position {
            self.position.push(entry.position.unwrap_or_default());
        }
        if self.has_time {
            self.time.push(entry.time.unwrap_or_default());
        }
        Ok(())
    }

    fn order(&self) -> Order {
        match (self.has_position, self.has_time) {
            (true, _) => Order::Position,
            (false, true) => Order::Time,
            (false, false) => Order::File,
        }
    }

    fn compare(&self, a: u32, b: u32) -> Ordering {
        let (a, b) = (a as usize, b as usize);
        let position = if self.has_position { self.position.compare(a, b) } else { Ordering::Equal };
        if self.has_time { position.then_with(|| self.time.compare(a, b)) } else { position }
    }

    /// The users in the order of their first row, their events by position, then time, then row. With
    /// `drop_duplicates` only the first of the events goes on that agree in item, kind, position and time.
    pub(super) fn into_users(mut self, drop_duplicates: bool, report: &mut ReadReport) -> Result<Vec<User>> {
        report.order = self.order();
        let (ids, user) = std::mem::take(&mut self.user).finish().ok_or_else(too_many)?;
        let (mut rows, ends) = rows_by_user(ids.len(), &user);
        drop(user);
        let mut users = Vec::with_capacity(ends.len());
        let mut start = 0;
        for (id, end) in ids.into_texts().zip(ends) {
            let of_user = &mut rows[start..end];
            start = end;
            let (later, mut ties) = self.disorder(of_user);
            if later > 0 {
                report.out_of_order += later;
                of_user.sort_by(|&a, &b| self.compare(a, b));
                (_, ties) = self.disorder(of_user);
            }
            report.ties += ties;
            let event = |&row: &u32| Event { item: self.item[row as usize], kind: self.kind[row as usize] };
            let events: Vec<Event> = if drop_duplicates {
                self.distinct(of_user).iter().map(event).collect()
            } else {
                of_user.iter().map(event).collect()
            };
            report.duplicates += of_user.len() - events.len();
            users.push(User { id, events });
        }
        Ok(users)
    }

    /// How many of the rows are later than the next one, and how many tie with it.
    fn disorder(&self, rows: &[u32]) -> (usize, usize) {
        rows.windows(2).fold((0, 0), |(later, ties), pair| match self.compare(pair[0], pair[1]) {
            Ordering::Greater => (later + 1, ties),
            Ordering::Equal => (later, ties + 1),
            Ordering::Less => (later, ties),
        })
    }

    /// Those of the ordered rows of one user that agree with no earlier one in all that is read.
    fn distinct(&self, rows: &[u32]) -> Vec<u32> {
        let mut seen: HashSet<(u32, Feedback)> = HashSet::new();
        let mut kept: Vec<u32> = Vec::with_capacity(rows.len());
        let mut last = None;
        for &row in rows {
            if last.is_some_and(|last| self.compare(last, row).is_ne()) {
                seen.clear();
            }
            last = Some(row);
            if seen.insert((self.item[row as usize], self.kind[row as usize])) {
                kept.push(row);
            }
        }
        kept
    }
}

/// The rows grouped by user, in the order of the file inside each, and where each user's group ends; `user` is the
/// user of each row, below `users`.
fn rows_by_user(users: usize, user: &[u32]) -> (Vec<u32>, Vec<usize>) {
    let mut starts = vec![0usize; users + 1];
    user.iter().for_each(|&user| starts[user as usize + 1] += 1);
    (0..users).for_each(|user| starts[user + 1] += starts[user]);
    let mut rows = vec![0u32; user.len()];
    for (row, &user) in user.iter().enumerate() {
        rows[starts[user as usize]] = row as u32;
        starts[user as usize] += 1;
    }
    starts.pop();
    (rows, starts)
}

fn too_many() -> Error {
    Error::setting("the log has more than 2^32 users or rows", "split it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(rows: &[(&str, u32, Option<Number>, Option<Number>)]) -> Log {
        let mut log = Log::new(rows[0].2.is_some(), rows[0].3.is_some());
        for &(user, item, position, time) in rows {
            log.push(user, Entry { item, kind: Feedback::Other, position, time }).unwrap();
        }
        log
    }

    fn items(users: &[User]) -> Vec<(&str, Vec<u32>)> {
        users.iter().map(|user| (user.id.as_str(), user.events.iter().map(|e| e.item).collect())).collect()
    }

    #[test]
    fn events_are_ordered_by_position_then_time_then_row() {
        let mut report = ReadReport::default();
        let at = |position, time| (Some((position, 0.0)), Some(time));
        let rows = [("u", 7, at(1, (5, 0.0))), ("v", 1, at(0, (0, 0.0))), ("u", 8, at(0, (9, 0.0)))];
        let more = [("u", 9, at(1, (4, 0.5))), ("u", 8, at(1, (5, 0.0)))];
        let all: Vec<_> = rows.iter().chain(&more).map(|&(u, i, (p, t))| (u, i, p, t)).collect();
        let users = log(&all).into_users(false, &mut report).unwrap();
        assert_eq!(items(&users), [("u", vec![8, 9, 7, 8]), ("v", vec![1])]);
        assert_eq!((report.order, report.ties, report.out_of_order), (Order::Position, 1, 1));
    }

    #[test]
    fn duplicates_agree_in_time_and_item_and_the_first_stays() {
        let mut report = ReadReport::default();
        let time = |seconds| Some((seconds, 0.0));
        let rows = [
            ("u", 1, None, time(5)),
            ("u", 2, None, time(5)),
            ("u", 1, None, time(5)),
            ("u", 1, None, time(6)),
        ];
        assert_eq!(items(&log(&rows).into_users(true, &mut report).unwrap()), [("u", vec![1, 2, 1])]);
        assert_eq!(report.duplicates, 1);
        let mut report = ReadReport::default();
        assert_eq!(items(&log(&rows).into_users(false, &mut report).unwrap()), [("u", vec![1, 2, 1, 1])]);
        assert_eq!((report.duplicates, report.ties), (0, 2));
    }

    #[test]
    fn without_position_and_time_the_file_is_the_order() {
        let mut report = ReadReport::default();
        let users =
            log(&[("u", 3, None, None), ("u", 1, None, None)]).into_users(false, &mut report).unwrap();
        assert_eq!((items(&users), report.order), (vec![("u", vec![3, 1])], Order::File));
    }
}
