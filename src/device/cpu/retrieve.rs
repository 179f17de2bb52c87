//! The best k table rows by dot product for every row of x. Scores exist one tile at a time: a tile of x meets all
//! tiles of the table in turn, and each row keeps its best. Bound by the arithmetic of the product.

use super::best::{Best, Consider, Ranked};
use super::matmul::{Matrix, matmul};
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
    let tile = X_ROWS * search.k;
    let tiles = values.par_chunks_mut(tile).zip(ids.par_chunks_mut(tile)).enumerate();
    tiles.for_each(|(i, (values, ids))| retrieve_tile(&search, i * X_ROWS, values, ids));
}

fn retrieve_tile<T: Ranked>(search: &Search<T>, first_row: usize, values: &mut [T], ids: &mut [u32]) {
    let &Search { d, v, k, .. } = search;
    let rows = values.len() / k;
    let x = Matrix::new(&search.x[first_row * d..(first_row + rows) * d], rows, d);
    let exclude = |row: usize| search.exclude.get(first_row + row).map_or(&[][..], Vec::as_slice);
    let mut best: Vec<Best<T>> = (0..rows).map(|_| Best::new(k)).collect();
    let mut tile = vec![T::ZERO; rows * TABLE_ROWS.min(v)];
    for first in (0..v).step_by(TABLE_ROWS) {
        let columns = TABLE_ROWS.min(v - first);
        let scores = &mut tile[..rows * columns];
        if let Some(bias) = search.bias {
            scores
                .chunks_exact_mut(columns)
                .for_each(|row| row.copy_from_slice(&bias[first..first + columns]));
        }
        let table = Matrix::transposed(&search.table[first * d..(first + columns) * d], d, columns);
        matmul(x, table, scores, search.bias.is_some());
        for (row, (best, scores)) in best.iter_mut().zip(scores.chunks_exact(columns)).enumerate() {
            simd::dispatch(Consider { best, scores, first: first as u32, exclude: exclude(row) });
        }
    }
    for (best, (values, ids)) in best.iter_mut().zip(values.chunks_exact_mut(k).zip(ids.chunks_exact_mut(k)))
    {
        best.finish(values, ids);
    }
}
