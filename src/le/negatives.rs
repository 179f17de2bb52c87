//! Negatives of LE training: uniform, by popularity, and from the candidates of the step.

use super::config::FitConfig;
use super::work::Work;
use crate::Result;
use crate::data::{NegativeKind, NegativeSampler};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws the negatives of every step; a draw depends on seed, user, step and epoch alone.
pub struct FitNegatives {
    uniform: NegativeSampler,
    popular: NegativeSampler,
    hard: ChaCha8Rng,
    shared: ChaCha8Rng,
    catalogue: usize,
    count: usize,
    popular_count: usize,
    hard_count: usize,
}

impl FitNegatives {
    /// For items with the given training `counts`.
    pub fn new(config: &FitConfig, counts: &[u32], seed: u64) -> Self {
        let share = |x: f64| (config.negatives as f64 * x).round() as usize;
        let hard_count = share(config.hard_share).min(config.negatives);
        FitNegatives {
            uniform: NegativeSampler::new(NegativeKind::Uniform, counts, seed),
            popular: NegativeSampler::new(NegativeKind::Popularity, counts, seed ^ 0x706f_7075),
            hard: ChaCha8Rng::seed_from_u64(seed ^ 0x6861_7264),
            shared: ChaCha8Rng::seed_from_u64(seed ^ 0x7368_6172),
            catalogue: counts.len(),
            count: config.negatives,
            popular_count: share(config.popularity_share).min(config.negatives - hard_count),
            hard_count,
        }
    }

    /// Whether candidates are wanted at all.
    pub fn wants_candidates(&self) -> bool {
        self.hard_count > 0
    }

    /// Negatives of step `i` of `work` outside `met` (ascending); `candidates` of the step, best first, or none.
    pub fn draw(
        &self,
        work: &Work,
        i: usize,
        met: &[u32],
        epoch: u32,
        candidates: &[u32],
    ) -> Result<Vec<u32>> {
        let step = (work.first_step + i) as u32;
        let mut drawn = self.draw_hard(work.user, step, epoch, candidates);
        let place = (work.user, step, epoch);
        // What is drawn already counts as met, so that no item comes twice.
        let met_with = |drawn: &[u32]| {
            let mut all: Vec<u32> = met.iter().chain(drawn).copied().collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        self.popular.sample(&met_with(&drawn), place, self.popular_count, &mut drawn)?;
        let rest = self.count - drawn.len();
        self.uniform.sample(&met_with(&drawn), place, rest, &mut drawn)?;
        Ok(drawn)
    }

    fn draw_hard(&self, user: u32, step: u32, epoch: u32, candidates: &[u32]) -> Vec<u32> {
        let mut left: Vec<u32> = candidates.iter().copied().filter(|&c| c != u32::MAX).collect();
        let mut rng = self.hard.clone();
        rng.set_stream(u64::from(user) << 32 | u64::from(step));
        rng.set_word_pos(u128::from(epoch) << 20);
        let count = self.hard_count.min(left.len());
        (0..count).map(|_| left.swap_remove(rng.random_range(0..left.len()))).collect()
    }

    /// Uniform items that the steps of one batch share; all items where as many are asked for.
    pub fn draw_shared(&self, batch: u64, count: usize) -> Vec<u32> {
        if count >= self.catalogue {
            return (0..self.catalogue as u32).collect();
        }
        let mut rng = self.shared.clone();
        rng.set_stream(batch);
        (0..count).map(|_| rng.random_range(0..self.catalogue as u32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_no_item_comes_twice_or_was_met() {
        let config =
            FitConfig { negatives: 8, hard_share: 0.5, popularity_share: 0.25, ..FitConfig::default() };
        let negatives = FitNegatives::new(&config, &[1; 40], 3);
        let work = Work { user: 7, history: vec![0, 1], owned: 0..2, first_step: 0, actions: vec![1, 2] };
        let (met, candidates) = ([0, 1, 2], [30, 31, 32, 33, 34, u32::MAX]);
        for epoch in 0..50 {
            let drawn = negatives.draw(&work, 1, &met, epoch, &candidates).unwrap();
            assert!(drawn[..4].iter().all(|d| (30..35).contains(d)));
            let mut sorted = drawn.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 8);
            assert!(drawn.iter().all(|d| !met.contains(d)));
            assert_eq!(drawn, negatives.draw(&work, 1, &met, epoch, &candidates).unwrap());
        }
        assert_eq!(negatives.draw(&work, 0, &met, 0, &[]).unwrap().len(), 8);
    }
}
