//! What the LE says about every step, as the trainer reads it: plain vectors in memory.

use super::config::RewardScale;
use crate::le::{LabelSet, RewardStatistics};
use crate::{Error, Result};
use std::ops::Range;

/// Labels of the steps of some or all users. Step t of a user is the one that observes `events[t + 1]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    /// First label of every user, and the total at the end: `[users + 1]`. A user without labels has an empty range;
    /// one with labels has them for steps 0, 1, 2 … without a gap.
    pub offsets: Vec<usize>,
    /// Width of a state; 0 where there are none.
    pub state_dim: usize,
    /// Negatives a step.
    pub negatives: usize,
    /// r(s_t, a⁺), `[steps]`.
    pub rewards: Vec<f32>,
    /// s_t, `[steps, state_dim]`.
    pub states: Vec<f32>,
    /// Sampled negatives, `[steps, negatives]`.
    pub negative_items: Vec<u32>,
    /// Their rewards, `[steps, negatives]`.
    pub negative_rewards: Vec<f32>,
    /// a_t^e, `[steps]`; empty where none were chosen.
    pub augmented_items: Vec<u32>,
    /// r(s_t, a_t^e), `[steps]`.
    pub augmented_rewards: Vec<f32>,
    /// Hidden vectors at the leaves of a_t^e, `[steps, state_dim]`; empty where they were not kept.
    pub augmented_states: Vec<f32>,
    /// Mean and deviation of r(s_t, a⁺) over the training steps, by which standardised rewards are scaled.
    pub statistics: RewardStatistics,
}

impl From<LabelSet> for Labels {
    fn from(set: LabelSet) -> Self {
        let (header, statistics, labels) = (set.manifest.header, set.manifest.rewards, set.labels);
        Labels {
            offsets: set.offsets,
            state_dim: header.state_dim,
            negatives: header.negatives,
            rewards: labels.reward,
            states: labels.state,
            negative_items: labels.negatives,
            negative_rewards: labels.negative_rewards,
            augmented_items: labels.augmented_action,
            augmented_rewards: labels.augmented_reward,
            augmented_states: labels.augmented_state,
            statistics,
        }
    }
}

/// The affine map and squashing of rewards before they enter the Q-loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardMap {
    sigmoid: bool,
    mean: f64,
    deviation: f64,
}

impl RewardMap {
    /// The map of `scale`, which for [`RewardScale::Standardised`] is that of `statistics`.
    pub fn new(scale: RewardScale, statistics: RewardStatistics) -> Self {
        let (sigmoid, standardised) = match scale {
            RewardScale::Raw => (false, false),
            RewardScale::Sigmoid => (true, false),
            RewardScale::Standardised => (true, true),
        };
        if !standardised {
            return RewardMap { sigmoid, mean: 0.0, deviation: 1.0 };
        }
        // Rewards that are all equal carry nothing: they map to σ(0).
        let deviation = if statistics.deviation > 0.0 { statistics.deviation } else { 1.0 };
        RewardMap { sigmoid, mean: statistics.mean, deviation }
    }

    /// The reward that the Q-loss sees.
    pub fn map(&self, reward: f32) -> f64 {
        let standard = (f64::from(reward) - self.mean) / self.deviation;
        if self.sigmoid { 1.0 / (1.0 + (-standard).exp()) } else { standard }
    }
}

impl Labels {
    /// The labels of `user`, as positions in the vectors.
    ///
    /// # Errors
    /// Fewer labels than the `steps` that the user trains on.
    pub fn of_user(&self, user: u32, steps: usize) -> Result<Range<usize>> {
        let user = user as usize;
        let range = match self.offsets.get(user..user + 2) {
            Some(ends) => ends[0]..ends[1],
            None => 0..0,
        };
        if range.len() < steps {
            let problem = format!("user {user} trains on {steps} steps and has labels for {}", range.len());
            return Err(Error::setting(problem, "label the data again, with the filters that training uses"));
        }
        Ok(range.start..range.start + steps)
    }

