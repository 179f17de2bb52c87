//! C (+)= A·B on the `gemm` crate, wrapped so that a row of C has the same bits whatever rows stand beside it.
//!
//! The crate picks another order of summation when C is a single row or column, or tiny. So C with few columns
//! is computed here by dot products, and few rows are padded to `MIN_ROWS`; from there on the order depends on
//! K alone, never on the number of rows or threads (asserted by `rows_have_the_same_bits_in_any_batch`).
//! Bound by arithmetic for the sizes of this crate.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
#[cfg(target_arch = "x86_64")]
use crate::device::DType;
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

/// What sums begin with, and what is added at their end.
#[derive(Clone, Copy)]
pub struct Terms<'a, T> {
    /// A matrix like the output, where sums begin.
    pub residual: Option<&'a [T]>,
    /// A row, added to all rows at the end.
    pub bias: Option<&'a [T]>,
    /// What the output holds, where sums begin.
    pub accumulate: bool,
}

impl<T> Default for Terms<'_, T> {
    fn default() -> Self {
        Terms { residual: None, bias: None, accumulate: false }
    }
}

/// c = a·b, or c += a·b if `accumulate`; `c: [a.rows, b.columns]` row-major.
pub fn matmul<T: Float>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], accumulate: bool) {
    matmul_with(a, b, c, Terms { accumulate, ..Terms::default() });
}

/// c = a·b and the terms.
pub fn matmul_with<T: Float>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], terms: Terms<T>) {
    #[cfg(target_arch = "x86_64")]
    if simd::level() == simd::Level::Avx512
        && a.transposed
        && !b.transposed
        && packs(&b)
        && terms.residual.is_none()
        && terms.bias.is_none()
    {
        assert!(a.columns == b.rows);
        let (a, b, c) = (a.as_f32(), b.as_f32(), bytemuck::cast_slice_mut(c));
        return super::outer::product(a.data, b.data, [a.rows, b.columns], c, terms.accumulate);
    }
    if a.rows > 0 {
        matmul_prepared(a, &Factor::new(b), c, terms, Threads::All);
    }
}

/// The right factor of several products: packed once, where it has to be.
pub struct Factor<'a, T> {
    b: Matrix<'a, T>,
    #[cfg(target_arch = "x86_64")]
    panels: Option<super::packed::Panels>,
}

impl<'a, T: Float> Factor<'a, T> {
    /// Of the matrix b.
    pub fn new(b: Matrix<'a, T>) -> Self {
        assert!(b.data.len() == b.rows * b.columns);
        Factor {
            b,
            #[cfg(target_arch = "x86_64")]
            panels: packs(&b).then(|| native::pack(b.as_f32())),
        }
    }
}

/// Whether products with b are our own.
#[cfg(target_arch = "x86_64")]
fn packs<T: Float>(b: &Matrix<T>) -> bool {
    T::DTYPE == DType::F32 && b.columns >= MIN_COLUMNS && simd::level() != simd::Level::Portable
}

/// Whose threads a product runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// All there are.
    All,
    /// The caller's, which is one of many.
    Own,
}

impl Threads {
    /// Of the products of `tasks` tasks that run side by side.
    pub fn of_tasks(tasks: usize) -> Self {
        if tasks < rayon::current_num_threads() { Threads::All } else { Threads::Own }
    }
}

/// c = a·b and the terms, b prepared.
pub fn matmul_prepared<T: Float>(
    a: Matrix<T>,
    b: &Factor<T>,
    c: &mut [T],
    terms: Terms<T>,
    threads: Threads,
) {
    let (m, n, k) = (a.rows, b.b.columns, a.columns);
    assert!(b.b.rows == k && c.len() == m * n && a.data.len() == m * k);
    if m == 0 || n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(panels) = &b.panels {
        return native::matmul(a.as_f32(), panels, bytemuck::cast_slice_mut(c), terms.as_f32(), threads);
    }
    let b = b.b;
    if let Some(residual) = terms.residual {
        match terms.accumulate {
            true => super::elementwise::add_assign(c, residual),
            false => c.copy_from_slice(residual),
        }
    }
    let accumulate = terms.accumulate || terms.residual.is_some();
    if n < MIN_COLUMNS && !a.transposed {
        narrow(a, b, c, accumulate);
    } else if m >= MIN_ROWS || a.transposed {
        product(a, b, c, accumulate, threads);
    } else {
        let mut padded_a = vec![T::ZERO; MIN_ROWS * k];
        padded_a[..m * k].copy_from_slice(a.data);
        let mut padded_c = vec![T::ZERO; MIN_ROWS * n];
        padded_c[..m * n].copy_from_slice(c);
        product(Matrix::new(&padded_a, MIN_ROWS, k), b, &mut padded_c, accumulate, threads);
        c.copy_from_slice(&padded_c[..m * n]);
    }
    if let Some(bias) = terms.bias {
        super::elementwise::add_row(c, bias);
    }
}

