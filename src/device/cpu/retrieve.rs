//! The best k table rows by dot product for every row of x. A part of the table at a time is prepared for products; tiles of
//! x meet it, each row keeping its best, so that scores exist one tile at a time. Bound by the arithmetic of the product.

use super::Buffer;
use super::best::{Best, Consider, Ranked};
use super::matmul::{Factor, Matrix, Terms, Threads, matmul_prepared};
use super::simd;
use rayon::prelude::*;

/// Rows of x and of the table in a tile of scores: 512 KiB of f32, about a core's own cache.
const X_ROWS: usize = 128;
const TABLE_ROWS: usize = 1024;

/// What to search for, and where.
#[derive(Clone, Copy)]
pub struct Search<'a, T> {
    /// `[n, d]`.
    pub x: &'a [T],
    /// `[v, d]`.
    pub table: &'a [T],
    /// `[v]`, added to the products.
    pub bias: Option<&'a [T]>,
    /// For every row of x the sorted ids to leave out; empty for none at all.
    pub exclude: &'a [Vec<u32>],
    /// Row length.
    pub d: usize,
    /// Rows of the table.
    pub v: usize,
    /// Results a row, at least 1.
    pub k: usize,
}

/// `values, ids: [n, k]`, best first, padded with −∞ and `u32::MAX`. A row's bits depend on no other row.
pub fn retrieve<T: Ranked>(search: Search<T>, values: &mut [T], ids: &mut [u32]) {
    let Search { d, v, k, .. } = search;
    let mut best: Vec<Best<T>> = (0..values.len() / k).map(|_| Best::new(k)).collect();
    for first in (0..v).step_by(TABLE_ROWS) {
        let columns = TABLE_ROWS.min(v - first);
        let table = Matrix::transposed(&search.table[first * d..(first + columns) * d], d, columns);
        let table = Factor::new(table);
        let tiles = best.par_chunks_mut(X_ROWS).enumerate();
        let room = || Buffer::scratch(T::DTYPE, X_ROWS * columns);
        tiles.for_each_init(room, |scores, (i, best)| {
            let scores = &mut scores.as_mut_slice()[..best.len() * columns];
            search.consider(i * X_ROWS, best, (first, &table), scores);
        });
    }
    let rows = values.par_chunks_mut(k).zip(ids.par_chunks_mut(k)).zip(&mut best);
    rows.for_each(|((values, ids), best)| best.finish(values, ids));
}

impl<T: Ranked> Search<'_, T> {
    /// Meets rows of x from `row` on with the table from `first` on; `scores: [rows, part of the table]` is written.
    fn consider(
        &self,
        row: usize,
        best: &mut [Best<T>],
        (first, table): (usize, &Factor<T>),
        scores: &mut [T],
    ) {
        let (d, columns) = (self.d, scores.len() / best.len());
        let x = Matrix::new(&self.x[row * d..(row + best.len()) * d], best.len(), d);
        let bias = self.bias.map(|bias| &bias[first..first + columns]);
        let threads = Threads::of_tasks((self.x.len() / d.max(1)).div_ceil(X_ROWS));
        matmul_prepared(x, table, scores, Terms { bias, ..Terms::default() }, threads);
        for (i, (best, scores)) in best.iter_mut().zip(scores.chunks_exact(columns)).enumerate() {
            let exclude = self.exclude.get(row + i).map_or(&[][..], Vec::as_slice);
            simd::dispatch(Consider { best, scores, first: first as u32, exclude });
        }
    }
}
