//! The losses of step 2 on one batch: a forest whose leaves are, at every step, the item taken next and negatives.

use super::config::{FitConfig, StateLoss};
use super::environment::{Environment, Step, gather};
use super::trunk::owned_rows;
use super::work::Work;
use crate::Result;
use crate::autograd::{Var, apply};
use crate::decoder::Rows;
use crate::ops::add::Add;
use crate::ops::{GatherDot, InfoNce, Matmul, Mean, PairLogSigmoid, Reshape, Scale};
use crate::tensor::Tensor;
use std::collections::BTreeSet;

/// One batch of LE training.
pub struct FitBatch<'a> {
    /// Its trunks.
    pub works: &'a [Work],
    /// Negatives of the reward loss, as many for every step: `[steps][negatives]`.
    pub negatives: Vec<Vec<u32>>,
    /// Uniform negatives that the whole batch shares in InfoNCE.
    pub shared_negatives: Vec<u32>,
    /// Training step, for the masks of dropout; `None` drops nothing.
    pub dropout_step: Option<u64>,
}

/// The losses of a batch, each the mean over its steps.
pub struct FitLosses {
    /// state_weight·L_sm + reward_weight·L_rm.
    pub total: Var,
    /// L_sm.
    pub state: f64,
    /// L_rm.
    pub reward: f64,
    /// Share of (positive, negative) pairs in the right order.
    pub pair_accuracy: f64,
    /// Number of steps.
    pub steps: usize,
}

/// Runs the batch's forest once and computes both losses (LEA, arXiv 2403.16948, sections 3.2 and 3.3).
pub fn losses(env: &Environment, config: &FitConfig, batch: &FitBatch) -> Result<FitLosses> {
    let positives: Vec<u32> = batch.works.iter().flat_map(|w| w.actions.iter().copied()).collect();
    let (steps, k) = (positives.len(), batch.negatives.first().map_or(0, Vec::len));
    let forest = env.forest(&trees(env, batch))?;
    let trunk_rows = owned_rows(&forest, batch.works);
    let positive_ends = forest.leaf_ends.iter().copied().step_by(k + 1);
    let negative_ends = forest.leaf_ends.chunks(k + 1).flat_map(|ends| ends[1..].iter().copied());
    let read: Vec<u32> = trunk_rows.iter().copied().chain(positive_ends).chain(negative_ends).collect();
    let mut rows = Rows::new(&env.device(), &forest.positions, forest.index.clone())?.reading(&read)?;
    if let Some(step) = batch.dropout_step {
        rows = rows.training(step);
    }
    let hidden = env.decoder.forward(&env.embed(&forest.tokens)?, &rows)?;
    let part =
        |from: usize, len: usize| gather(&hidden, &(from as u32..(from + len) as u32).collect::<Vec<_>>());
    let states = env.states(&part(0, steps)?)?;
    let state = state_loss(env, config, batch, &states, &positives)?;
    let positive = env.rewards(&part(steps, steps)?)?;
    let negative = apply(Reshape::new(&[steps, k]), &[&env.rewards(&part(2 * steps, steps * k)?)?])?;
    let reward = mean(&apply(PairLogSigmoid { margin: config.margin }, &[&positive, &negative])?)?;
    let weighted = |loss: &Var, weight| apply(Scale(weight), &[loss]);
    let total =
        apply(Add, &[&weighted(&state, config.state_weight)?, &weighted(&reward, config.reward_weight)?])?;
    Ok(FitLosses {
        total,
        state: state.value().item()?,
        reward: reward.value().item()?,
        pair_accuracy: pair_accuracy(&positive, &negative)?,
        steps,
    })
}

fn trees(env: &Environment, batch: &FitBatch) -> Vec<crate::decoder::forest::Tree> {
    let mut negatives = batch.negatives.iter();
    let mut tree = |work: &Work| {
        let steps: Vec<Step> = work
            .owned
            .clone()
            .zip(&work.actions)
            .map(|(at, &action)| {
                let negatives = negatives.next().into_iter().flatten().copied();
                Step { at, actions: std::iter::once(action).chain(negatives).collect() }
            })
            .collect();
        env.tree(&work.history, &steps)
    };
    batch.works.iter().map(&mut tree).collect()
}

