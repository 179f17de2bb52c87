//! Filters between reading and use: adjacent repeats, short users, k-core.

use super::dataset::Dataset;
use serde::{Deserialize, Serialize};

/// What to leave out. All off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Drop an event whose item is that of the user's event just before it; a run keeps its first event.
    pub drop_repeats: bool,
    /// Drop users with fewer events than this (after repeats went); 0 and 1 keep all.
    pub min_length: usize,
    /// Drop users and items with fewer than this many events, again and again until none is left; 0 is off.
    /// Only this filter takes items out of the catalogue.
    pub core: usize,
}

/// What the filters dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterReport {
    /// Events dropped as adjacent repeats.
    pub repeats: usize,
    /// Users dropped as too short.
    pub short_users: usize,
    /// Users dropped by the k-core.
    pub core_users: usize,
    /// Items dropped by the k-core.
    pub core_items: usize,
    /// All events dropped, for whatever reason.
    pub events: usize,
}

impl FilterReport {
    /// One line for people, or `None` if nothing was dropped.
    pub fn line(&self) -> Option<String> {
        let parts = [
            (self.repeats, "adjacent repeats"),
            (self.short_users, "users as too short"),
            (self.core_users, "users outside the k-core"),
            (self.core_items, "items outside the k-core"),
            (self.events, "events in all"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        (!parts.is_empty()).then(|| format!("dropped {}", parts.join(", ")))
    }
}

impl Filters {
    /// Applies the filters in the order repeats, length, k-core; users left without events go too.
    pub fn apply(&self, dataset: &mut Dataset) -> FilterReport {
        let before = dataset.interactions();
        let mut report = FilterReport::default();
        if self.drop_repeats {
            dataset.users.iter_mut().for_each(|user| user.events.dedup_by_key(|event| event.item));
            report.repeats = before - dataset.interactions();
        }
        let users = dataset.users.len();
        dataset.users.retain(|user| user.events.len() >= self.min_length.max(1));
        report.short_users = users - dataset.users.len();
        if self.core > 0 {
            self.keep_core(dataset, &mut report);
        }
        report.events = before - dataset.interactions();
        report
    }

    fn keep_core(&self, dataset: &mut Dataset, report: &mut FilterReport) {
        let (users, items) = (dataset.users.len(), dataset.items.len());
        let mut kept = vec![true; items];
        loop {
            let mut counts = vec![0usize; items];
            dataset
                .users
                .iter()
                .flat_map(|user| &user.events)
                .for_each(|event| counts[event.item as usize] += 1);
            let (users_now, mut changed) = (dataset.users.len(), false);
            for (keep, count) in kept.iter_mut().zip(&counts) {
                changed |= *keep && *count < self.core;
                *keep = *count >= self.core;
            }
            dataset.users.iter_mut().for_each(|user| user.events.retain(|event| kept[event.item as usize]));
            dataset.users.retain(|user| user.events.len() >= self.core);
            if !changed && dataset.users.len() == users_now {
                break;
            }
        }
        renumber(dataset, &kept);
        report.core_users = users - dataset.users.len();
        report.core_items = items - dataset.items.len();
    }
}

/// Takes the items that are not `kept` out of the catalogue; no event may name one.
fn renumber(dataset: &mut Dataset, kept: &[bool]) {
    let mut next = 0;
    let number: Vec<u32> = kept
        .iter()
        .map(|&keep| {
            if keep {
                next += 1;
                next - 1
            } else {
                u32::MAX
            }
        })
        .collect();
    let mut keep = kept.iter();
    dataset.items.retain(|_| *keep.next().unwrap_or(&true));
    for event in dataset.users.iter_mut().flat_map(|user| &mut user.events) {
        event.item = number[event.item as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::super::dataset::tests::small;
    use super::*;

    fn items(dataset: &Dataset) -> Vec<Vec<u32>> {
        dataset.users.iter().map(|user| user.events.iter().map(|event| event.item).collect()).collect()
    }

    #[test]
    fn only_adjacent_repeats_go_and_short_users_after_them() {
        let mut dataset = small(3, &[&[0, 0, 1, 0, 0], &[2, 2, 2], &[1, 2]]);
        let report = Filters { drop_repeats: true, min_length: 2, core: 0 }.apply(&mut dataset);
        assert_eq!(items(&dataset), [vec![0, 1, 0], vec![1, 2]]);
        assert_eq!(report, FilterReport { repeats: 4, short_users: 1, events: 5, ..Default::default() });
        assert_eq!(dataset.items.len(), 3);
        assert_eq!(
            report.line().unwrap(),
            "dropped 4 adjacent repeats, 1 users as too short, 5 events in all"
        );
    }

    #[test]
    fn the_core_is_stable_and_items_keep_their_identity() {
        // Item 3 has one event; without it user 2 is too short; without user 2, item 1 is.
        let mut dataset = small(4, &[&[0, 2], &[2, 0, 0], &[1, 3], &[1, 0, 2]]);
        let report = Filters { core: 2, ..Default::default() }.apply(&mut dataset);
        assert_eq!(items(&dataset), [vec![0, 1], vec![1, 0, 0], vec![0, 1]]);
        let ids: Vec<&str> = dataset.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["i0", "i2"]);
        assert_eq!((report.core_users, report.core_items, report.events), (1, 2, 3));
        let again = dataset.clone();
        assert_eq!(Filters { core: 2, ..Default::default() }.apply(&mut dataset), FilterReport::default());
        assert_eq!(dataset, again);
    }

    #[test]
    fn an_impossible_core_leaves_nothing_and_ends() {
        let mut dataset = small(2, &[&[0, 1], &[1]]);
        Filters { core: 9, ..Default::default() }.apply(&mut dataset);
        assert!(dataset.users.is_empty() && dataset.items.is_empty());
    }
}
