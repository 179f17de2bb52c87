//! Items that a user never met, sampled so that a draw depends on nothing but the seed, the user, the step and the
//! epoch: not on the order of users nor on the number of threads.

use super::dataset::Event;
use super::histories::Histories;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How negatives are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NegativeKind {
    /// Every item alike.
    Uniform,
    /// In proportion to the item's number of training events plus one, so that every item can be drawn.
    Popularity,
}

/// Draws negatives.
#[derive(Debug, Clone)]
pub struct NegativeSampler {
    start: ChaCha8Rng,
    /// Running sums of the items' weights; the last is the total.
    sums: Vec<u64>,
    kind: NegativeKind,
}

/// The items of `events`, ascending and once each. To keep test targets out of training, give only the events that
/// training may see.
pub fn met_items(events: &[Event]) -> Vec<u32> {
    let mut items: Vec<u32> = events.iter().map(|event| event.item).collect();
    items.sort_unstable();
    items.dedup();
    items
}

impl NegativeSampler {
    /// A sampler over the items `0..counts.len()`, `counts` being their numbers of training events.
    pub fn new(kind: NegativeKind, counts: &[u32], seed: u64) -> Self {
        let mut total = 0;
        let weight = |count: u32| match kind {
            NegativeKind::Uniform => 1,
            NegativeKind::Popularity => u64::from(count) + 1,
        };
        let add = |&count: &u32| {
            total += weight(count);
            total
        };
        let sums = counts.iter().map(add).collect();
        NegativeSampler { start: ChaCha8Rng::seed_from_u64(seed), sums, kind }
    }

    /// How this sampler draws.
    pub fn kind(&self) -> NegativeKind {
        self.kind
    }

    /// `count` different items outside `met` (ascending) for step `t` of `user` in `epoch`; appended to `out` in the
    /// order drawn, so that the first n of a larger draw are the draw of n.
    ///
    /// # Errors
    /// Fewer than `count` items that the user has not met.
    pub fn sample(
        &self,
        met: &[u32],
        (user, t, epoch): (u32, u32, u32),
        count: usize,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let first = out.len();
        out.resize(first + count, 0);
        let drawn = self.fill(met, (user, t, epoch), &mut out[first..]);
        if drawn.is_err() {
            out.truncate(first);
        }
        drawn
    }

    /// The same, as many as `out` has places.
    ///
    /// # Errors
    /// As [`NegativeSampler::sample`]; `out` stays as it was.
    pub fn fill(&self, met: &[u32], (user, t, epoch): (u32, u32, u32), out: &mut [u32]) -> Result<()> {
        let (count, left) = (out.len(), self.sums.len().saturating_sub(met.len()));
        if count > left {
            let problem =
                format!("{count} negatives are asked for, but user {user} has not met only {left} items");
            return Err(Error::setting(problem, "ask for fewer negatives, or give a larger catalogue"));
        }
        let mut rng = self.start.clone();
        rng.set_stream(u64::from(user) << 32 | u64::from(t));
        // One epoch never draws 2^20 words for one step, so epochs do not overlap.
        rng.set_word_pos(u128::from(epoch) << 20);
        for place in 0..count {
            out[place] = self.draw(met, &out[..place], &mut rng);
        }
        Ok(())
    }

    /// One item outside `met` and `drawn`: by rejection, and by going through what is left where that fails often.
    fn draw(&self, met: &[u32], drawn: &[u32], rng: &mut ChaCha8Rng) -> u32 {
        // A short list is gone through faster than it is halved.
        let is_met = |item: u32| match met.len() {
            0..=128 => met.contains(&item),
            _ => met.binary_search(&item).is_ok(),
        };
        let allowed = |item: u32| !is_met(item) && !drawn.contains(&item);
        let total = self.sums.last().copied().unwrap_or(0);
        for _ in 0..32 {
            let at = rng.random_range(0..total);
            let item = match self.kind {
                NegativeKind::Uniform => at as u32,
                NegativeKind::Popularity => self.sums.partition_point(|&sum| sum <= at) as u32,
            };
            if allowed(item) {
                return item;
            }
        }
        let weight =
            |item: u32| self.sums[item as usize] - item.checked_sub(1).map_or(0, |i| self.sums[i as usize]);
        let left: Vec<u32> = (0..self.sums.len() as u32).filter(|&item| allowed(item)).collect();
        let mut at = rng.random_range(0..left.iter().map(|&item| weight(item)).sum::<u64>());
        for &item in &left {
            match at.checked_sub(weight(item)) {
                Some(rest) => at = rest,
                None => return item,
            }
        }
        unreachable!("a number below the sum of weights falls to one of them")
    }
}

