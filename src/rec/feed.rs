//! What one optimiser step learns from: a batch, and the rewards, negatives, states and augmented actions of its steps.

use super::batch::{Batch, UserSteps};
use super::config::{NextState, RecConfig};
use super::labels::{Labels, RewardMap};
use crate::data::{NegativeKind, NegativeSampler};
use crate::{Error, Result};
use rayon::prelude::*;

/// Everything about the steps of a batch, on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepData {
    /// Rows and observed actions.
    pub batch: Batch,
    /// Rewards of the observed actions as the Q-loss sees them, `[steps]`.
    pub rewards: Vec<f64>,
    /// Negatives a step, k.
    pub negatives_each: usize,
    /// Negative actions, `[steps, k]`.
    pub negatives: Vec<u32>,
    /// Their rewards, `[steps, k]`.
    pub negative_rewards: Vec<f64>,
    /// The LE's states, `[steps, state_dim]`; empty where they are not read.
    pub states: Vec<f32>,
    /// Augmented actions, `[steps]`; empty where they are not trained.
    pub augmented: Vec<u32>,
    /// Their rewards, `[steps]`.
    pub augmented_rewards: Vec<f64>,
    /// The states that they lead to, where those are wanted.
    pub leaves: Option<Leaves>,
}

/// The states after the augmented actions: one sequence a step, its history with the action appended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaves {
    /// Length of every sequence.
    pub lengths: Vec<usize>,
    /// Items, sequence after sequence.
    pub items: Vec<u32>,
    /// The row that stands for the state: the last of every sequence.
    pub rows: Vec<u32>,
    /// The LE's hidden vectors at the leaves, `[steps, state_dim]`; empty where the LE's states are not read.
    pub states: Vec<f32>,
}

/// Makes the data of optimiser steps out of users and labels.
pub struct Feed<'a> {
    config: &'a RecConfig,
    users: &'a [UserSteps],
    labels: Option<&'a Labels>,
    map: RewardMap,
    sampler: NegativeSampler,
    /// Items that every user met, ascending.
    met: Vec<Vec<u32>>,
    /// First label of every user.
    starts: Vec<usize>,
    negatives: usize,
}

impl<'a> Feed<'a> {
    /// Of the training `users` over `items` items.
    ///
    /// # Errors
    /// Labels that `config` needs and that are not there, or do not fit the users or the catalogue.
    pub fn new(
        config: &'a RecConfig,
        users: &'a [UserSteps],
        items: usize,
        labels: Option<&'a Labels>,
    ) -> Result<Self> {
        let labels = labels.filter(|_| config.needs_labels());
        let starts = match labels {
            Some(labels) => {
                labels.validate(items)?;
                users.iter().map(|u| Ok(labels.of_user(u.user, u.steps())?.start)).collect::<Result<_>>()?
            }
            None => vec![0; users.len()],
        };
        let met = |user: &UserSteps| {
            let mut items = user.items.clone();
            items.sort_unstable();
            items.dedup();
            items
        };
        let feed = Feed {
            map: RewardMap::new(config.reward_scale, labels.map(|l| l.statistics).unwrap_or_default()),
            sampler: NegativeSampler::new(NegativeKind::Uniform, &vec![0; items], config.seed),
            met: users.iter().map(met).collect(),
            negatives: negatives_each(config, labels)?,
            config,
            users,
            labels,
            starts,
        };
        feed.check()?;
        Ok(feed)
    }

    fn check(&self) -> Result<()> {
        let (config, remedy) = (self.config, "give labels that hold them, or switch the setting off");
        let Some(labels) = self.labels else {
            return match config.needs_labels() {
                true => Err(Error::setting(
                    format!("the variant {} is trained on labels, and none are given", config.variant_name()),
                    "name a folder with --labels, or choose --variant base",
                )),
                false => Ok(()),
            };
        };
        let augmented = config.alpha_used() > 0.0 || config.beta_used() > 0.0;
        let leaf = config.beta_used() > 0.0 && config.augmented_next == NextState::Leaf && config.state;
        let missing = [
            (config.state && labels.state_dim == 0, "state is on, and the labels hold no states"),
            (
                config.reward && config.framework.has_negatives() && labels.negatives == 0,
                "reward is on, and the labels hold no negatives",
            ),
            (
                augmented && labels.augmented_items.is_empty(),
                "alpha or beta is set, and the labels hold no augmented actions",
            ),
            (
                leaf && labels.augmented_states.is_empty(),
                "augmented_next is leaf, and the labels hold no states of the leaves",
            ),
        ];
        match missing.into_iter().find(|(missing, _)| *missing) {
            Some((_, problem)) => Err(Error::setting(problem, remedy)),
            None => Ok(()),
        }
    }

