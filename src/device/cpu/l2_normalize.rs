//! Rows of length 1, forward and backward. Bound by memory: one read and one write of x.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

struct Forward<'a, T> {
    x: &'a [T],
    d: usize,
    eps: T,
    y: &'a mut [T],
    inverse: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.x.chunks_exact(self.d).zip(self.y.chunks_exact_mut(self.d));
        for ((x, y), inverse) in rows.zip(self.inverse) {
            let length = simd::dot::<T, FMA>(x, x).sqrt();
            let scale = T::ONE / if length < self.eps { self.eps } else { length };
            *inverse = scale;
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * scale;
            }
        }
    }
}

/// y = x / max(‖x‖, eps); `x, y: [rows, d]`, `inverse: [rows]` the reciprocal of the divisor.
pub fn forward<T: Float>(x: &[T], eps: T, y: &mut [T], inverse: &mut [T]) {
    if x.is_empty() {
        return inverse.fill(T::ONE / eps);
    }
    let d = x.len() / inverse.len();
    let rows = rows_per_task(d);
    let tasks = x.par_chunks(rows * d).zip(y.par_chunks_mut(rows * d)).zip(inverse.par_chunks_mut(rows));
    tasks.for_each(|((x, y), inverse)| simd::dispatch(Forward { x, d, eps, y, inverse }));
}

struct Backward<'a, T> {
    y: &'a [T],
    inverse: &'a [T],
    eps: T,
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let d = self.y.len() / self.inverse.len();
        let rows = self.y.chunks_exact(d).zip(self.dy.chunks_exact(d));
        for (((y, dy), dx), &scale) in rows.zip(self.dx.chunks_exact_mut(d)).zip(self.inverse) {
            // A row shorter than eps was divided by a constant.
            let constant = scale >= T::ONE / self.eps;
            let along = if constant { T::ZERO } else { simd::dot::<T, FMA>(y, dy) };
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = scale * (dy - y * along);
            }
        }
    }
}

/// dx of [`forward`]: (dy − y·(y·dy)) / ‖x‖, or dy / eps where ‖x‖ ≤ eps.
pub fn backward<T: Float>(y: &[T], inverse: &[T], eps: T, dy: &[T], dx: &mut [T]) {
    if y.is_empty() {
        return;
    }
    let d = y.len() / inverse.len();
    let rows = rows_per_task(d);
    let inputs = y.par_chunks(rows * d).zip(inverse.par_chunks(rows)).zip(dy.par_chunks(rows * d));
    inputs.zip(dx.par_chunks_mut(rows * d)).for_each(|(((y, inverse), dy), dx)| {
        simd::dispatch(Backward { y, inverse, eps, dy, dx });
    });
}
