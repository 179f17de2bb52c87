//! Packs of trunks that are made as they are needed, and that get smaller where the device has no memory for them: no
//! label depends on the pack.

use super::work::Work;
use crate::{Error, Result};
use std::cell::Cell;
use std::collections::VecDeque;

/// Forest rows that a pack may have: those of the settings, and less once the device had no memory for them.
#[derive(Debug)]
pub(super) struct PackRows {
    rows: Cell<usize>,
    least: usize,
}

impl PackRows {
    /// `rows` at first, and never fewer than `least`: a leaf.
    pub fn new(rows: usize, least: usize) -> Self {
        PackRows { rows: Cell::new(rows), least }
    }

    /// Rows of a pack today.
    pub fn get(&self) -> usize {
        self.rows.get()
    }

    /// Halves them after a pack of `filled` rows ended with `error`, and says so.
    ///
    /// # Errors
    /// `error`, where it is not that the device is out of memory, or where no smaller pack is left.
    pub fn shrink(&self, error: Error, filled: usize) -> Result<()> {
        let Error::DeviceMemory { device, problem, .. } = &error else { return Err(error) };
        // A pack that is not full is no larger for a larger limit.
        let now = self.rows.get().min(filled.max(self.least));
        if now <= self.least {
            return Err(error.with_memory_remedy(
                "no pack is small enough: take a smaller decoder, catalogue or history, or another --device",
            ));
        }
        let smaller = (now / 2).max(self.least);
        eprintln!(
            "a pack of {now} rows is too large for {device}: {problem}; going on with packs of {smaller} rows (as with \
             --pack-tokens {smaller}), the results are the same"
        );
        self.rows.set(smaller);
        Ok(())
    }
}

/// Cuts works into packs of at most the rows of today, in order; one work alone may exceed them.
pub(super) struct Packs<'a, I: Iterator<Item = Work>, R> {
    works: I,
    /// Ahead of `works`: what was put back, and what did not fit the pack before.
    waiting: VecDeque<Work>,
    rows: &'a PackRows,
    rows_of: R,
}

impl<'a, I: Iterator<Item = Work>, R: Fn(&Work) -> usize> Packs<'a, I, R> {
    /// Packs of `works`, each of `rows_of` it rows.
    pub fn new(works: I, rows: &'a PackRows, rows_of: R) -> Self {
        Packs { works, waiting: VecDeque::new(), rows, rows_of }
    }

    /// Has what is left of `pack` packed again, smaller, after it ended with `error`. `left` says what is left of a work.
    ///
    /// # Errors
    /// See [`PackRows::shrink`].
    pub fn again(
        &mut self,
        pack: Vec<Work>,
        error: Error,
        left: impl Fn(Work) -> Option<Work>,
    ) -> Result<()> {
        self.rows.shrink(error, pack.iter().map(&self.rows_of).sum())?;
        let left: Vec<Work> = pack.into_iter().filter_map(left).collect();
        left.into_iter().rev().for_each(|work| self.waiting.push_front(work));
        Ok(())
    }
}

impl<I: Iterator<Item = Work>, R: Fn(&Work) -> usize> Iterator for Packs<'_, I, R> {
    type Item = Vec<Work>;

    fn next(&mut self) -> Option<Vec<Work>> {
        let (mut pack, mut filled) = (Vec::new(), 0);
        while let Some(work) = self.waiting.pop_front().or_else(|| self.works.next()) {
            filled += (self.rows_of)(&work);
            if !pack.is_empty() && filled > self.rows.get() {
                self.waiting.push_front(work);
                break;
            }
            pack.push(work);
        }
        (!pack.is_empty()).then_some(pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(user: u32, items: u32) -> Work {
        let (history, actions) = ((0..items).collect(), (1..items + 1).collect());
        Work { user, history, owned: 0..items as usize, first_step: 0, actions }
    }

    fn shortage() -> Error {
        let (device, problem, remedy) = ("webgpu:0".into(), "none left".into(), String::new());
        Error::DeviceMemory { device, problem, needed: Some(1), limit: None, remedy }
    }

    fn users(pack: &[Work]) -> Vec<u32> {
        pack.iter().map(|work| work.user).collect()
    }

    #[test]
    fn a_pack_without_memory_comes_again_in_smaller_ones_and_every_work_once() {
        let rows = PackRows::new(64, 1);
        let mut packs = Packs::new((0..8).map(|user| work(user, 10)), &rows, |w| w.steps());
        let first = packs.next().unwrap();
        assert_eq!(users(&first), [0, 1, 2, 3, 4, 5]);
        // Users 0 and 1 were done, and three steps of user 2.
        let left = |work: Work| match work.user {
            0 | 1 => None,
            2 => work.only(3..usize::MAX),
            _ => Some(work),
        };
        packs.again(first, shortage(), left).unwrap();
        assert_eq!(rows.get(), 30);
        let rest: Vec<Vec<Work>> = packs.collect();
        assert_eq!(rest[0][0].first_step, 3);
        let found: Vec<Vec<u32>> = rest.iter().map(|pack| users(pack)).collect();
        assert_eq!(found, [vec![2, 3, 4], vec![5, 6, 7]]);
    }

    #[test]
    fn what_does_not_fit_at_the_smallest_and_other_errors_end_it() {
        let rows = PackRows::new(8, 2);
        rows.shrink(shortage(), 100).unwrap();
        rows.shrink(shortage(), 3).unwrap();
        assert_eq!(rows.get(), 2);
        let message = rows.shrink(shortage(), 100).unwrap_err().to_string();
        assert!(message.contains("no pack is small enough"), "{message}");
        let rows = PackRows::new(8, 2);
        assert!(rows.shrink(Error::shape("add", "no"), 100).is_err());
        assert_eq!(rows.get(), 8);
    }
}