    /// The data of one optimiser step on the users at `indices`; negatives that are not labelled are drawn anew in
    /// every `epoch`.
    pub fn step(&self, indices: &[usize], epoch: u32) -> Result<StepData> {
        let mut data = StepData { negatives_each: self.negatives, ..StepData::default() };
        for &index in indices {
            self.push_user(index, &mut data);
        }
        if self.labels.is_none() || !self.config.reward {
            self.draw(indices, epoch, &mut data.negatives)?;
        }
        Ok(data)
    }

    /// Draws the negatives of all steps of the users at `indices`, `[steps, k]`.
    fn draw(&self, indices: &[usize], epoch: u32, mut negatives: &mut [u32]) -> Result<()> {
        let k = self.negatives;
        if k == 0 {
            return Ok(());
        }
        let mut of_users = Vec::with_capacity(indices.len());
        for &index in indices {
            let (own, others) = negatives.split_at_mut(self.users[index].steps() * k);
            of_users.push((index, own));
            negatives = others;
        }
        of_users.into_par_iter().with_min_len(8).try_for_each(|(index, negatives)| {
            negatives.chunks_exact_mut(k).enumerate().try_for_each(|(t, negatives)| {
                let place = (self.users[index].user, t as u32, epoch);
                self.sampler.fill(&self.met[index], place, negatives)
            })
        })
    }

    /// All that is known of the user's steps, and room for negatives that are not labelled.
    fn push_user(&self, index: usize, data: &mut StepData) {
        let (user, start) = (&self.users[index], self.starts[index]);
        let steps = start..start + user.steps();
        data.batch.push(user, self.config.history);
        match self.labels.filter(|_| self.config.reward) {
            Some(labels) => {
                data.rewards.extend(labels.rewards[steps.clone()].iter().map(|&r| self.map.map(r)));
                for step in steps.clone() {
                    let places = step * labels.negatives..step * labels.negatives + self.negatives;
                    data.negatives.extend_from_slice(&labels.negative_items[places.clone()]);
                    let rewards = &labels.negative_rewards[places];
                    data.negative_rewards.extend(rewards.iter().map(|&r| self.map.map(r)));
                }
            }
            None => {
                data.rewards.extend(user.rewards.iter().map(|&r| f64::from(r)));
                let steps = data.negatives.len() + user.steps() * self.negatives;
                data.negatives.resize(steps, 0);
                data.negative_rewards.resize(steps, 0.0);
            }
        }
        if let Some(labels) = self.labels {
            self.push_labels(labels, user, steps, data);
        }
    }

    fn push_labels(
        &self,
        labels: &Labels,
        user: &UserSteps,
        steps: std::ops::Range<usize>,
        data: &mut StepData,
    ) {
        let (config, dim) = (self.config, labels.state_dim);
        let states = steps.start * dim..steps.end * dim;
        if config.state {
            data.states.extend_from_slice(&labels.states[states.clone()]);
        }
        if config.alpha_used() > 0.0 || config.beta_used() > 0.0 {
            data.augmented.extend_from_slice(&labels.augmented_items[steps.clone()]);
            let rewards = &labels.augmented_rewards[steps.clone()];
            data.augmented_rewards.extend(rewards.iter().map(|&r| self.map.map(r)));
        }
        if config.beta_used() > 0.0 && config.augmented_next == NextState::Leaf {
            let leaves = data.leaves.get_or_insert_default();
            leaves.push(user, &labels.augmented_items[steps], config.history);
            if config.state {
                leaves.states.extend_from_slice(&labels.augmented_states[states]);
            }
        }
    }
}

/// Negatives a step: as many as `config` asks for.
///
/// # Errors
/// Fewer labelled ones: variants that train on different numbers of negatives could not be compared.
fn negatives_each(config: &RecConfig, labels: Option<&Labels>) -> Result<usize> {
    match labels {
        _ if !config.framework.has_negatives() => Ok(0),
        Some(labels) if config.reward && config.negatives > labels.negatives => {
            let (asked, there) = (config.negatives, labels.negatives);
            Err(Error::setting(
                format!("negatives is {asked}, and the labels have rewards of {there} a step"),
                "train every variant with as many as there are, or label with more (le.label.negatives)",
            ))
        }
        _ => Ok(config.negatives),
    }
}

impl Leaves {
    /// For every step t of `user`, the last `history` items of `items[..=t]` with `actions[t]` appended.
    fn push(&mut self, user: &UserSteps, actions: &[u32], history: usize) {
        for (t, &action) in actions.iter().enumerate() {
            let first = (t + 2).saturating_sub(history);
            self.items.extend_from_slice(&user.items[first.min(t + 1)..t + 1]);
            self.items.push(action);
            self.lengths.push(t + 2 - first.min(t + 1));
            self.rows.push(self.items.len() as u32 - 1);
        }
    }
}
