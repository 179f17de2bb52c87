//! Running the trunks of a pack once, keeping their keys and values for the leaves that follow.

use super::environment::{Environment, Step};
use super::score::to_f32;
use super::work::Work;
use crate::Result;
use crate::autograd::{Var, no_grad};
use crate::decoder::{Forest, KvCache, Resident, Rows};
use crate::device::profile;
use crate::ops::retrieve;
use crate::tensor::Tensor;
use std::ops::Range;

/// Trunks and stems of a pack, run through the decoder.
pub struct Trunks {
    /// Layout; its branches are the steps of the pack in order.
    pub forest: Forest,
    /// Keys and values of every trunk and stem row.
    pub cache: KvCache,
    /// States s_t `[steps, d]`.
    pub states: Tensor,
}

impl Trunks {
    /// Runs the trunks of `works`; nothing is recorded.
    pub fn run(env: &Environment, works: &[Work]) -> Result<Self> {
        let _range = profile::range(|| "trunks".into());
        let bare = |work: &Work| {
            let steps: Vec<Step> = work.owned.clone().map(|at| Step { at, actions: Vec::new() }).collect();
            env.tree(&work.history, &steps)
        };
        let forest = env.forest(&works.iter().map(bare).collect::<Vec<_>>())?;
        let read = owned_rows(&forest, works);
        let mut cache = env.decoder.new_cache()?;
        let states = no_grad(|| {
            let rows = Rows::new(&env.device(), &forest.positions, forest.index.clone())?.reading(&read)?;
            let x = env.embed(&forest.tokens)?;
            let hidden = env.decoder.forward_cached(&x, &rows, Resident::Extend(&mut cache))?;
            env.states(&hidden)
        })?;
        Ok(Trunks { forest, cache, states: states.into_value() })
    }

    /// The `count` items most similar to the states of the steps from `first` on, best first, less the items in
    /// `exclude`, ascending, one list a step: ids and similarities `[steps, count]`, `u32::MAX` and −∞ where fewer are
    /// left.
    pub fn candidates(
        &self,
        env: &Environment,
        item_directions: &Tensor,
        count: usize,
        first: usize,
        exclude: &[Vec<u32>],
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let _range = profile::range(|| "candidates".into());
        let steps = first..first + exclude.len();
        let directions = no_grad(|| env.directions(&Var::constant(self.states.rows(steps)?)))?;
        let count = count.min(env.catalogue());
        let (values, ids) = retrieve(directions.value(), item_directions, None, count, exclude)?;
        Ok((ids.to_vec::<u32>()?, to_f32(&values)?))
    }
}

/// Rows of the forest whose steps count, over all works in order.
pub fn owned_rows(forest: &Forest, works: &[Work]) -> Vec<u32> {
    let rows = works.iter().zip(&forest.trunks);
    rows.flat_map(|(work, trunk)| work.owned.clone().map(|row| (trunk.start + row) as u32)).collect()
}

/// Items that are no candidates at the steps `range` of a pack, counted over its `works` in order: those of the history
/// up to the step, and the observed action unless `keep_observed`. `before` tells the user's items ahead of a trunk.
pub(super) fn excluded_at(
    works: &[Work],
    range: Range<usize>,
    before: &dyn Fn(&Work) -> Result<Vec<u32>>,
    keep_observed: bool,
) -> Result<Vec<Vec<u32>>> {
    let mut lists = Vec::with_capacity(range.len());
    let mut first = 0;
    for work in works {
        let own = range.start.max(first)..range.end.min(first + work.steps());
        if !own.is_empty() {
            let before = before(work)?;
            lists.extend(own.map(|step| excluded(work, step - first, &before, keep_observed)));
        }
        first += work.steps();
    }
    Ok(lists)
}

fn excluded(work: &Work, step: usize, before: &[u32], keep_observed: bool) -> Vec<u32> {
    let mut items: Vec<u32> = before.to_vec();
    items.extend(&work.history[..=work.owned.start + step]);
    if keep_observed {
        items.retain(|&item| item != work.actions[step]);
    } else {
        items.push(work.actions[step]);
    }
    items.sort_unstable();
    items.dedup();
    items
}