    /// Checks lengths, and items against the catalogue's size.
    ///
    /// # Errors
    /// The name of the vector that does not fit.
    pub fn validate(&self, items: usize) -> Result<()> {
        let remedy = "label the data again";
        let steps = self.offsets.last().copied().unwrap_or(0);
        if self.offsets.is_empty() || self.offsets[0] != 0 || !self.offsets.is_sorted() {
            return Err(Error::setting("the users' offsets of the labels do not ascend from 0", remedy));
        }
        let lengths = [
            ("rewards", self.rewards.len(), steps, false),
            ("states", self.states.len(), steps * self.state_dim, false),
            ("negative items", self.negative_items.len(), steps * self.negatives, false),
            ("negative rewards", self.negative_rewards.len(), steps * self.negatives, false),
            ("augmented items", self.augmented_items.len(), steps, true),
            ("augmented rewards", self.augmented_rewards.len(), self.augmented_items.len(), false),
            ("augmented states", self.augmented_states.len(), steps * self.state_dim, true),
        ];
        for (name, found, expected, optional) in lengths {
            if found != expected && !(optional && found == 0) {
                let problem = format!("the labels have {found} {name}, expected {expected}");
                return Err(Error::setting(problem, remedy));
            }
        }
        let mut all = self.negative_items.iter().chain(&self.augmented_items);
        if let Some(item) = all.find(|&&item| item as usize >= items) {
            let problem = format!("the labels name item {item} of a catalogue of {items}");
            return Err(Error::setting(problem, "give the labels of this data set"));
        }
        if !(self.statistics.mean.is_finite() && self.statistics.deviation.is_finite()) {
            return Err(Error::setting(
                "mean or deviation of the labels' rewards is no finite number",
                remedy,
            ));
        }
        let floats = [&self.rewards, &self.states, &self.negative_rewards, &self.augmented_rewards];
        if floats.into_iter().chain([&self.augmented_states]).flatten().any(|x| !x.is_finite()) {
            return Err(Error::setting("a reward or state of the labels is not a finite number", remedy));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels {
            offsets: vec![0, 2, 2, 3],
            state_dim: 2,
            negatives: 1,
            rewards: vec![1.0, 2.0, 3.0],
            states: vec![0.5; 6],
            negative_items: vec![0, 1, 2],
            negative_rewards: vec![-1.0; 3],
            augmented_items: vec![2, 1, 0],
            augmented_rewards: vec![4.0; 3],
            augmented_states: Vec::new(),
            statistics: RewardStatistics::default(),
        }
    }

    #[test]
    fn users_find_their_labels_and_miss_what_is_not_there() {
        let labels = labels();
        labels.validate(3).unwrap();
        assert_eq!(labels.of_user(0, 2).unwrap(), 0..2);
        assert_eq!(labels.of_user(0, 1).unwrap(), 0..1);
        assert_eq!(labels.of_user(2, 1).unwrap(), 2..3);
        for (user, steps) in [(1, 1), (0, 3), (3, 1), (u32::MAX, 1)] {
            let message = labels.of_user(user, steps).unwrap_err().to_string();
            assert!(message.contains(&format!("user {user} trains on {steps} steps")), "{message}");
        }
    }

    #[test]
    fn labels_that_do_not_fit_are_refused_by_name() {
        let broken = |change: fn(&mut Labels)| {
            let mut labels = labels();
            change(&mut labels);
            labels.validate(3).unwrap_err().to_string()
        };
        assert!(broken(|l| l.rewards.truncate(2)).contains("2 rewards, expected 3"));
        assert!(broken(|l| l.states.push(0.0)).contains("7 states, expected 6"));
        assert!(broken(|l| l.negative_items[1] = 3).contains("item 3 of a catalogue of 3"));
        assert!(broken(|l| l.augmented_rewards.clear()).contains("0 augmented rewards, expected 3"));
        assert!(broken(|l| l.offsets[1] = 9).contains("offsets"));
        assert!(broken(|l| l.states[3] = f32::NAN).contains("not a finite number"));
    }

    #[test]
    fn standardised_rewards_are_centred_on_the_observed_actions() {
        let observed = RewardStatistics { steps: 2, mean: 2.0, deviation: 1.0 };
        let map = RewardMap::new(RewardScale::Standardised, observed);
        assert!((map.map(2.0) - 0.5).abs() < 1e-12);
        assert!((map.map(3.0) - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-12);
        let equal = RewardStatistics { steps: 4, mean: 7.0, deviation: 0.0 };
        let equal = RewardMap::new(RewardScale::Standardised, equal);
        assert_eq!(equal.map(7.0), 0.5);
        assert_eq!(RewardMap::new(RewardScale::Raw, observed).map(-3.5), -3.5);
        assert_eq!(RewardMap::new(RewardScale::Sigmoid, observed).map(0.0), 0.5);
    }
}