#[cfg(target_arch = "x86_64")]
impl<'a, T: Float> Matrix<'a, T> {
    /// The same matrix, which is of f32.
    fn as_f32(&self) -> Matrix<'a, f32> {
        let Matrix { data, rows, columns, transposed } = *self;
        Matrix { data: bytemuck::cast_slice(data), rows, columns, transposed }
    }
}

#[cfg(target_arch = "x86_64")]
impl<'a, T: Float> Terms<'a, T> {
    /// The same terms, which are of f32.
    fn as_f32(&self) -> Terms<'a, f32> {
        let [residual, bias] = [self.residual, self.bias].map(|x| x.map(bytemuck::cast_slice));
        Terms { residual, bias, accumulate: self.accumulate }
    }
}

/// f32 on AVX-512 and AVX2: the crate reaches less than half of what such a processor does.
#[cfg(target_arch = "x86_64")]
pub(super) mod native {
    use super::super::packed::{COLUMNS, Panels, Rows, Words, pitch, product, product_alone, transpose};
    use super::{Matrix, Terms, Threads};
    use std::ops::Range;

    /// b in panels.
    pub fn pack(b: Matrix<f32>) -> Panels {
        let (n, k) = (b.columns, b.rows);
        let words: &[u32] = bytemuck::cast_slice(b.data);
        Panels::fill(n, k, |first, count, panel| match b.transposed {
            true => {
                let words = &words[first * k..][..count * k];
                let mut rows = [words.as_ptr(); COLUMNS];
                for (to, row) in rows.iter_mut().zip(words.chunks_exact(k.max(1))) {
                    *to = row.as_ptr();
                }
                // SAFETY: rows of k words, and the panel has k rows of COLUMNS.
                unsafe { transpose(&rows[..count], k, panel.as_mut_ptr(), COLUMNS) }
            }
            false => {
                for (row, to) in words.chunks_exact(n).zip(panel.chunks_exact_mut(COLUMNS)) {
                    to[..count].copy_from_slice(&row[first..first + count]);
                }
            }
        })
    }

    pub fn matmul(a: Matrix<f32>, b: &Panels, c: &mut [f32], terms: Terms<f32>, threads: Threads) {
        match a.transposed {
            true => of_rows(&Columns(a), b, c, terms, threads),
            false => of_rows(&InPlace(a), b, c, terms, threads),
        }
    }

    fn of_rows(a: &impl Rows, b: &Panels, c: &mut [f32], terms: Terms<f32>, threads: Threads) {
        match threads {
            Threads::All => product(Words::Single, a, b, c, terms),
            Threads::Own => product_alone(Words::Single, a, b, c, terms, &mut Vec::new()),
        }
    }

    /// Rows where they are, or copied apart.
    pub struct InPlace<'a>(pub Matrix<'a, f32>);

    impl Rows for InPlace<'_> {
        fn words<'a>(
            &'a self,
            rows: Range<usize>,
            pass: Range<usize>,
            scratch: &'a mut Vec<u32>,
        ) -> (&'a [u32], usize) {
            let k = self.0.columns;
            let here: &[u32] = bytemuck::cast_slice(&self.0.data[rows.start * k..rows.end * k]);
            if pitch(k) == k {
                return (&here[pass.start..], k);
            }
            let pitch = pitch(pass.len());
            scratch.resize(rows.len() * pitch, 0);
            for (row, to) in here.chunks_exact(k).zip(scratch.chunks_exact_mut(pitch)) {
                to[..pass.len()].copy_from_slice(&row[pass.clone()]);
            }
            (scratch, pitch)
        }
    }

    /// Rows of a transposed matrix.
    struct Columns<'a>(Matrix<'a, f32>);

    impl Rows for Columns<'_> {
        fn words<'a>(
            &'a self,
            rows: Range<usize>,
            pass: Range<usize>,
            scratch: &'a mut Vec<u32>,
        ) -> (&'a [u32], usize) {
            let Matrix { data, rows: all, .. } = self.0;
            let (first, pitch) = (pass.start, pitch(pass.len()));
            scratch.resize(rows.len() * pitch, 0);
            for from in pass.clone().step_by(16) {
                let count = (pass.end - from).min(16);
                let mut columns = [data.as_ptr().cast(); 16];
                for (i, to) in columns.iter_mut().enumerate().take(count) {
                    *to = data[(from + i) * all..][rows.clone()].as_ptr().cast();
                }
                let to = scratch[from - first..].as_mut_ptr();
                // SAFETY: each column has these rows, and scratch a place for all.
                unsafe { transpose(&columns[..count], rows.len(), to, pitch) };
            }
            (scratch, pitch)
        }
    }
}

fn product<T: Float>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], accumulate: bool, threads: Threads) {
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
            match threads {
                Threads::All => Parallelism::Rayon(0),
                Threads::Own => Parallelism::None,
            },
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
            (15, 49, 1300, false, true),
            (50, 33, 1111, true, false),
            (13, 20, 1152, false, false),
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
                    assert!(error <= 2e-6 * (1.0 + k as f64).sqrt(), "{m} {n} {k} at {i},{j}: {error}");
                }
            }
        }
    }
}
