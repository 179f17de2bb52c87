//! Sums, differences and products over whole tensors and rows. All bound by memory.

use super::column_sums::column_sums;
use super::map::Map;
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
    if row.is_empty() {
        return;
    }
    let rows = rows_per_task(row.len());
    y.par_chunks_mut(rows * row.len()).for_each(|y| {
        for y in y.chunks_exact_mut(row.len()) {
            simd::dispatch(AddAssign(y, row));
        }
    });
}

/// y = Σ_rows x; `x: [rows, columns]`, `y: [columns]`.
pub fn sum_rows<T: Float>(x: &[T], y: &mut [T]) {
    let columns = y.len();
    column_sums(x.len() / columns.max(1), y, |rows, y| {
        for row in x[rows.start * columns..rows.end * columns].chunks_exact(columns.max(1)) {
            simd::dispatch(AddAssign(y, row));
        }
    });
}

/// Every row of `y: [rows, columns]` becomes a copy of `row: [columns]`.
pub fn repeat_row<T: Float>(y: &mut [T], row: &[T]) {
    if row.is_empty() {
        return;
    }
    let rows = rows_per_task(row.len());
    y.par_chunks_mut(rows * row.len()).for_each(|y| {
        y.chunks_exact_mut(row.len()).for_each(|y| y.copy_from_slice(row));
    });
}

/// a + b at one place.
#[derive(Clone, Copy)]
pub struct Total;

impl<T: Float> Map<T, 2> for Total {
    #[inline(always)]
    fn at<const FMA: bool>(self, [a, b]: [T; 2]) -> T {
        a + b
    }
}

/// a·b at one place.
#[derive(Clone, Copy)]
pub struct Product;

impl<T: Float> Map<T, 2> for Product {
    #[inline(always)]
    fn at<const FMA: bool>(self, [a, b]: [T; 2]) -> T {
        a * b
    }
}
