//! Rewards of actions that branch off resident trunks.

use super::environment::Environment;
use super::trunk::Trunks;
use crate::Result;
use crate::autograd::{Var, no_grad};
use crate::decoder::{Resident, Rows};
use crate::device::profile;
use crate::tensor::Tensor;

/// Cuts `actions` into as few chunks as fit `chunk_rows` rows each, of even length: a short last chunk would leave the
/// matrix products of its pass small.
fn chunks<'a>(
    env: &Environment,
    actions: &'a [(usize, u32)],
    chunk_rows: usize,
) -> std::slice::Chunks<'a, (usize, u32)> {
    let most = (chunk_rows / env.leaf_len()).max(1);
    let count = actions.len().div_ceil(most).max(1);
    actions.chunks(actions.len().div_ceil(count).max(1))
}

/// Hidden rows `[actions, d]` at the last tokens of leaves `(branch, action)`, branches ascending.
pub fn leaf_hidden(env: &Environment, trunks: &Trunks, actions: &[(usize, u32)]) -> Result<Var> {
    let _range = profile::range(|| "leaves".into());
    let leaves = env.leaves(&trunks.forest, actions)?;
    no_grad(|| {
        let mut rows = Rows::new(&env.device(), &leaves.positions, leaves.index.clone())?;
        if leaves.leaf_ends.len() < leaves.tokens.len() {
            rows = rows.reading(&leaves.leaf_ends)?;
        }
        env.decoder.forward_cached(&env.embed(&leaves.tokens)?, &rows, Resident::Read(&trunks.cache))
    })
}

/// Rewards of leaves `(branch, action)`, branches ascending, in chunks of at most `chunk_rows` rows. A reward's bits
/// do not depend on the chunk.
pub fn rewards(
    env: &Environment,
    trunks: &Trunks,
    actions: &[(usize, u32)],
    chunk_rows: usize,
) -> Result<Vec<f32>> {
    // All are under way before the first is read: a device need not wait while the host lays out the next.
    let scores = chunks(env, actions, chunk_rows).map(|chunk| {
        let hidden = leaf_hidden(env, trunks, chunk)?;
        Ok(no_grad(|| env.rewards(&hidden))?.into_value())
    });
    let scores = scores.collect::<Result<Vec<Tensor>>>()?;
    let mut rewards = Vec::with_capacity(actions.len());
    for scores in scores {
        rewards.extend(to_f32(&scores)?);
    }
    Ok(rewards)
}

/// States after taking the actions `(branch, action)`, `[actions, d]`: the final norm of their leaves' last rows.
pub fn leaf_states(
    env: &Environment,
    trunks: &Trunks,
    actions: &[(usize, u32)],
    chunk_rows: usize,
) -> Result<Vec<f32>> {
    let mut states = Vec::with_capacity(actions.len() * env.width());
    for chunk in chunks(env, actions, chunk_rows) {
        let hidden = leaf_hidden(env, trunks, chunk)?;
        states.extend(to_f32(no_grad(|| env.states(&hidden))?.value())?);
    }
    Ok(states)
}

pub(super) fn to_f32(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_f64_vec()?.into_iter().map(|x| x as f32).collect())
}
