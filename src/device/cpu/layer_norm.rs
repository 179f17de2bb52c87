//! Layer norm of rows, forward and backward. Bound by memory: one read and one write of x.

use super::column_sums::column_sums;
use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

struct Forward<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
    eps: T,
    y: &'a mut [T],
    moments: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.weight.len();
        let count = T::of(d as f64);
        let rows = self.x.chunks_exact(d).zip(self.y.chunks_exact_mut(d));
        for ((x, y), moments) in rows.zip(self.moments.chunks_exact_mut(2)) {
            let mean = simd::sum_of(x, |v| v) / count;
            let variance = simd::sum_of(x, |v| (v - mean) * (v - mean)) / count;
            let scale = T::ONE / (variance + self.eps).sqrt();
            moments.copy_from_slice(&[mean, scale]);
            for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(self.weight).zip(self.bias) {
                *y = (x - mean) * scale * w + b;
            }
        }
    }
}

/// y = (x − mean) / √(variance + eps) · weight + bias, the variance over d; `x, y: [rows, d]`,
/// `weight, bias: [d]`, `moments: [rows, 2]` mean and reciprocal root of every row.
pub fn forward<T: Float>(x: &[T], [weight, bias]: [&[T]; 2], eps: T, y: &mut [T], moments: &mut [T]) {
    let d = weight.len();
    if d == 0 {
        return;
    }
    let rows = rows_per_task(d);
    let tasks = x.par_chunks(rows * d).zip(y.par_chunks_mut(rows * d)).zip(moments.par_chunks_mut(2 * rows));
    tasks.for_each(|((x, y), moments)| simd::dispatch(Forward { x, weight, bias, eps, y, moments }));
}

struct BackwardInput<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    moments: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for BackwardInput<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.weight.len();
        let count = T::of(d as f64);
        let rows = self.x.chunks_exact(d).zip(self.dy.chunks_exact(d));
        for (((x, dy), dx), moments) in
            rows.zip(self.dx.chunks_exact_mut(d)).zip(self.moments.chunks_exact(2))
        {
            let (mean, scale) = (moments[0], moments[1]);
            let mean_g = simd::dot::<T, FMA>(dy, self.weight) / count;
            for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(self.weight) {
                *dx = dy * w * ((x - mean) * scale);
            }
            let mean_gx = simd::sum_of(dx, |v| v) / count;
            for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(self.weight) {
                *dx = scale * (dy * w - mean_g - (x - mean) * scale * mean_gx);
            }
        }
    }
}

/// dx of [`forward`]: with g = dy·w, x̂ the normed row and s the reciprocal root,
/// dx = s·(g − mean(g) − x̂·mean(g·x̂)).
pub fn backward_input<T: Float>(x: &[T], weight: &[T], moments: &[T], dy: &[T], dx: &mut [T]) {
    let d = weight.len();
    if d == 0 {
        return;
    }
    let rows = rows_per_task(d);
    let inputs = x.par_chunks(rows * d).zip(moments.par_chunks(2 * rows)).zip(dy.par_chunks(rows * d));
    inputs.zip(dx.par_chunks_mut(rows * d)).for_each(|(((x, moments), dy), dx)| {
        simd::dispatch(BackwardInput { x, weight, moments, dy, dx });
    });
}

struct BackwardParameters<'a, T> {
    x: &'a [T],
    moments: &'a [T],
    dy: &'a [T],
    sums: &'a mut [T],
}

impl<T: Float> Kernel for BackwardParameters<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.sums.len() / 2;
        let (dweight, dbias) = self.sums.split_at_mut(d);
        let rows = self.x.chunks_exact(d).zip(self.dy.chunks_exact(d));
        for ((x, dy), moments) in rows.zip(self.moments.chunks_exact(2)) {
            for (((dw, db), &x), &dy) in dweight.iter_mut().zip(dbias.iter_mut()).zip(x).zip(dy) {
                *dw += dy * ((x - moments[0]) * moments[1]);
                *db += dy;
            }
        }
    }
}

/// `sums: [2, d]` = Σ_rows dy·x̂ (the weight's gradient) and Σ_rows dy (the bias's).
pub fn backward_parameters<T: Float>(x: &[T], moments: &[T], dy: &[T], sums: &mut [T]) {
    let d = sums.len() / 2;
    if d == 0 {
        return;
    }
    column_sums(x.len() / d, sums, |rows, sums| {
        let elements = rows.start * d..rows.end * d;
        let (x, dy) = (&x[elements.clone()], &dy[elements]);
        let moments = &moments[2 * rows.start..2 * rows.end];
        simd::dispatch(BackwardParameters { x, moments, dy, sums });
    });
}
