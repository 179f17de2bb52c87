//! What judging an LE adds up step by step, and its checkpoint.

use super::quality::{NEGATIVES, Quality};
use crate::Result;
use crate::data::ranking::Ranking;
use crate::device::Device;
use crate::tensor::Tensor;
use crate::tensor::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

/// Sums over the steps judged so far, each added in the order of the steps: how they were packed changes no bit.
#[derive(Clone, Default)]
pub(super) struct Sums {
    pub place: Place,
    pub uniform: f64,
    pub popular: f64,
    pub hard: f64,
    pub by_count: [f64; 3],
    pub popularity: [f64; 3],
    pub popularity_next: f64,
    pub positive_rewards: Vec<f32>,
    pub negative_rewards: Vec<f32>,
}

/// How far judging has come, and what it counts.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// Trunks whose steps are judged. Packs are not counted: a resumed run may cut them otherwise.
    pub trunks: usize,
    pub steps: u64,
    pub hard_pairs: usize,
    pub catalogue: Ranking,
    pub recall: usize,
    pub hits: [usize; 3],
}

impl Sums {
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let [u, p, h] = self.by_count;
        let [r, s, b] = self.popularity;
        let numbers = [self.uniform, self.popular, self.hard, u, p, h, r, s, b, self.popularity_next];
        Ok(Checkpoint::new(&self.place)?
            .with_numbers("sums", &numbers)?
            .with("positive_rewards", row(&self.positive_rewards)?)
            .with("negative_rewards", row(&self.negative_rewards)?))
    }

    /// # Errors
    /// A checkpoint that lacks something.
    pub fn restore(from: &Checkpoint) -> Result<Self> {
        let [uniform, popular, hard, u, p, h, r, s, b, popularity_next] = from.numbers("sums")?;
        Ok(Sums {
            place: from.state()?,
            uniform,
            popular,
            hard,
            by_count: [u, p, h],
            popularity: [r, s, b],
            popularity_next,
            positive_rewards: from.any_tensor("positive_rewards")?.to_vec()?,
            negative_rewards: from.any_tensor("negative_rewards")?.to_vec()?,
        })
    }

    /// Means over the steps; the number of candidates a step is left to the caller.
    pub fn finish(self) -> Quality {
        let Place { steps, hard_pairs, catalogue, recall, hits, .. } = self.place;
        let count = steps.max(1) as f64;
        let pairs = count * NEGATIVES as f64;
        let of_hard = hard_pairs.max(1) as f64;
        let [uniform, popular, hard] = self.by_count;
        Quality {
            steps,
            candidates: 0,
            pairs_uniform: self.uniform / pairs,
            pairs_popularity: self.popular / pairs,
            pairs_hard: self.hard / of_hard,
            pairs_by_count: [uniform / pairs, popular / pairs, hard / of_hard],
            hard_pairs: hard_pairs as u64,
            catalogue: catalogue.to_array(),
            candidate_recall: recall as f64 / count,
            hits: hits.map(|h| h as f64 / count),
            popularity: self.popularity.map(|p| p / count),
            popularity_next: self.popularity_next / count,
            positive_rewards: self.positive_rewards,
            negative_rewards: self.negative_rewards,
        }
    }
}

fn row(numbers: &[f32]) -> Result<Tensor> {
    Tensor::from_slice(&Device::Cpu, numbers, &[numbers.len()])
}
