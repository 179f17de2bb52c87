//! What tells whether labels are worth anything, on users that trained nothing: does the reward put the item taken
//! next above each kind of negative, does the state find it in the catalogue, and what would the augmented action be.

use super::config::{Augment, FitConfig, LabelConfig};
use super::environment::Environment;
use super::label::choose;
use super::losses::ordered_pairs;
use super::packing::{PackRows, Packs};
use super::quality_sums::Sums;
use super::score::{rewards, to_f32};
use super::trunk::{Trunks, excluded_at};
use super::work::{Work, step_groups, steps_of};
use crate::Result;
use crate::autograd::{Var, no_grad};
use crate::data::ranking::rank;
use crate::data::{NegativeKind, NegativeSampler};
use crate::ops::matmul::matmul;
use crate::progress::MetricsLog;
use crate::tensor::checkpoint::Checkpoints;
use serde::{Deserialize, Serialize};

/// Uniform and popular negatives a step.
pub const NEGATIVES: usize = 10;

/// Steps whose rewards are kept. They stand in the record of a run, as JSON and, while that is written, as a tree of 70
/// bytes a number: few enough that memory does not grow with the held-out users, and plenty for a histogram.
const HISTOGRAM_STEPS: usize = 2_000;

/// Held-out quality of an LE. Shares are of steps, or of (positive, negative) pairs; ties count half.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Steps judged.
    pub steps: u64,
    /// Candidates a step.
    pub candidates: u64,
    /// Pairs in the right order against uniform negatives.
    pub pairs_uniform: f64,
    /// Against negatives drawn by popularity.
    pub pairs_popularity: f64,
    /// Against the candidates by similarity.
    pub pairs_hard: f64,
    /// Number of those pairs: candidates that are not the item taken next.
    pub hard_pairs: u64,
    /// What the number of training events, in the place of the reward, reaches on the same pairs: uniform, popularity,
    /// candidates. A reward that is no better has learned nothing of the user.
    pub pairs_by_count: [f64; 3],
    /// HR and NDCG at 5, 10, 20 of the item taken next, the whole catalogue ranked by similarity: HR@5, NDCG@5, …
    pub catalogue: [f64; 6],
    /// Share of steps whose candidates hold the item taken next.
    pub candidate_recall: f64,
    /// How often the augmented action is the item taken next, by reward, similarity and both.
    pub hits: [f64; 3],
    /// Mean number of training events of the augmented action, by reward, similarity and both.
    pub popularity: [f64; 3],
    /// The same of the item taken next.
    pub popularity_next: f64,
    /// Rewards of the items taken next, for a histogram: of the first 2,000 steps.
    #[serde(skip)]
    pub positive_rewards: Vec<f32>,
    /// Rewards of the uniform negatives of the same steps.
    #[serde(skip)]
    pub negative_rewards: Vec<f32>,
}

/// What quality is measured with.
pub struct Judge<'a> {
    /// The LE, merged.
    pub env: &'a Environment,
    /// Settings of its training.
    pub fit: &'a FitConfig,
    /// Settings of labelling.
    pub label: &'a LabelConfig,
    /// Training events of every item.
    pub counts: &'a [u32],
    /// Items that each user met, ascending; by user.
    pub met: &'a dyn Fn(u32) -> Result<Vec<u32>>,
    /// Items of the user ahead of a trunk.
    pub before: &'a dyn Fn(&Work) -> Result<Vec<u32>>,
    /// Seed of the negatives.
    pub seed: u64,
}

const RULES: [Augment; 3] = [Augment::Reward, Augment::Similarity, Augment::Both];

