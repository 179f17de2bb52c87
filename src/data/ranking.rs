//! Hit ratio and NDCG of full rankings.
//!
//! The rank of the target among all items is its expected value when items of equal score stand in random order:
//! 1 + #(greater) + #(equal others) / 2, so that a model which scores all items alike gains nothing. With one
//! relevant item, HR@K = \[rank ≤ K\] and NDCG@K = \[rank ≤ K\] / log2(1 + rank) (Järvelin and Kekäläinen 2002, with
//! an ideal DCG of 1), averaged over the steps.

use crate::ops::standing::Standing;
use serde::{Deserialize, Serialize};

/// The cut-offs K at which rankings are judged.
pub const CUTOFFS: [usize; 3] = [5, 10, 20];

const LAST: usize = CUTOFFS[CUTOFFS.len() - 1];

/// Rank of item `target` among `scores` (`[items]`), from 1, ties counted half. A NaN never ranks above a number: a
/// target with it is last.
///
/// # Panics
/// If `target` is not below the number of scores.
pub fn rank(scores: &[f32], target: usize) -> f64 {
    rank_of(Standing::among(scores, scores[target], Some(target)))
}

/// The same from how the target stands among the others.
pub fn rank_of(standing: Standing) -> f64 {
    1.0 + f64::from(standing.above) + f64::from(standing.equal) / 2.0
}

/// Ranks of many steps, kept as counts, so that neither the order of adding nor that of merging changes a bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u64>", try_from = "Vec<u64>")]
pub struct Ranking {
    steps: u64,
    /// Number of steps with rank 1 + i/2.
    counts: [u64; 2 * LAST - 1],
}

impl From<Ranking> for Vec<u64> {
    fn from(ranking: Ranking) -> Self {
        std::iter::once(ranking.steps).chain(ranking.counts).collect()
    }
}

impl TryFrom<Vec<u64>> for Ranking {
    type Error = String;

    fn try_from(stored: Vec<u64>) -> Result<Self, String> {
        let [steps, counts @ ..] = &stored[..] else {
            return Err("a ranking without its number of steps".into());
        };
        let counts = counts
            .try_into()
            .map_err(|_| format!("{} counts where a ranking has {}", counts.len(), 2 * LAST - 1))?;
        Ok(Ranking { steps: *steps, counts })
    }
}

impl Default for Ranking {
    fn default() -> Self {
        Ranking { steps: 0, counts: [0; 2 * LAST - 1] }
    }
}

impl Ranking {
    /// Adds a step whose target is item `target`, scored like all others in `scores` (`[items]`).
    pub fn add(&mut self, scores: &[f32], target: usize) {
        self.add_rank(rank(scores, target));
    }

    /// Adds a step whose target has `rank`, a multiple of one half from 1 up.
    pub fn add_rank(&mut self, rank: f64) {
        self.steps += 1;
        if let Some(count) = self.counts.get_mut((2.0 * (rank - 1.0)) as usize) {
            *count += 1;
        }
    }

    /// Takes over the steps of `other`.
    pub fn merge(mut self, other: &Ranking) -> Self {
        self.steps += other.steps;
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self
    }

    /// Number of steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Share of the steps with rank at most `cutoff`, which is at most 20; 0 without steps.
    pub fn hr(&self, cutoff: usize) -> f64 {
        self.mean(cutoff, |_| 1.0)
    }

    /// Mean of 1 / log2(1 + rank) over the steps, 0 beyond `cutoff`, which is at most 20; 0 without steps.
    pub fn ndcg(&self, cutoff: usize) -> f64 {
        self.mean(cutoff, |rank| 1.0 / (1.0 + rank).log2())
    }

    /// HR@5, NDCG@5, HR@10, NDCG@10, HR@20, NDCG@20.
    pub fn to_array(&self) -> [f64; 6] {
        let [a, b, c] = CUTOFFS;
        [self.hr(a), self.ndcg(a), self.hr(b), self.ndcg(b), self.hr(c), self.ndcg(c)]
    }

    fn mean(&self, cutoff: usize, gain: impl Fn(f64) -> f64) -> f64 {
        let within = self.counts.iter().enumerate().take((2 * cutoff).saturating_sub(1));
        let sum: f64 = within.map(|(i, &count)| count as f64 * gain(1.0 + i as f64 / 2.0)).sum();
        if self.steps == 0 { 0.0 } else { sum / self.steps as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn ties_count_half_and_nan_never_wins() {
        assert_eq!(rank(&[0.5, 2.0, 1.0], 2), 2.0);
        assert_eq!(rank(&[1.0, 1.0, 1.0, 0.0], 1), 2.0);
        assert_eq!(rank(&[1.0, 3.0, 1.0], 0), 2.5);
        assert_eq!(rank(&[0.0; 101], 7), 51.0);
        assert_eq!(rank(&[f32::NAN, 1.0, 0.0], 1), 1.0);
        assert_eq!(rank(&[f32::NAN, 1.0, 0.0], 0), 3.0);
    }

    #[test]
    fn metrics_agree_with_a_count_by_hand() {
        let mut ranking = Ranking::default();
        // The last two lie beyond 20: just so, and far away.
        [1.0, 3.0, 5.0, 5.5, 10.5, 20.0, 20.5, 4000.0].iter().for_each(|&rank| ranking.add_rank(rank));
        let gain = |rank: f64| 1.0 / (1.0 + rank).log2();
        let five = 1.0 + 0.5 + gain(5.0);
        let expected = [
            3.0 / 8.0,
            five / 8.0,
            4.0 / 8.0,
            (five + gain(5.5)) / 8.0,
            6.0 / 8.0,
            (five + gain(5.5) + gain(10.5) + gain(20.0)) / 8.0,
        ];
        for (found, expected) in ranking.to_array().into_iter().zip(expected) {
            assert_relative_eq!(found, expected, max_relative = 1e-12);
        }
        assert_eq!(ranking.steps(), 8);
    }

    #[test]
    fn equal_scores_for_all_items_are_no_hit() {
        let mut ranking = Ranking::default();
        ranking.add(&[0.0; 100], 3);
        assert_eq!(ranking.to_array(), [0.0; 6]);
        assert_eq!(Ranking::default().to_array(), [0.0; 6]);
    }

    #[test]
    fn merging_in_any_order_gives_the_same_bits() {
        let parts: Vec<Ranking> = (0..7)
            .map(|part| {
                let mut ranking = Ranking::default();
                (0..50).for_each(|i| ranking.add_rank(1.0 + f64::from((i * 7 + part * 13) % 60) / 2.0));
                ranking
            })
            .collect();
        let forward = parts.iter().fold(Ranking::default(), Ranking::merge);
        let backward = parts.iter().rev().fold(Ranking::default(), Ranking::merge);
        assert_eq!(forward.to_array().map(f64::to_bits), backward.to_array().map(f64::to_bits));
        assert_eq!(forward.steps(), 350);
    }
}
