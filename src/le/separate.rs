//! The same rewards without a forest: every prompt by itself. What labelling costs elsewhere, and the reference of its
//! speed-up.

use super::environment::Environment;
use crate::Result;
use crate::autograd::no_grad;
use crate::decoder::Rows;
use crate::decoder::forest::{Branch, Forest, Tree};

/// Rewards of `(row of the history, action)`, each prompt a tree of its own with the prompt's text inside, so that no
/// prefix is shared; passes of at most `pass_rows` rows. Returns the rewards and the rows that ran.
pub fn separate_rewards(
    env: &Environment,
    history: &[u32],
    actions: &[(usize, u32)],
    pass_rows: usize,
) -> Result<(Vec<f32>, u64)> {
    let root = &env.prompt.root;
    let longest = root.len() + history.len() + env.prompt.stem.len() + env.leaf_len();
    let (mut rewards, mut ran) = (Vec::with_capacity(actions.len()), 0);
    for chunk in actions.chunks((pass_rows / longest).max(1)) {
        let tree = |&(row, action): &(usize, u32)| {
            let items = history[..=row].iter().map(|&item| env.item_token(item));
            let trunk: Vec<u32> = root.iter().copied().chain(items).collect();
            Tree { branches: vec![Branch { at: trunk.len() - 1, leaves: vec![env.leaf(action)] }], trunk }
        };
        let trees: Vec<Tree> = chunk.iter().map(tree).collect();
        let context = env.decoder.config.max_position_embeddings;
        let forest = Forest::build(&[], &env.prompt.stem, &trees, context)?;
        let rows =
            Rows::new(&env.device(), &forest.positions, forest.index.clone())?.reading(&forest.leaf_ends)?;
        let values = no_grad(|| env.rewards(&env.decoder.forward(&env.embed(&forest.tokens)?, &rows)?))?;
        rewards.extend(super::score::to_f32(values.value())?);
        ran += forest.rows() as u64;
    }
    Ok((rewards, ran))
}