impl Judge<'_> {
    /// Judges the LE on the steps of `works`, which are made as they are needed: one pack of them is held. In one go or
    /// resumed from the checkpoints that `keep` holds, also with packs of another size, the same bits come out; a pack that
    /// the device has no memory for is judged in smaller ones.
    pub fn judge(&self, works: impl Iterator<Item = Work>, keep: &mut Checkpoints) -> Result<Quality> {
        let rows = |w: &Work| w.rows(self.per_step(), self.env.leaf_len(), self.env.prompt.stem.len());
        let directions = no_grad(|| self.env.item_directions(None))?;
        let mut log = MetricsLog::none();
        let mut sums = keep.begin(&mut log)?.map_or(Ok(Sums::default()), |left| Sums::restore(&left))?;
        let most = PackRows::new(self.label.pack_rows(&self.env.device()), self.env.leaf_len());
        let mut packs = Packs::new(works.skip(sums.place.trunks), &most, rows);
        while let Some(pack) = packs.next() {
            let before = sums.clone();
            if let Err(error) = self.add_pack(&pack, &directions, most.get(), &mut sums) {
                sums = before;
                packs.again(pack, error, Some)?;
                continue;
            }
            sums.place.trunks += pack.len();
            let place = || format!("judging the LE, {} steps", sums.place.steps);
            keep.point(&log, place, || sums.checkpoint())?;
        }
        Ok(Quality { candidates: self.candidates() as u64, ..sums.finish() })
    }

    /// Actions scored at a step.
    fn per_step(&self) -> usize {
        1 + 2 * NEGATIVES + self.candidates()
    }

    /// At least one, so that the rules can be judged even where labels are to have no augmented actions.
    fn candidates(&self) -> usize {
        self.label.candidates.clamp(1, self.env.catalogue())
    }

    fn add_pack(&self, works: &[Work], directions: &Var, most: usize, sums: &mut Sums) -> Result<()> {
        let env = self.env;
        let trunks = Trunks::run(env, works)?;
        let steps: Vec<(u32, u32)> = steps_of(works).collect();
        let next: Vec<u32> = works.iter().flat_map(|w| w.actions.iter().copied()).collect();
        let rows = self.per_step() * env.leaf_len();
        for group in step_groups(steps.len(), rows, most) {
            // The item taken next may be a candidate here: how often it is, and is chosen, is what is asked.
            let exclude = excluded_at(works, group.clone(), self.before, true)?;
            let own = Group { first: group.start, steps: &steps[group.clone()], next: &next[group], most };
            self.add_group(&trunks, directions, &own, &exclude, sums)?;
        }
        Ok(())
    }

    fn add_group(
        &self,
        trunks: &Trunks,
        directions: &Var,
        group: &Group,
        exclude: &[Vec<u32>],
        sums: &mut Sums,
    ) -> Result<()> {
        let (env, first) = (self.env, group.first);
        let states = Var::constant(trunks.states.rows(first..first + group.steps.len())?);
        let states = no_grad(|| env.directions(&states))?;
        let similarity = to_f32(&matmul(states.value(), directions.value(), false, true)?)?;
        for (scores, &next) in similarity.chunks(env.catalogue()).zip(group.next) {
            sums.place.catalogue.add_rank(rank(scores, next as usize));
        }
        let count = self.candidates();
        let (ids, sims) = trunks.candidates(env, directions.value(), count, first, exclude)?;
        let mut actions = Vec::new();
        let mut lists = Vec::with_capacity(group.steps.len());
        for (i, &(user, t)) in group.steps.iter().enumerate() {
            let mut list = vec![group.next[i]];
            for kind in [NegativeKind::Uniform, NegativeKind::Popularity] {
                let sampler = NegativeSampler::new(kind, self.counts, self.seed);
                sampler.sample(&(self.met)(user)?, (user, t, 0), NEGATIVES, &mut list)?;
            }
            list.extend(ids[i * count..(i + 1) * count].iter().filter(|&&id| id != u32::MAX));
            actions.extend(list.iter().map(|&action| (first + i, action)));
            lists.push(list);
        }
        let rewards = rewards(env, trunks, &actions, group.most)?;
        let mut from = 0;
        for (i, list) in lists.iter().enumerate() {
            let rewards = &rewards[from..from + list.len()];
            from += list.len();
            self.add_step(list, rewards, &sims[i * count..(i + 1) * count], sums);
        }
        Ok(())
    }

    /// One step: the item taken next, the negatives, the candidates, with their rewards.
    fn add_step(&self, list: &[u32], rewards: &[f32], similarities: &[f32], sums: &mut Sums) {
        let next = list[0];
        let positive = f64::from(rewards[0]);
        let ordered = |range: std::ops::Range<usize>| {
            ordered_pairs(positive, rewards[range].iter().map(|&r| f64::from(r)))
        };
        let count = |i: usize| f64::from(self.counts[list[i] as usize]);
        let first_candidate = 1 + 2 * NEGATIVES;
        let candidates = &list[first_candidate..];
        sums.place.steps += 1;
        sums.uniform += ordered(1..1 + NEGATIVES);
        sums.popular += ordered(1 + NEGATIVES..first_candidate);
        let others = || (first_candidate..list.len()).filter(|&i| list[i] != next);
        sums.hard += ordered_pairs(positive, others().map(|i| f64::from(rewards[i])));
        sums.place.hard_pairs += others().count();
        sums.by_count[0] += ordered_pairs(count(0), (1..1 + NEGATIVES).map(count));
        sums.by_count[1] += ordered_pairs(count(0), (1 + NEGATIVES..first_candidate).map(count));
        sums.by_count[2] += ordered_pairs(count(0), others().map(count));
        sums.place.recall += usize::from(candidates.contains(&next));
        sums.popularity_next += f64::from(self.counts[next as usize]);
        for (i, rule) in RULES.into_iter().enumerate() {
            let similarities = &similarities[..candidates.len()];
            let chosen = choose(rule, &rewards[first_candidate..], similarities, self.fit.temperature);
            let Some(chosen) = chosen.map(|c| candidates[c]) else { continue };
            sums.place.hits[i] += usize::from(chosen == next);
            sums.popularity[i] += f64::from(self.counts[chosen as usize]);
        }
        if sums.positive_rewards.len() < HISTOGRAM_STEPS {
            sums.positive_rewards.push(rewards[0]);
            sums.negative_rewards.extend(&rewards[1..1 + NEGATIVES]);
        }
    }
}

/// Steps of a pack that are scored together.
struct Group<'a> {
    /// Number of the first in the pack.
    first: usize,
    /// User and t.
    steps: &'a [(u32, u32)],
    /// The item taken next at each.
    next: &'a [u32],
    /// Rows of a chunk at most.
    most: usize,
}
