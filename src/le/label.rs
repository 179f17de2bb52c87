//! Step 3, the labelling pass: at every step of every user a state, the rewards of the observed action and of sampled
//! negatives, and an augmented action.
//!
//! A pack of users is one forest: its trunks and stems run once and leave their keys and values resident; their states
//! name the candidates; then all leaves of the pack stream through, in chunks if there are more than a pack holds.

use super::config::{Augment, LabelConfig};
use super::environment::Environment;
use super::label_files::LabelBlock;
use super::packing::{PackRows, Packs};
use super::score::{leaf_states, rewards, to_f32};
use super::trunk::{Trunks, excluded_at};
use super::work::{Work, step_groups, steps_of};
use crate::Result;
use crate::autograd::no_grad;
use crate::data::NegativeSampler;
use crate::tensor::Tensor;
use std::ops::Range;

/// Labels users with one LE.
pub struct Labeller<'a> {
    env: Environment,
    config: &'a LabelConfig,
    temperature: f64,
    negatives: NegativeSampler,
    met: &'a (dyn Fn(u32) -> Result<Vec<u32>> + Sync),
    item_directions: Tensor,
    rows: PackRows,
}

/// What the forest saved, in rows of the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// Labels: rewards of actions.
    pub labels: u64,
    /// Rows that ran.
    pub forest: u64,
    /// Rows that separate prompts would have run.
    pub separate: u64,
}

impl<'a> Labeller<'a> {
    /// A labeller with `env`, whose adapters are merged here. `temperature` scales similarities where they are added
    /// to rewards; `met` are the items, ascending, that are no negatives of a user.
    pub fn new(
        env: &Environment,
        config: &'a LabelConfig,
        temperature: f64,
        negatives: NegativeSampler,
        met: &'a (dyn Fn(u32) -> Result<Vec<u32>> + Sync),
    ) -> Result<Self> {
        let env = env.merged()?;
        let item_directions = no_grad(|| env.item_directions(None))?.into_value();
        let rows = PackRows::new(config.pack_rows(&env.device()), env.leaf_len());
        Ok(Labeller { env, config, temperature, negatives, met, item_directions, rows })
    }

    /// Items of a trunk at most.
    pub fn history(&self) -> usize {
        self.env.history
    }

    /// Candidates a step.
    fn candidates(&self) -> usize {
        self.config.candidates.min(self.env.catalogue())
    }

    /// Actions scored at a step, those that a small catalogue lacks too.
    fn actions(&self) -> usize {
        1 + self.config.negatives + self.candidates()
    }

    /// Packs of `works` within the configured number of rows, made as they are needed.
    pub fn packs(&self, works: impl Iterator<Item = Work>) -> impl Iterator<Item = Vec<Work>> {
        self.packing(works)
    }

