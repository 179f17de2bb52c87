//! Sums over the rows of a matrix, in blocks of rows: the order depends on the number of rows alone, and blocks
//! run in parallel.

use super::Float;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that one partial sum takes in, in row order.
const BLOCK: usize = 256;

/// Fills `sums` with Σ over `rows` rows: `add(range, partial)` adds those of `range`, in order, to `partial`.
pub fn column_sums<T: Float>(rows: usize, sums: &mut [T], add: impl Fn(Range<usize>, &mut [T]) + Sync) {
    sums.fill(T::ZERO);
    if rows <= BLOCK || sums.is_empty() {
        return add(0..rows, sums);
    }
    let mut partials = vec![T::ZERO; rows.div_ceil(BLOCK) * sums.len()];
    partials.par_chunks_mut(sums.len()).enumerate().for_each(|(block, partial)| {
        add(block * BLOCK..rows.min((block + 1) * BLOCK), partial);
    });
    for partial in partials.chunks_exact(sums.len()) {
        for (sum, &p) in sums.iter_mut().zip(partial) {
            *sum += p;
        }
    }
}
