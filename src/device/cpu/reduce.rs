//! Sums over whole tensors. Bound by memory. Chunks of a fixed length are summed by lanes, in parallel; the chunks'
//! sums are added in f64, in their order, so that long sums keep the precision of short ones.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

struct Sum<'a, T>(&'a [T]);

impl<T: Float> Kernel for Sum<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> T {
        simd::sum_of(self.0, |x| x)
    }
}

/// Σ xᵢ.
pub fn sum<T: Float>(x: &[T]) -> f64 {
    let partials: Vec<f64> =
        x.par_chunks(rows_per_task(1)).map(|x| simd::dispatch(Sum(x)).to_f64()).collect();
    partials.iter().sum()
}

struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Float> Kernel for Dot<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> T {
        simd::dot::<T, FMA>(self.0, self.1)
    }
}

/// Σ aᵢ·bᵢ; of one length.
pub fn dot<T: Float>(a: &[T], b: &[T]) -> f64 {
    let chunk = rows_per_task(1);
    let chunks = a.par_chunks(chunk).zip(b.par_chunks(chunk));
    let partials: Vec<f64> = chunks.map(|(a, b)| simd::dispatch(Dot(a, b)).to_f64()).collect();
    partials.iter().sum()
}
