//! Pairwise log-sigmoid losses, forward and backward. A logarithm a pair bounds it.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// Scores of `n` positives and of `k` negatives each.
#[derive(Clone, Copy)]
pub struct Pairs<'a, T> {
    /// `[n]`.
    pub positive: &'a [T],
    /// `[n, k]`.
    pub negative: &'a [T],
    /// Negatives a positive.
    pub k: usize,
    /// Difference below which a pair costs more than log 2.
    pub margin: T,
}

impl<T: Float> Pairs<'_, T> {
    /// margin − (p − q) of pair `place`.
    #[inline(always)]
    fn shortfall(&self, place: usize) -> T {
        self.margin - (self.positive[place / self.k] - self.negative[place])
    }
}

struct Forward<'a, T> {
    pairs: Pairs<'a, T>,
    first: usize,
    losses: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, loss) in self.losses.iter_mut().enumerate() {
            *loss = self.pairs.shortfall(self.first + i).softplus::<FMA>();
        }
    }
}

/// lossᵢⱼ = −log σ(pᵢ − qᵢⱼ − margin); `losses: [n, k]`.
pub fn forward<T: Float>(pairs: Pairs<T>, losses: &mut [T]) {
    let chunk = rows_per_task(8);
    losses.par_chunks_mut(chunk).enumerate().for_each(|(task, losses)| {
        simd::dispatch(Forward { pairs, first: task * chunk, losses });
    });
}

struct Backward<'a, T> {
    pairs: Pairs<'a, T>,
    grad: &'a [T],
    first: usize,
    dnegative: &'a mut [T],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, dnegative) in self.dnegative.iter_mut().enumerate() {
            let place = self.first + i;
            *dnegative = self.grad[place] * self.pairs.shortfall(place).sigmoid::<FMA>();
        }
    }
}

/// dqᵢⱼ = gradᵢⱼ·σ(margin − (pᵢ − qᵢⱼ)) and dpᵢ = −Σⱼ dqᵢⱼ, in the order of j.
pub fn backward<T: Float>(pairs: Pairs<T>, grad: &[T], dpositive: &mut [T], dnegative: &mut [T]) {
    let chunk = rows_per_task(8);
    dnegative.par_chunks_mut(chunk).enumerate().for_each(|(task, dnegative)| {
        simd::dispatch(Backward { pairs, grad, first: task * chunk, dnegative });
    });
    dpositive.fill(T::ZERO);
    for (dpositive, dnegative) in dpositive.iter_mut().zip(dnegative.chunks(pairs.k.max(1))) {
        *dpositive = -dnegative.iter().copied().sum::<T>();
    }
}
