//! Histories cut into trunks: the unit of LE training and labelling.

use crate::data::{Event, segments};
use std::ops::Range;

/// One trunk: a segment of a user's history and the steps that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The user.
    pub user: u32,
    /// Items that the trunk reads.
    pub history: Vec<u32>,
    /// Trunk rows whose steps count.
    pub owned: Range<usize>,
    /// Step t of the first of them.
    pub first_step: usize,
    /// The observed action of each.
    pub actions: Vec<u32>,
}

impl Work {
    /// The trunks of a user's leading `events`; step t is row t's, its action the item of event t + 1.
    pub fn of_user(user: u32, events: &[Event], history: usize) -> Vec<Work> {
        let steps = events.len().saturating_sub(1);
        if steps == 0 {
            return Vec::new();
        }
        let items = |range: Range<usize>| events[range].iter().map(|e| e.item).collect();
        let cut = segments(steps, history).into_iter();
        cut.map(|s| Work {
            user,
            owned: s.owns.start - s.reads.start..s.owns.end - s.reads.start,
            first_step: s.owns.start,
            actions: items(s.owns.start + 1..s.owns.end + 1),
            history: items(s.reads),
        })
        .collect()
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.owned.len()
    }

    /// The trunk with those alone of its steps that are among `steps`, the others as history only; `None` where none is.
    pub fn only(mut self, steps: Range<usize>) -> Option<Work> {
        let first = steps.start.max(self.first_step);
        let end = steps.end.min(self.first_step + self.steps());
        if first >= end {
            return None;
        }
        let ahead = first - self.first_step;
        self.actions.truncate(end - self.first_step);
        self.actions.drain(..ahead);
        self.owned = self.owned.start + ahead..self.owned.start + end - self.first_step;
        self.first_step = first;
        Some(self)
    }

    /// What of it follows step t of the user of `last`; works come in the order of users and steps.
    pub fn after(self, last: Option<(u32, u32)>) -> Option<Work> {
        match last {
            Some((user, _)) if self.user < user => None,
            Some((user, t)) if user == self.user => self.only(t as usize + 1..usize::MAX),
            _ => Some(self),
        }
    }

    /// Rows of the forest that this trunk fills with `actions` a step, each of `leaf` rows, behind `stem` rows.
    pub fn rows(&self, actions: usize, leaf: usize, stem: usize) -> usize {
        self.history.len() + self.steps() * (stem + actions * leaf)
    }
}

/// Cuts `works` into packs of at most `budget` rows, in order; one work alone may exceed it.
pub fn packs(works: &[Work], budget: usize, rows: impl Fn(&Work) -> usize) -> Vec<Range<usize>> {
    let mut packs: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (i, work) in works.iter().enumerate() {
        let rows = rows(work);
        match packs.last_mut() {
            Some(pack) if filled + rows <= budget => pack.end = i + 1,
            _ => {
                packs.push(i..i + 1);
                filled = 0;
            }
        }
        filled += rows;
    }
    packs
}

/// Cuts `steps` steps into as few groups as have at most `budget` leaf rows each, of even length; one step alone may
/// exceed it. A pack whose leaves are more than a pass holds is scored group by group, so that what a step needs is
/// held for one group at a time.
pub(super) fn step_groups(
    steps: usize,
    rows_per_step: usize,
    budget: usize,
) -> impl Iterator<Item = Range<usize>> {
    let most = (budget / rows_per_step.max(1)).max(1);
    let groups = steps.div_ceil(most);
    (0..groups).map(move |i| i * steps / groups..(i + 1) * steps / groups)
}

/// User and step number of every step.
pub(super) fn steps_of(works: &[Work]) -> impl Iterator<Item = (u32, u32)> + '_ {
    works.iter().flat_map(|w| (0..w.steps()).map(|i| (w.user, (w.first_step + i) as u32)))
}

#[cfg(test)]
mod tests {
    use super::super::packing::{PackRows, Packs};
    use super::*;
    use crate::data::Feedback;

    #[test]
    fn every_step_of_a_long_history_has_one_trunk_and_its_action() {
        let events: Vec<Event> = (0..12).map(|item| Event { item, kind: Feedback::Other }).collect();
        let works = Work::of_user(3, &events, 4);
        let mut steps = Vec::new();
        for work in &works {
            assert!(work.history.len() <= 4);
            for (i, row) in work.owned.clone().enumerate() {
                let step = work.first_step + i;
                assert_eq!(work.history[row], step as u32);
                assert_eq!(work.actions[i], step as u32 + 1);
                steps.push(step);
            }
        }
        assert_eq!(steps, (0..11).collect::<Vec<_>>());
        assert!(Work::of_user(3, &events[..1], 4).is_empty());
    }

    #[test]
    fn packs_hold_the_budget_and_every_work_once() {
        let events: Vec<Event> = (0..30).map(|item| Event { item, kind: Feedback::Other }).collect();
        let works: Vec<Work> = (2..30).flat_map(|n| Work::of_user(n, &events[..n as usize], 100)).collect();
        let rows = |w: &Work| w.rows(3, 1, 0);
        let cut = packs(&works, 50, rows);
        assert_eq!(
            cut.iter().flat_map(|p| p.clone()).collect::<Vec<_>>(),
            (0..works.len()).collect::<Vec<_>>()
        );
        for pack in &cut {
            let filled: usize = works[pack.clone()].iter().map(rows).sum();
            assert!(filled <= 50 || pack.len() == 1);
        }
        let most = PackRows::new(50, 1);
        let streamed: Vec<Vec<Work>> = Packs::new(works.iter().cloned(), &most, rows).collect();
        assert_eq!(streamed, cut.into_iter().map(|pack| works[pack].to_vec()).collect::<Vec<_>>());
    }

    #[test]
    fn groups_hold_the_budget_and_every_step_once() {
        for (steps, rows, budget) in
            [(0, 3, 10), (7, 3, 10), (7, 3, 9), (7, 30, 10), (7, 1, 100), (50, 111, 8192)]
        {
            let groups: Vec<Range<usize>> = step_groups(steps, rows, budget).collect();
            assert_eq!(groups.iter().cloned().flatten().collect::<Vec<_>>(), (0..steps).collect::<Vec<_>>());
            assert!(groups.iter().all(|g| g.len() == 1 || g.len() * rows <= budget));
            assert!(groups.iter().all(|g| !g.is_empty()));
        }
    }

    #[test]
    fn a_trunk_of_some_of_its_steps_has_their_actions_and_the_same_history() {
        let events: Vec<Event> = (0..9).map(|item| Event { item, kind: Feedback::Other }).collect();
        for work in Work::of_user(3, &events, 4) {
            assert_eq!(work.clone().only(0..100), Some(work.clone()));
            let end = work.first_step + work.steps();
            for first in work.first_step..end {
                assert_eq!(work.clone().only(0..work.first_step), None);
                assert_eq!(work.clone().only(end..end + 3), None);
                for last in first..end {
                    let less = work.clone().only(first..last + 1).unwrap();
                    assert_eq!((&less.history, less.steps()), (&work.history, last + 1 - first));
                    assert_eq!(less.first_step - less.owned.start, work.first_step - work.owned.start);
                    assert_eq!(less.first_step, first);
                    let of = |step: usize| step - work.first_step;
                    assert_eq!(less.actions, work.actions[of(first)..=of(last)]);
                }
            }
        }
    }
}
