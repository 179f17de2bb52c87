//! The loss of one optimiser step: L = L_s + L_q + α·L_ah + β·L_aq, each a mean over the steps of the batch.
//!
//! Two networks take part in Q-learning: the one that is trained, and another that only values next states. Their
//! roles are swapped at random by the trainer, as in the published code of SQN. The other network runs without dropout;
//! the trained one chooses the next action from the same (noisy) pass that is trained, so that it runs only once.

use super::config::{Framework, NextState, RecConfig};
use super::feed::{Leaves, StepData};
use super::frameworks::{sa2c, snqn, sqn};
use super::layout::Layout;
use super::network::Network;
use super::noise::Noise;
use crate::autograd::{Var, apply, no_grad};
use crate::ops::add::Add;
use crate::ops::td_targets::{NO_SOURCE, td_targets};
use crate::ops::{ConcatRows, DotWeights, Embedding, Mean, Reshape, TdLoss};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The loss, and its parts for the metrics stream.
pub struct Objective {
    /// What is minimised, `[1]`.
    pub loss: Var,
    /// Mean cross-entropy of the observed actions, not weighted by advantages, `[1]`.
    pub supervised: Tensor,
    /// Sum of the Q-losses with their weights, `[1]`, for a framework with a Q head.
    pub q: Option<Tensor>,
}

/// The loss of `main` on `data`; `other` values the next states, for a framework with a Q head. `step` counts
/// optimiser steps from 0.
///
/// # Errors
/// Shapes that do not fit, and a Q-learning framework without the other network.
pub fn objective(
    main: &Network,
    other: Option<&Network>,
    data: &StepData,
    noise: &Noise,
    step: u64,
) -> Result<Objective> {
    let config = main.config();
    let batch = &data.batch;
    let packed = Packed::new(main, &batch.lengths, &batch.items, &batch.rows)?;
    let h = packed.hidden(main, noise)?;
    let learned = match (config.framework.has_q(), other) {
        (false, _) => None,
        (true, Some(other)) => Some(q_loss(&Pair { main, other }, data, &packed, &h)?),
        (true, None) => {
            return Err(Error::setting(
                "Q-learning needs a second network",
                "give the one that values states",
            ));
        }
    };
    let advantages = match &learned {
        Some(q) if config.framework == Framework::Sa2c && step >= config.advantage_warmup => {
            let q = q.taken_and_negatives(data.negatives_each)?;
            Some(sa2c::clipped_advantages(&q, data.negatives_each, config.advantage_clip))
        }
        _ => None,
    };
    let (mut loss, supervised) = supervised_loss(main, data, &h, advantages.as_deref())?;
    let q = learned.as_ref().map(|q| q.loss.value().clone());
    if let Some(learned) = learned {
        loss = apply(Add, &[&loss, &learned.loss])?;
    }
    Ok(Objective { loss, supervised, q })
}

/// Packed rows on the device.
struct Packed {
    layout: Layout,
    ids: Tensor,
    /// The rows that are read, unless those are all.
    rows: Option<Tensor>,
}

impl Packed {
    fn new(network: &Network, lengths: &[usize], items: &[u32], rows: &[u32]) -> Result<Self> {
        let device = network.home().0;
        let all = rows.len() == items.len();
        Ok(Packed {
            layout: Layout::new(&device, lengths)?,
            ids: Tensor::from_ids(&device, items)?,
            rows: if all { None } else { Some(Tensor::from_ids(&device, rows)?) },
        })
    }

    /// Hidden vectors of the rows that are read.
    fn hidden(&self, network: &Network, noise: &Noise) -> Result<Var> {
        let h = network.hidden(&self.ids, &self.layout, noise)?;
        match &self.rows {
            None => Ok(h),
            Some(rows) => apply(Embedding::new(rows.clone()), &[&h]),
        }
    }
}

