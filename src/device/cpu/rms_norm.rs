//! Root-mean-square norm of rows, forward and backward. Bound by memory: one read and one write of x.

use super::column_sums::column_sums;
use super::simd::{self, Kernel};
use super::{Float, Stores, rows_per_task};
use rayon::prelude::*;

struct Forward<'a, T, O> {
    x: &'a [T],
    weight: &'a [T],
    eps: T,
    y: &'a mut [O],
    inverse: &'a mut [T],
}

impl<T: Float, O: Stores<T>> Kernel for Forward<'_, T, O> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.weight.len();
        let rows = self.x.chunks_exact(d).zip(self.y.chunks_exact_mut(d)).zip(self.inverse);
        for ((x, y), inverse) in rows {
            let mean_square = simd::sum_of(x, |v| v * v) / T::of(d as f64);
            let scale = T::ONE / (mean_square + self.eps).sqrt();
            *inverse = scale;
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(self.weight) {
                *y = O::stored(x * scale * w);
            }
        }
    }
}

/// y = x / √(mean(x²) + eps) · weight; `x, y: [rows, d]`, `weight: [d]`, `inverse: [rows]` the reciprocal roots.
pub fn forward<T: Float, O: Stores<T>>(x: &[T], weight: &[T], eps: T, y: &mut [O], inverse: &mut [T]) {
    let d = weight.len();
    let rows = rows_per_task(d);
    let tasks = x.par_chunks(rows * d).zip(y.par_chunks_mut(rows * d)).zip(inverse.par_chunks_mut(rows));
    tasks.for_each(|((x, y), inverse)| simd::dispatch(Forward { x, weight, eps, y, inverse }));
}

/// The same on this thread alone, for a task of something larger.
pub fn forward_alone<T: Float, O: Stores<T>>(x: &[T], weight: &[T], eps: T, y: &mut [O], inverse: &mut [T]) {
    simd::dispatch(Forward { x, weight, eps, y, inverse });
}

struct BackwardInput<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    inverse: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for BackwardInput<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.weight.len();
        let rows = self.x.chunks_exact(d).zip(self.dy.chunks_exact(d));
        for (((x, dy), dx), &scale) in rows.zip(self.dx.chunks_exact_mut(d)).zip(self.inverse) {
            for ((dx, &dy), &w) in dx.iter_mut().zip(dy).zip(self.weight) {
                *dx = dy * w;
            }
            let mean = simd::dot::<T, FMA>(dx, x) * scale * scale / T::of(d as f64);
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = scale * (*dx - x * mean);
            }
        }
    }
}

/// dx of [`forward`]: with g = dy·w and s the reciprocal root, dx = s·(g − x·s²·mean(g·x)).
pub fn backward_input<T: Float>(x: &[T], weight: &[T], inverse: &[T], dy: &[T], dx: &mut [T]) {
    let d = weight.len();
    let rows = rows_per_task(d);
    let inputs = x.par_chunks(rows * d).zip(inverse.par_chunks(rows)).zip(dy.par_chunks(rows * d));
    inputs.zip(dx.par_chunks_mut(rows * d)).for_each(|(((x, inverse), dy), dx)| {
        simd::dispatch(BackwardInput { x, weight, inverse, dy, dx });
    });
}

struct BackwardWeight<'a, T> {
    x: &'a [T],
    inverse: &'a [T],
    dy: &'a [T],
    dweight: &'a mut [T],
}

impl<T: Float> Kernel for BackwardWeight<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.dweight.len();
        for ((x, dy), &scale) in self.x.chunks_exact(d).zip(self.dy.chunks_exact(d)).zip(self.inverse) {
            for ((dw, &x), &dy) in self.dweight.iter_mut().zip(x).zip(dy) {
                *dw += dy * x * scale;
            }
        }
    }
}

/// dweight of [`forward`]: Σ_rows dy·x·s.
pub fn backward_weight<T: Float>(x: &[T], inverse: &[T], dy: &[T], dweight: &mut [T]) {
    let d = dweight.len();
    if d == 0 {
        return;
    }
    column_sums(inverse.len(), dweight, |rows, dweight| {
        let elements = rows.start * d..rows.end * d;
        let (x, dy) = (&x[elements.clone()], &dy[elements]);
        simd::dispatch(BackwardWeight { x, inverse: &inverse[rows], dy, dweight });
    });
}