/// L_sm of states `[steps, d]` against the items taken next.
fn state_loss(
    env: &Environment,
    config: &FitConfig,
    batch: &FitBatch,
    states: &Var,
    positives: &[u32],
) -> Result<Var> {
    let directions = env.directions(states)?;
    match config.state_loss {
        StateLoss::InfoNce => {
            // Columns are different items, so that no negative is the positive itself.
            let columns: BTreeSet<u32> = positives.iter().chain(&batch.shared_negatives).copied().collect();
            let columns: Vec<u32> = columns.into_iter().collect();
            let column = |item: &u32| columns.partition_point(|c| c < item) as u32;
            let targets: Vec<u32> = positives.iter().map(column).collect();
            let items = env.item_directions(Some(&columns))?;
            let similarity = apply(Matmul { transpose_a: false, transpose_b: true }, &[&directions, &items])?;
            // With the whole catalogue shared no column is left to hide.
            let shared: BTreeSet<u32> = batch.shared_negatives.iter().copied().collect();
            let mask = match config.in_batch || shared.len() == columns.len() {
                true => None,
                false => Some(own_and_shared(env, &shared, &columns, positives)?),
            };
            let targets = Tensor::from_ids(&env.device(), &targets)?;
            mean(&apply(InfoNce::new(targets, config.temperature, mask), &[&similarity])?)
        }
        StateLoss::Pairwise => {
            let items = env.item_directions(None)?;
            let dots = |ids: &[u32], k: usize| {
                let ids = Tensor::from_ids(&env.device(), ids)?.reshape(&[positives.len(), k])?;
                let dots = apply(GatherDot::new(ids), &[&directions, &items])?;
                apply(Scale(1.0 / config.temperature), &[&dots])
            };
            let negatives: Vec<u32> = batch.negatives.iter().flatten().copied().collect();
            let positive = apply(Reshape::new(&[positives.len()]), &[&dots(positives, 1)?])?;
            let negative = dots(&negatives, negatives.len() / positives.len().max(1))?;
            mean(&apply(PairLogSigmoid { margin: 0.0 }, &[&positive, &negative])?)
        }
    }
}

/// Mask `[steps, columns]` of InfoNCE without in-batch negatives: the row's positive and the shared negatives.
fn own_and_shared(
    env: &Environment,
    shared: &BTreeSet<u32>,
    columns: &[u32],
    positives: &[u32],
) -> Result<Tensor> {
    let shared: Vec<bool> = columns.iter().map(|column| shared.contains(column)).collect();
    let allowed = |p: u32| columns.iter().zip(&shared).map(move |(&c, &shared)| u32::from(shared || c == p));
    let mask: Vec<u32> = positives.iter().flat_map(|&p| allowed(p)).collect();
    Tensor::from_slice(&env.device(), &mask, &[positives.len(), columns.len()])
}

/// Mean of all elements, as one element.
fn mean(x: &Var) -> Result<Var> {
    apply(Mean::new(), &[x])
}

fn pair_accuracy(positive: &Var, negative: &Var) -> Result<f64> {
    let (p, n) = (positive.value().to_f64_vec()?, negative.value().to_f64_vec()?);
    let k = n.len() / p.len().max(1);
    let right: f64 =
        p.iter().zip(n.chunks(k.max(1))).map(|(p, n)| ordered_pairs(*p, n.iter().copied())).sum();
    Ok(right / n.len().max(1) as f64)
}

/// Number of `negatives` below `positive`; a tie counts half, so that equal rewards earn a half and no more.
pub(super) fn ordered_pairs(positive: f64, negatives: impl Iterator<Item = f64>) -> f64 {
    negatives
        .map(|n| {
            if positive > n {
                1.0
            } else if positive == n {
                0.5
            } else {
                0.0
            }
        })
        .sum()
}