/// L_s, weighted by the advantages where they are given, + α·L_ah, and the mean of the cross-entropy alone.
///
/// The cross-entropy of an augmented action a^e differs from that of the observed one only by two logits, so the sum
/// over all items is computed once: CE(a^e) = CE(a⁺) + logit(a⁺) − logit(a^e).
fn supervised_loss(
    network: &Network,
    data: &StepData,
    h: &Var,
    advantages: Option<&[f64]>,
) -> Result<(Var, Tensor)> {
    let (device, dtype) = network.home();
    let alpha = network.config().alpha_used();
    let steps = data.batch.steps();
    let mean = 1.0 / steps as f64;
    let targets = Tensor::from_ids(&device, &data.batch.targets)?;
    let weight = |i| mean * (advantages.map_or(1.0, |advantages| advantages[i]) + alpha);
    let weights: Vec<f64> = (0..steps).map(weight).collect();
    let weights = Tensor::from_f64(&device, dtype, &weights, &[steps])?;
    let losses = network.losses(h, targets, weights.clone())?;
    let supervised = apply(Mean::new(), &[&losses.detach()])?.into_value();
    let loss = apply(DotWeights { weights }, &[&losses])?;
    if alpha == 0.0 {
        return Ok((loss, supervised));
    }
    let pairs: Vec<u32> =
        data.batch.targets.iter().zip(&data.augmented).flat_map(|(&a, &e)| [a, e]).collect();
    let logits = network.logits_of(h, Tensor::from_slice(&device, &pairs, &[steps, 2])?)?;
    let logits = apply(Reshape::new(&[2 * steps]), &[&logits])?;
    let difference = weighted_sum(network, &logits, [alpha * mean, -alpha * mean].repeat(steps))?;
    Ok((apply(Add, &[&loss, &difference])?, supervised))
}

struct Pair<'a> {
    main: &'a Network,
    other: &'a Network,
}

struct QLoss {
    loss: Var,
    /// Q-values `[steps, columns]` of the observed action, the negatives and, where it is trained, the augmented one.
    q: Tensor,
}

impl QLoss {
    /// Q-values `[steps, 1 + k]` of the observed action and the negatives, on the host.
    fn taken_and_negatives(&self, k: usize) -> Result<Vec<f64>> {
        let columns = self.q.shape()[1];
        let q = self.q.to_f64_vec()?;
        Ok(q.chunks_exact(columns).flat_map(|row| &row[..1 + k]).copied().collect())
    }
}

impl Pair<'_> {
    /// Q'(s, argmaxₐ Q(s, a)) of every state, `[states, 1]`, given what the main network's Q head reads there.
    fn values(&self, features: &Tensor, packed: &Packed, states: Option<&Tensor>) -> Result<Var> {
        no_grad(|| {
            let best = self.main.best_actions(features)?;
            let h = packed.hidden(self.other, &Noise::none())?;
            let features = self.other.q_features(&h, states)?;
            self.other.q_of(&features, best)
        })
    }

    /// The same of the states that the augmented actions lead to.
    fn leaf_values(&self, leaves: &Leaves) -> Result<Var> {
        let packed = Packed::new(self.main, &leaves.lengths, &leaves.items, &leaves.rows)?;
        let states = states(self.main, &leaves.states, leaves.rows.len())?;
        let features =
            no_grad(|| self.main.q_features(&packed.hidden(self.main, &Noise::none())?, states.as_ref()))?;
        self.values(features.value(), &packed, states.as_ref())
    }
}

