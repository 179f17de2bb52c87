//! Additions over whole tensors and rows. All bound by memory.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

struct AddAssign<'a, T>(&'a mut [T], &'a [T]);

impl<T: Float> Kernel for AddAssign<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (a, &b) in self.0.iter_mut().zip(self.1) {
            *a += b;
        }
    }
}

/// a += b.
pub fn add_assign<T: Float>(a: &mut [T], b: &[T]) {
    let chunk = rows_per_task(1);
    a.par_chunks_mut(chunk).zip(b.par_chunks(chunk)).for_each(|(a, b)| simd::dispatch(AddAssign(a, b)));
}

/// Adds `row: [columns]` to every row of `y: [rows, columns]`.
pub fn add_row<T: Float>(y: &mut [T], row: &[T]) {
    let rows = rows_per_task(row.len());
    y.par_chunks_mut(rows * row.len()).for_each(|y| {
        for y in y.chunks_exact_mut(row.len()) {
            simd::dispatch(AddAssign(y, row));
        }
    });
}

/// y += Σ_rows x; `x: [rows, columns]`. One thread, in row order.
pub fn sum_rows<T: Float>(x: &[T], y: &mut [T]) {
    for row in x.chunks_exact(y.len().max(1)) {
        simd::dispatch(AddAssign(y, row));
    }
}
