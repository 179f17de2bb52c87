//! The k largest of every row. Bound by memory while k is far below the row's length.

use super::best::{Best, Consider, Ranked};
use super::{rows_per_task, simd};
use rayon::prelude::*;

/// `values, ids: [n, k]` of `scores: [n, m]`, largest first; k at least 1.
pub fn top_k<T: Ranked>(scores: &[T], m: usize, k: usize, values: &mut [T], ids: &mut [u32]) {
    let rows = rows_per_task(m);
    let outputs = values.par_chunks_mut(rows * k).zip(ids.par_chunks_mut(rows * k));
    scores.par_chunks(rows * m).zip(outputs).for_each(|(scores, (values, ids))| {
        let mut best = Best::new(k);
        let outputs = values.chunks_exact_mut(k).zip(ids.chunks_exact_mut(k));
        for (scores, (values, ids)) in scores.chunks_exact(m).zip(outputs) {
            simd::dispatch(Consider { best: &mut best, scores, first: 0, exclude: &[] });
            best.finish(values, ids);
        }
    });
}