/// Makes sure that every user leaves `count` of `items` items unmet, before a long run finds out.
///
/// # Errors
/// The first user who has met too many.
pub fn check_unmet(users: &dyn Histories, items: usize, count: usize) -> Result<()> {
    for user in 0..users.count() as u32 {
        let left = items - met_items(&users.events(user)?).len();
        if left < count {
            let id = users.id(user)?;
            let problem =
                format!("{count} negatives are asked for, and user {id:?} has not met only {left} items");
            return Err(Error::setting(problem, "ask for fewer negatives, or give a larger catalogue"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SynthConfig, synthesise};

    #[test]
    fn a_user_who_has_met_nearly_all_is_named_before_anything_is_drawn() {
        let config = SynthConfig { items: 50, users: 6, mean_length: 9.0, seed: 1 };
        let dataset = synthesise(&config).unwrap().dataset;
        let met = |u: usize| {
            dataset.users[u].events.iter().map(|e| e.item).collect::<std::collections::BTreeSet<_>>()
        };
        let most = (0..6).map(|u| met(u).len()).max().unwrap();
        check_unmet(&dataset, 50, 50 - most).unwrap();
        let message = check_unmet(&dataset, 50, 51 - most).unwrap_err().to_string();
        assert!(message.contains(&format!("has not met only {} items", 50 - most)), "{message}");
    }

    fn draw(sampler: &NegativeSampler, met: &[u32], place: (u32, u32, u32), count: usize) -> Vec<u32> {
        let mut out = Vec::new();
        sampler.sample(met, place, count, &mut out).unwrap();
        out
    }

    #[test]
    fn negatives_are_different_items_that_the_user_never_met() {
        let met = [0, 3, 4, 9];
        for kind in [NegativeKind::Uniform, NegativeKind::Popularity] {
            let sampler = NegativeSampler::new(kind, &[1000, 0, 1, 5000, 2, 0, 7, 1, 1, 9000], 1);
            for t in 0..200 {
                let mut drawn = draw(&sampler, &met, (5, t, 0), 6);
                drawn.sort_unstable();
                assert_eq!(drawn, [1, 2, 5, 6, 7, 8]);
            }
            assert!(sampler.sample(&met, (5, 0, 0), 7, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_draw_depends_on_seed_user_step_and_epoch_alone() {
        let sampler = NegativeSampler::new(NegativeKind::Uniform, &[1; 1000], 11);
        let drawn = draw(&sampler, &[], (1, 2, 3), 8);
        for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)] {
            assert_ne!(drawn, draw(&sampler, &[], other, 8));
        }
        assert_eq!(drawn, draw(&sampler, &[], (1, 2, 3), 8));
        assert_eq!(drawn[..3], draw(&sampler, &[], (1, 2, 3), 3));
        let reseeded = NegativeSampler::new(NegativeKind::Uniform, &[1; 1000], 12);
        assert_ne!(drawn, draw(&reseeded, &[], (1, 2, 3), 8));
    }

    #[test]
    fn shares_follow_the_kind() {
        let counts = [89, 9, 0];
        let share = |kind, item| {
            let sampler = NegativeSampler::new(kind, &counts, 5);
            (0..6000).filter(|&t| draw(&sampler, &[], (0, t, 0), 1)[0] == item).count() as f64 / 6000.0
        };
        let expected = [(0, 1.0 / 3.0, 0.89), (1, 1.0 / 3.0, 0.1), (2, 1.0 / 3.0, 0.01)];
        for (item, uniform, popular) in expected {
            // Three standard deviations of 6000 draws.
            let near = |found: f64, p: f64| (found - p).abs() < 3.0 * (p * (1.0 - p) / 6000.0).sqrt();
            assert!(near(share(NegativeKind::Uniform, item), uniform));
            // Popularity adds one to every count: 90, 10 and 1 of 101.
            assert!((share(NegativeKind::Popularity, item) - popular).abs() < 0.02);
        }
    }
}