    fn packing<I: Iterator<Item = Work>>(&self, works: I) -> Packs<'_, I, impl Fn(&Work) -> usize> {
        let (actions, leaf, stem) = (self.actions(), self.env.leaf_len(), self.env.prompt.stem.len());
        Packs::new(works, &self.rows, move |work| work.rows(actions, leaf, stem))
    }

    /// Labels `works`, ascending by user and step, pack by pack, as [`Self::label`] does one; `begin` is called ahead of
    /// each. A pack that the device has no memory for is labelled in smaller ones, and so are all that follow.
    ///
    /// # Errors
    /// Also a device that lacks the memory for a single leaf beside its trunk.
    pub fn label_all(
        &self,
        works: impl Iterator<Item = Work>,
        history: &dyn Fn(&Work) -> Result<Vec<u32>>,
        begin: &mut dyn FnMut(&[Work]) -> Result<()>,
        sink: &mut dyn FnMut(&LabelBlock) -> Result<()>,
    ) -> Result<TokenCount> {
        let mut count = TokenCount::default();
        let mut packs = self.packing(works);
        while let Some(pack) = packs.next() {
            begin(&pack)?;
            let mut last = None;
            let mut keep = |block: &LabelBlock| {
                sink(block)?;
                last = block.user.last().copied().zip(block.t.last().copied()).or(last);
                Ok(())
            };
            if let Err(error) = self.label_pack(&pack, history, &mut keep, &mut count) {
                packs.again(pack, error, |work| work.after(last))?;
            }
        }
        Ok(count)
    }

    /// Labels one pack and hands the labels to `sink`, in order: all at once where its leaves fit a pass, else some
    /// steps at a time, so that memory does not grow with the steps of a pack. `history` tells the items of a user
    /// ahead of a trunk, which are no candidates.
    pub fn label(
        &self,
        works: &[Work],
        history: &dyn Fn(&Work) -> Result<Vec<u32>>,
        sink: &mut dyn FnMut(&LabelBlock) -> Result<()>,
    ) -> Result<TokenCount> {
        let mut count = TokenCount::default();
        self.label_pack(works, history, sink, &mut count)?;
        Ok(count)
    }

    /// The same, with its rows added to `count`, those too of a pack that is not finished.
    fn label_pack(
        &self,
        works: &[Work],
        history: &dyn Fn(&Work) -> Result<Vec<u32>>,
        sink: &mut dyn FnMut(&LabelBlock) -> Result<()>,
        count: &mut TokenCount,
    ) -> Result<()> {
        let trunks = Trunks::run(&self.env, works)?;
        let pack = Pack {
            trunks: &trunks,
            works,
            steps: steps_of(works).collect(),
            observed: works.iter().flat_map(|w| w.actions.iter().copied()).collect(),
            depths: works.iter().flat_map(|w| w.owned.clone().map(|row| row + 1)).collect(),
        };
        count.forest += self.env.prompt.root.len() as u64;
        count.forest += works.iter().map(|w| w.history.len() as u64).sum::<u64>();
        let rows = self.actions() * self.env.leaf_len();
        for group in step_groups(pack.steps.len(), rows, self.rows.get()) {
            let (block, of_group) = self.label_steps(&pack, group, history)?;
            *count += of_group;
            sink(&block)?;
        }
        Ok(())
    }

    /// Labels the steps `group` of a pack.
    fn label_steps(
        &self,
        pack: &Pack,
        group: Range<usize>,
        history: &dyn Fn(&Work) -> Result<Vec<u32>>,
    ) -> Result<(LabelBlock, TokenCount)> {
        let (k, n) = (self.config.negatives, self.candidates());
        let (candidates, similarities) = self.find_candidates(pack, group.clone(), history)?;
        let Actions { actions, starts } = self.draw_actions(pack, group.clone(), &candidates)?;
        let rewards = rewards(&self.env, pack.trunks, &actions, self.rows.get())?;
        let (first, last) = (pack.steps[group.start].0, pack.steps[group.end - 1].0);
        let mut block = LabelBlock::new(first..last + 1);
        let mut augmented = Vec::new();
        for (i, step) in group.clone().enumerate() {
            let own = starts[i]..starts[i + 1];
            let (list, rewards) = (&actions[own.clone()], &rewards[own]);
            block.user.push(pack.steps[step].0);
            block.t.push(pack.steps[step].1);
            block.action.push(list[0].1);
            block.reward.push(rewards[0]);
            block.negatives.extend(list[1..=k].iter().map(|a| a.1));
            block.negative_rewards.extend(&rewards[1..=k]);
            if n > 0 {
                let similarities = &similarities[i * n..][..list.len() - 1 - k];
                let best = choose(self.config.augment, &rewards[1 + k..], similarities, self.temperature);
                // A step whose history is the whole catalogue has no candidate: its own action augments it.
                let best = best.map_or(0, |c| 1 + k + c);
                block.augmented_action.push(list[best].1);
                block.augmented_reward.push(rewards[best]);
                augmented.push((step, list[best].1));
            }
        }
        block.state = to_f32(&pack.trunks.states.rows(group.clone())?)?;
        if self.config.augmented_states && n > 0 {
            block.augmented_state = leaf_states(&self.env, pack.trunks, &augmented, self.rows.get())?;
        }
        Ok((block, self.count(&pack.depths[group], &starts)))
    }

    /// The actions of the steps `group`: of each the observed one, the negatives, then those of its `candidates` that there
    /// are.
    fn draw_actions(&self, pack: &Pack, group: Range<usize>, candidates: &[u32]) -> Result<Actions> {
        let n = self.candidates();
        let mut actions = Vec::with_capacity(group.len() * self.actions());
        let mut starts = vec![0];
        for (i, step) in group.enumerate() {
            let ((user, t), observed) = (pack.steps[step], pack.observed[step]);
            let mut list = vec![observed];
            let mut met = (self.met)(user)?;
            if let Err(at) = met.binary_search(&observed) {
                met.insert(at, observed);
            }
            self.negatives.sample(&met, (user, t, 0), self.config.negatives, &mut list)?;
            list.extend(candidates[i * n..(i + 1) * n].iter().filter(|&&id| id != u32::MAX));
            actions.extend(list.into_iter().map(|action| (step, action)));
            starts.push(actions.len());
        }
        Ok(Actions { actions, starts })
    }

    fn find_candidates(
        &self,
        pack: &Pack,
        group: Range<usize>,
        history: &dyn Fn(&Work) -> Result<Vec<u32>>,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        if self.candidates() == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let exclude = excluded_at(pack.works, group.clone(), history, false)?;
        pack.trunks.candidates(&self.env, &self.item_directions, self.candidates(), group.start, &exclude)
    }

    /// Of steps whose trunks end `depths` items deep: S + A·b rows against A·(P + t + S + b).
    fn count(&self, depths: &[usize], starts: &[usize]) -> TokenCount {
        let prompt = &self.env.prompt;
        let (root, stem, leaf) = (prompt.root.len(), prompt.stem.len(), self.env.leaf_len());
        let mut count = TokenCount::default();
        for (depth, ends) in depths.iter().zip(starts.windows(2)) {
            let actions = ends[1] - ends[0];
            count.labels += actions as u64;
            count.forest += (stem + actions * leaf) as u64;
            count.separate += (actions * (root + depth + stem + leaf)) as u64;
        }
        count
    }
}

