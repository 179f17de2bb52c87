//! Running the trunks of a pack once, keeping their keys and values for the leaves that follow.

use super::environment::{Environment, Step};
use super::work::Work;
use crate::Result;
use crate::autograd::{Var, no_grad};
use crate::decoder::{Forest, KvCache, Resident, Rows};
use crate::ops::retrieve;
use crate::tensor::Tensor;

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

    /// The `count` items most similar to each state, best first, less the items in `exclude` (ascending, one list a
    /// step): ids and similarities `[steps, count]`, `u32::MAX` and −∞ where fewer are left.
    pub fn candidates(
        &self,
        env: &Environment,
        item_directions: &Tensor,
        count: usize,
        exclude: &[Vec<u32>],
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let directions = no_grad(|| env.directions(&Var::constant(self.states.clone())))?;
        let count = count.min(env.catalogue());
        let (values, ids) = retrieve(directions.value(), item_directions, None, count, exclude)?;
        let values = values.to_f64_vec()?.into_iter().map(|x| x as f32).collect();
        Ok((ids.to_vec::<u32>()?, values))
    }
}

/// Rows of the forest whose steps count, over all works in order.
pub fn owned_rows(forest: &Forest, works: &[Work]) -> Vec<u32> {
    let rows = works.iter().zip(&forest.trunks);
    rows.flat_map(|(work, trunk)| work.owned.clone().map(|row| (trunk.start + row) as u32)).collect()
}

/// Items that are no candidates at each step of `work`: those of the history up to it, and the observed action unless
/// `keep_observed`. `before` are the user's items ahead of the trunk.
pub fn excluded(work: &Work, before: &[u32], keep_observed: bool) -> Vec<Vec<u32>> {
    let step = |(i, row): (usize, usize)| {
        let mut items: Vec<u32> = before.to_vec();
        items.extend(&work.history[..=row]);
        if keep_observed {
            items.retain(|&item| item != work.actions[i]);
        } else {
            items.push(work.actions[i]);
        }
        items.sort_unstable();
        items.dedup();
        items
    };
    work.owned.clone().enumerate().map(step).collect()
}