/// L_q + β·L_aq. One gather serves all actions of a step: the observed one, the negatives, the augmented one.
fn q_loss(pair: &Pair, data: &StepData, packed: &Packed, h: &Var) -> Result<QLoss> {
    let (main, config) = (pair.main, pair.main.config());
    let (device, _) = main.home();
    let (steps, k) = (data.batch.steps(), data.negatives_each);
    let states = states(main, &data.states, steps)?;
    let features = main.q_features(h, states.as_ref())?;
    let mut values = pair.values(features.value(), packed, states.as_ref())?;

    let taken = sqn::next_states(&data.batch.terminal);
    let negatives = snqn::own_states(steps, k);
    let augmented = match (config.beta_used() > 0.0, config.augmented_next, &data.leaves) {
        (false, ..) => Vec::new(),
        (true, NextState::Leaf, Some(leaves)) => {
            // At a user's last step the episode ends whatever action is taken: nothing tells that another one would
            // have prolonged it, and a value there would set a^e above the observed action, whose target has none.
            values = apply(ConcatRows::new(), &[&values, &pair.leaf_values(leaves)?])?;
            let leaf = |(i, &ends): (usize, &bool)| if ends { NO_SOURCE } else { (steps + i) as u32 };
            data.batch.terminal.iter().enumerate().map(leaf).collect()
        }
        (true, ..) => taken.clone(),
    };

    let columns = 1 + k + usize::from(config.beta_used() > 0.0);
    let actions = interleave(steps, &data.batch.targets, &data.negatives, k, &data.augmented, columns);
    let rewards =
        interleave(steps, &data.rewards, &data.negative_rewards, k, &data.augmented_rewards, columns);
    let sources = interleave(steps, &taken, &negatives, k, &augmented, columns);
    let q = main.q_of(&features, Tensor::from_slice(&device, &actions, &[steps, columns])?)?;
    let values = values.value();
    let targets = td_targets(&rewards, &sources, &values.reshape(&[values.len()])?, config.discount)?;
    let losses = apply(TdLoss { targets }, &[&q])?;
    let weights = action_weights(config, steps, k).repeat(steps);
    Ok(QLoss { loss: weighted_sum(main, &losses, weights)?, q: q.into_value() })
}

/// Weights of one step's Q-losses: of the observed action 1, of every negative its share of their mean's weight, of the
/// augmented one β; all over the number of steps.
fn action_weights(config: &RecConfig, steps: usize, k: usize) -> Vec<f64> {
    let mean = 1.0 / steps as f64;
    let negative = mean * config.negative_weight / k.max(1) as f64;
    let mut weights = vec![mean];
    weights.resize(1 + k, negative);
    if config.beta_used() > 0.0 {
        weights.push(mean * config.beta_used());
    }
    weights
}

/// Rows of `columns`: one of `taken`, `k` of `negatives`, and one of `augmented` if a column is left for it.
fn interleave<T: Copy>(
    steps: usize,
    taken: &[T],
    negatives: &[T],
    k: usize,
    augmented: &[T],
    columns: usize,
) -> Vec<T> {
    let mut rows = Vec::with_capacity(steps * columns);
    for i in 0..steps {
        rows.push(taken[i]);
        rows.extend_from_slice(&negatives[i * k..(i + 1) * k]);
        if columns > 1 + k {
            rows.push(augmented[i]);
        }
    }
    rows
}

/// The LE's states as a tensor, where the Q head reads them.
fn states(network: &Network, states: &[f32], steps: usize) -> Result<Option<Tensor>> {
    let ((device, dtype), dim) = (network.home(), network.state_dim());
    if dim == 0 {
        return Ok(None);
    }
    if states.len() != steps * dim {
        let problem = format!("{} values of states for {steps} steps, expected width {dim}", states.len());
        return Err(Error::shape("states", problem));
    }
    let states: Vec<f64> = states.iter().map(|&s| f64::from(s)).collect();
    Ok(Some(Tensor::from_f64(&device, dtype, &states, &[steps, dim])?))
}

/// Σ wᵢ·xᵢ, `[1]`.
fn weighted_sum(network: &Network, x: &Var, weights: Vec<f64>) -> Result<Var> {
    let (device, dtype) = network.home();
    let weights = Tensor::from_f64(&device, dtype, &weights, &[weights.len()])?;
    apply(DotWeights { weights }, &[x])
}