/// What is scored at the steps of a group.
struct Actions {
    /// Step of the pack, and action.
    actions: Vec<(usize, u32)>,
    /// Where each step's begin, and the number of all.
    starts: Vec<usize>,
}

/// A pack whose trunks have run, its steps in order.
struct Pack<'a> {
    trunks: &'a Trunks,
    works: &'a [Work],
    /// User and t.
    steps: Vec<(u32, u32)>,
    /// The observed action of each.
    observed: Vec<u32>,
    /// Items of the trunk that each sees.
    depths: Vec<usize>,
}

impl std::ops::AddAssign for TokenCount {
    fn add_assign(&mut self, other: Self) {
        self.labels += other.labels;
        self.forest += other.forest;
        self.separate += other.separate;
    }
}

/// Position of the augmented action among the candidates; the first of equal ones, `None` where there are none.
pub(super) fn choose(
    rule: Augment,
    rewards: &[f32],
    similarities: &[f32],
    temperature: f64,
) -> Option<usize> {
    let as_f64 = |x: &[f32], scale: f64| x.iter().map(|&x| f64::from(x) * scale).collect::<Vec<f64>>();
    let scores = match rule {
        Augment::Reward => as_f64(rewards, 1.0),
        Augment::Similarity => as_f64(similarities, 1.0),
        Augment::Both => {
            let similar = log_softmax(as_f64(similarities, 1.0 / temperature));
            let sums = log_softmax(as_f64(rewards, 1.0)).into_iter().zip(similar);
            sums.map(|(r, s)| r + s).collect()
        }
    };
    (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] { i } else { best })
}

fn log_softmax(mut x: Vec<f64>) -> Vec<f64> {
    let highest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|v| (v - highest).exp()).sum();
    let lse = highest + sum.ln();
    x.iter_mut().for_each(|v| *v -= lse);
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_decides_the_augmented_action() {
        let (rewards, similarities) = ([3.0, 0.0, 2.5], [-0.5, 0.9, 0.8]);
        let chosen = |rule| choose(rule, &rewards, &similarities, 0.5).unwrap();
        assert_eq!(chosen(Augment::Reward), 0);
        assert_eq!(chosen(Augment::Similarity), 1);
        // By hand: 3 − 1 = 2, 0 + 1.8, 2.5 + 1.6, up to constants.
        assert_eq!(chosen(Augment::Both), 2);
        assert_eq!(choose(Augment::Both, &[], &[], 0.5), None);
        assert_eq!(choose(Augment::Reward, &[1.0, 1.0], &[0.0, 0.0], 0.5), Some(0));
    }
}
