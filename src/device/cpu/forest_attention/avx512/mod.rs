//! Forest attention in f32 on AVX-512: its products are those of blocks ([`packed`](crate::device::cpu)), whose panels hold a
//! head of some rows.

mod backward;
mod forward;

pub use backward::tree;
pub use forward::forward;

use super::tile::RowKeys;
use crate::device::cpu::avx512::{first, transpose};
use crate::device::cpu::packed::COLUMNS;
use std::arch::x86_64::*;
use std::ops::Range;

/// Panels over rows: columns `columns` of the rows `rows` of x, rows of `width`, into `panels: [rows / COLUMNS][columns][COLUMNS]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn load_columns(x: &[f32], width: usize, columns: Range<usize>, rows: &[usize], panels: &mut [u32]) {
    let x: &[u32] = bytemuck::cast_slice(x);
    let panels = panels.chunks_exact_mut((COLUMNS * columns.len()).max(1));
    for (rows, panel) in rows.chunks(COLUMNS).zip(panels) {
        let mut places = [x.as_ptr(); COLUMNS];
        for (place, &row) in places.iter_mut().zip(rows) {
            *place = x[row * width..][columns.clone()].as_ptr();
        }
        // SAFETY: rows of that many words; the panel has as many rows of COLUMNS.
        unsafe { transpose(&places[..rows.len()], columns.len(), panel.as_mut_ptr(), COLUMNS) };
    }
}

/// Panels over columns: the same into `panels: [columns / COLUMNS][rows][COLUMNS]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn load_rows(x: &[f32], width: usize, columns: Range<usize>, rows: &[usize], panels: &mut [u32]) {
    let x: &[u32] = bytemuck::cast_slice(x);
    let panels = panels.chunks_exact_mut((COLUMNS * rows.len()).max(1));
    for (first, panel) in columns.clone().step_by(COLUMNS).zip(panels) {
        let columns = first..columns.end.min(first + COLUMNS);
        for (to, &row) in panel.chunks_exact_mut(COLUMNS).zip(rows) {
            to[..columns.len()].copy_from_slice(&x[row * width..][columns.clone()]);
        }
    }
}

/// The shared keys from the first to past the last that a row of the block sees.
fn run_of(keys: &[RowKeys]) -> Range<usize> {
    let (mut start, mut end) = (usize::MAX, 0);
    for keys in keys {
        (start, end) = (start.min(keys.ahead), end.max(keys.shared_end()));
    }
    start.min(end)..end
}

/// Σ aᵢ·bᵢ over the length of a.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert!(a.len() <= b.len());
    let mut sum = _mm512_setzero_ps();
    for from in (0..a.len()).step_by(16) {
        let mask = first(a.len() - from);
        // SAFETY: the mask leaves what both have.
        let [x, y] = [a, b].map(|x| unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().add(from)) });
        sum = _mm512_fmadd_ps(x, y, sum);
    }
    _mm512_reduce_add_ps(sum)
}

/// y += a·x.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn add_scaled(a: f32, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len());
    for from in (0..x.len()).step_by(16) {
        let mask = first(x.len() - from);
        // SAFETY: the mask leaves what both have.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(from));
            let sum = _mm512_maskz_loadu_ps(mask, y.as_ptr().add(from));
            let sum = _mm512_fmadd_ps(_mm512_set1_ps(a), x, sum);
            _mm512_mask_storeu_ps(y.as_mut_ptr().add(from), mask, sum);
        }
    }
}
