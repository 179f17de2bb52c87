//! A factor a row, and its gradient, a dot product a row. Bound by memory.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

struct ScaleRows<'a, T> {
    x: &'a [T],
    factors: &'a [T],
    d: usize,
    y: &'a mut [T],
}

impl<T: Float> Kernel for ScaleRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.x.chunks_exact(self.d).zip(self.y.chunks_exact_mut(self.d));
        for ((x, y), &factor) in rows.zip(self.factors) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = factor * x;
            }
        }
    }
}

/// yᵢ = factorᵢ·xᵢ; `x, y: [rows, d]`, `factors: [rows]`.
pub fn scale_rows<T: Float>(x: &[T], factors: &[T], y: &mut [T]) {
    if x.is_empty() {
        return;
    }
    let d = x.len() / factors.len();
    let rows = rows_per_task(d);
    let inputs = x.par_chunks(rows * d).zip(factors.par_chunks(rows));
    inputs.zip(y.par_chunks_mut(rows * d)).for_each(|((x, factors), y)| {
        simd::dispatch(ScaleRows { x, factors, d, y });
    });
}

struct RowDots<'a, T> {
    a: &'a [T],
    b: &'a [T],
    d: usize,
    dots: &'a mut [T],
}

impl<T: Float> Kernel for RowDots<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.a.chunks_exact(self.d).zip(self.b.chunks_exact(self.d));
        for ((a, b), dot) in rows.zip(self.dots) {
            *dot = simd::dot::<T, FMA>(a, b);
        }
    }
}

/// dotsᵢ = aᵢ·bᵢ; `a, b: [rows, d]`, `dots: [rows]`.
pub fn row_dots<T: Float>(a: &[T], b: &[T], dots: &mut [T]) {
    if a.is_empty() {
        return dots.fill(T::ZERO);
    }
    let d = a.len() / dots.len();
    let rows = rows_per_task(d);
    let inputs = a.par_chunks(rows * d).zip(b.par_chunks(rows * d));
    inputs.zip(dots.par_chunks_mut(rows)).for_each(|((a, b), dots)| {
        simd::dispatch(RowDots { a, b, d, dots });
    });
}
