//! Root-mean-square norm and dot product with one vector, fused: the normed rows are never stored. Bound by memory:
//! one read of x.

use super::column_sums::column_sums;
use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

struct Forward<'a, T> {
    x: &'a [T],
    head: &'a [T],
    eps: T,
    scores: &'a mut [T],
    inverse: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.head.len();
        let rows = self.x.chunks_exact(d).zip(self.scores).zip(self.inverse);
        for ((x, score), inverse) in rows {
            let mean_square = simd::dot::<T, FMA>(x, x) / T::of(d as f64);
            *inverse = T::ONE / (mean_square + self.eps).sqrt();
            *score = simd::dot::<T, FMA>(x, self.head) * *inverse;
        }
    }
}

/// scoreᵢ = xᵢ·head / √(mean(xᵢ²) + eps); `x: [rows, d]`, `head: [d]` the norm's weight times the head,
/// `scores, inverse: [rows]`, inverse the reciprocal roots.
pub fn forward<T: Float>(x: &[T], head: &[T], eps: T, scores: &mut [T], inverse: &mut [T]) {
    let d = head.len();
    let rows = rows_per_task(d);
    let tasks = x.par_chunks(rows * d).zip(scores.par_chunks_mut(rows)).zip(inverse.par_chunks_mut(rows));
    tasks.for_each(|((x, scores), inverse)| simd::dispatch(Forward { x, head, eps, scores, inverse }));
}

struct BackwardInput<'a, T> {
    x: &'a [T],
    head: &'a [T],
    rows: Rows<'a, T>,
    dx: &'a mut [T],
}

/// What forward gave for every row, and the gradient of its score; `[rows]` each.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    /// Scores.
    pub scores: &'a [T],
    /// Reciprocal roots.
    pub inverse: &'a [T],
    /// Gradients of the scores.
    pub dscores: &'a [T],
}

impl<T: Float> Kernel for BackwardInput<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.head.len();
        let Rows { scores, inverse, dscores } = self.rows;
        let rows = self.x.chunks_exact(d).zip(self.dx.chunks_exact_mut(d)).enumerate();
        for (i, (x, dx)) in rows {
            let scale = dscores[i] * inverse[i];
            let radial = scores[i] * inverse[i] / T::of(d as f64);
            for ((dx, &x), &head) in dx.iter_mut().zip(x).zip(self.head) {
                *dx = scale * (head - x * radial);
            }
        }
    }
}

/// dx of [`forward`]: with s the reciprocal root, dx = dscore·s·(head − x·s·score/d).
pub fn backward_input<T: Float>(x: &[T], head: &[T], of: Rows<T>, dx: &mut [T]) {
    let d = head.len();
    let rows = rows_per_task(d);
    x.par_chunks(rows * d).zip(dx.par_chunks_mut(rows * d)).enumerate().for_each(|(task, (x, dx))| {
        let part = task * rows..task * rows + x.len() / d;
        let rows = Rows {
            scores: &of.scores[part.clone()],
            inverse: &of.inverse[part.clone()],
            dscores: &of.dscores[part],
        };
        simd::dispatch(BackwardInput { x, head, rows, dx });
    });
}

struct BackwardHead<'a, T> {
    x: &'a [T],
    inverse: &'a [T],
    dscores: &'a [T],
    dhead: &'a mut [T],
}

impl<T: Float> Kernel for BackwardHead<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.x.chunks_exact(self.dhead.len()).zip(self.inverse).zip(self.dscores);
        for ((x, &inverse), &dscore) in rows {
            simd::axpy::<T, FMA>(dscore * inverse, x, self.dhead);
        }
    }
}

/// `dhead: [d]` = Σ_rows dscore·s·x.
pub fn backward_head<T: Float>(x: &[T], of: Rows<T>, dhead: &mut [T]) {
    let d = dhead.len();
    column_sums(of.inverse.len(), dhead, |rows, dhead| {
        let x = &x[rows.start * d..rows.end * d];
        let (inverse, dscores) = (&of.inverse[rows.clone()], &of.dscores[rows]);
        simd::dispatch(BackwardHead { x, inverse, dscores, dhead });
    });
}
