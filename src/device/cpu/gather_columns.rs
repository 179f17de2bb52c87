//! Chosen columns of every row, forward and backward. Bound by memory, mostly that of the gradient.

use super::{Float, rows_per_task};
use rayon::prelude::*;

/// yᵢⱼ = xᵢ\[idsᵢⱼ\]; `x: [n, columns]`, `ids, y: [n, k]`.
pub fn forward<T: Float>(x: &[T], columns: usize, ids: &[u32], k: usize, y: &mut [T]) {
    for ((x, ids), y) in x.chunks_exact(columns).zip(ids.chunks_exact(k)).zip(y.chunks_exact_mut(k)) {
        for (y, &id) in y.iter_mut().zip(ids) {
            *y = x[id as usize];
        }
    }
}

/// dxᵢ\[c\] = Σ gradᵢⱼ over the j with idsᵢⱼ = c, in their order; `dx: [n, columns]`.
pub fn backward<T: Float>(grad: &[T], ids: &[u32], k: usize, columns: usize, dx: &mut [T]) {
    let rows = rows_per_task(columns);
    let choices = ids.par_chunks(rows * k).zip(grad.par_chunks(rows * k));
    dx.par_chunks_mut(rows * columns).zip(choices).for_each(|(dx, (ids, grad))| {
        dx.fill(T::ZERO);
        let choices = ids.chunks_exact(k).zip(grad.chunks_exact(k));
        for (dx, (ids, grad)) in dx.chunks_exact_mut(columns).zip(choices) {
            for (&id, &grad) in ids.iter().zip(grad) {
                dx[id as usize] += grad;
            }
        }
    });
}
