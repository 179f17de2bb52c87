//! C (+)= A·B on the `gemm` crate, wrapped so that a row of C has the same bits whatever rows stand beside it.
//!
//! The crate picks another order of summation when C is a single row or column, or tiny. So C with few columns
//! is computed here by dot products, and few rows are padded to `MIN_ROWS`; from there on the order depends on
//! K alone, never on the number of rows or threads (asserted by `rows_have_the_same_bits_in_any_batch`).
//! Bound by arithmetic for the sizes of this crate.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use gemm::Parallelism;
use rayon::prelude::*;

/// Below this many rows or columns the crate would switch to another kernel.
const MIN_ROWS: usize = 72;
const MIN_COLUMNS: usize = 4;

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    /// Elements, row-major as stored.
    pub data: &'a [T],
    /// Rows as seen by the product.
    pub rows: usize,
    /// Columns as seen by the product.
    pub columns: usize,
    /// Whether `data` holds the transpose, `[columns, rows]`.
    pub transposed: bool,
}

impl<'a, T: Float> Matrix<'a, T> {
    /// `data: [rows, columns]`.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, transposed: false }
    }

    /// The transpose of `data: [columns, rows]`.
    pub fn transposed(data: &'a [T], rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, transposed: true }
    }

    /// (row stride, column stride).
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (1, self.rows as isize) } else { (self.columns as isize, 1) }
    }
}

/// c = a·b, or c += a·b if `accumulate`; `c: [a.rows, b.columns]` row-major.
pub fn matmul<T: Float>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert!(b.rows == k && c.len() == m * n && a.data.len() == m * k && b.data.len() == k * n);
    if m == 0 || n == 0 {
        return;
    }
    if n < MIN_COLUMNS && !a.transposed {
        return narrow(a, b, c, accumulate);
    }
    if m >= MIN_ROWS || a.transposed {
        return product(a, b, c, accumulate);
    }
    let mut padded_a = vec![T::ZERO; MIN_ROWS * k];
    padded_a[..m * k].copy_from_slice(a.data);
    let mut padded_c = vec![T::ZERO; MIN_ROWS * n];
    padded_c[..m * n].copy_from_slice(c);
    product(Matrix::new(&padded_a, MIN_ROWS, k), b, &mut padded_c, accumulate);
    c.copy_from_slice(&padded_c[..m * n]);
}

fn product<T: Float>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let ((a_row, a_column), (b_row, b_column)) = (a.strides(), b.strides());
    // SAFETY: `matmul` checked the lengths against the shapes, and the strides follow from the shapes.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a_column,
            a_row,
            b.data.as_ptr(),
            b_column,
            b_row,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

struct Narrow<'a, T> {
    a: &'a [T],
    columns: &'a [T],
    k: usize,
    n: usize,
    c: &'a mut [T],
    accumulate: bool,
}

impl<T: Float> Kernel for Narrow<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (a, c) in self.a.chunks_exact(self.k).zip(self.c.chunks_exact_mut(self.n)) {
            for (c, column) in c.iter_mut().zip(self.columns.chunks_exact(self.k)) {
                let sum = simd::dot::<T, FMA>(a, column);
                *c = if self.accumulate { *c + sum } else { sum };
            }
        }
    }
}

/// Fewer than [`MIN_COLUMNS`] columns: a dot product an element.
fn narrow<T: Float>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], accumulate: bool) {
    let (n, k) = (b.columns, a.columns);
    if k == 0 {
        return if accumulate {
        } else {
            c.fill(T::ZERO)
        };
    }
    let (row, column) = b.strides();
    let at = |j: usize, i: usize| b.data[i * row as usize + j * column as usize];
    let columns: Vec<T> = (0..n).flat_map(|j| (0..k).map(move |i| at(j, i))).collect();
    let rows = rows_per_task(k);
    c.par_chunks_mut(rows * n).zip(a.data.par_chunks(rows * k)).for_each(|(c, a)| {
        simd::dispatch(Narrow { a, columns: &columns, k, n, c, accumulate });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn rows_have_the_same_bits_in_any_batch() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (n, k) in
            [(1, 5), (2, 700), (3, 64), (5, 3), (17, 700), (64, 48), (64, 1100), (300, 2), (130, 600)]
        {
            let (a, b) = (random(&mut rng, 700 * k), random(&mut rng, n * k));
            let mut whole = vec![f32::NAN; 700 * n];
            matmul(Matrix::new(&a, 700, k), Matrix::transposed(&b, k, n), &mut whole, false);
            for (from, to) in [(0, 1), (3, 10), (0, 70), (65, 140), (9, 300), (1, 700)] {
                let mut part = vec![f32::NAN; (to - from) * n];
                let rows = Matrix::new(&a[from * k..to * k], to - from, k);
                matmul(rows, Matrix::transposed(&b, k, n), &mut part, false);
                assert!(part == whole[from * n..to * n], "n {n} k {k} rows {from}..{to}");
            }
        }
    }

    #[test]
    fn products_agree_with_f64() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (m, n, k, ta, tb) in [
            (1, 1, 1, false, true),
            (7, 3, 90, false, false),
            (80, 40, 33, true, false),
            (5, 90, 64, true, true),
        ] {
            let (a, b, c) = (random(&mut rng, m * k), random(&mut rng, n * k), random(&mut rng, m * n));
            let left = if ta { Matrix::transposed(&a, m, k) } else { Matrix::new(&a, m, k) };
            let right = if tb { Matrix::transposed(&b, k, n) } else { Matrix::new(&b, k, n) };
            let mut out = c.clone();
            matmul(left, right, &mut out, true);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k)
                        .map(|l| {
                            let x = if ta { a[l * m + i] } else { a[i * k + l] };
                            let y = if tb { b[j * k + l] } else { b[l * n + j] };
                            f64::from(x) * f64::from(y)
                        })
                        .sum();
                    let want = sum + f64::from(c[i * n + j]);
                    let error = (f64::from(out[i * n + j]) - want).abs();
                    assert!(error < 1e-5, "{m} {n} {k} at {i},{j}: {error}");
                }
            }
        }
    }
}
