//! Forest attention in f32 and bf16 on AVX-512: its products are those of blocks ([`packed`](crate::device::cpu)), whose panels hold a
//! head of some rows.

mod backward;
mod forward;
mod forward_bf16;

pub use backward::tree;
pub use forward::forward;
pub use forward_bf16::forward_bf16;

use super::Heads;
use super::tile::RowKeys;
use crate::device::cpu::avx512::{first, transpose};
use crate::device::cpu::packed::COLUMNS;
use crate::device::{AttentionIndex, Tile};
use bytemuck::Pod;
use half::bf16;
use std::arch::x86_64::*;
use std::ops::Range;

/// Most tiles of a task.
const TILES: usize = 8;
/// Words of keys and values that a task takes at a time, unless one head has more: half of the second cache.
const PANELS: usize = 1 << 17;

/// Tiles with the same shared keys, and their part of the output `[rows, heads·head_dim]`.
struct TileTask<'a, O> {
    tiles: &'a [Tile],
    out: &'a mut [O],
}

/// What the rows of a task have in common.
struct Shares<'a> {
    /// One of its tiles.
    tile: &'a Tile,
    /// Its rows.
    rows: Range<usize>,
    /// Room for the scores of a row: shared positions, those of its leaf, and a vector to spare.
    stride: usize,
}

/// A query head, the place of its key head among those that were loaded, and the length of a row of scores.
#[derive(Clone, Copy)]
struct At {
    head: usize,
    panel: usize,
    stride: usize,
}

/// Has head `head` of the rows of q that come next on its way from memory, with their leaves' keys and values: what a row reads
/// of its own is too little at a place for the processor to see it coming.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn ahead<T>(heads: Heads, [q, k, v]: [&[T]; 3], index: &AttentionIndex, rows: Range<usize>, head: usize) {
    let fetch = |x: &[T], row: usize, width: usize, head: usize| {
        // A line of the cache at a time.
        for part in x[row * width + head * heads.head_dim..][..heads.head_dim].chunks(64 / size_of::<T>()) {
            _mm_prefetch::<_MM_HINT_T1>(part.as_ptr().cast());
        }
    };
    for row in rows {
        fetch(q, row, heads.q_width(), head);
        if let Some(leaf) = index.ranges()[row].range(3).last().filter(|_| head.is_multiple_of(heads.group()))
        {
            fetch(k, leaf, heads.kv_width(), head / heads.group());
            fetch(v, leaf, heads.kv_width(), head / heads.group());
        }
    }
}

/// All tiles in tasks.
fn shares<'a, O>(index: &'a AttentionIndex, heads: Heads, mut out: &'a mut [O]) -> Vec<TileTask<'a, O>> {
    let alike = index.tiles().chunk_by(|a, b| a.shared == b.shared).flat_map(|alike| alike.chunks(TILES));
    let mut tasks = Vec::with_capacity(index.tiles().len());
    for tiles in alike {
        let rows: usize = tiles.iter().map(|tile| tile.rows.len()).sum();
        let (own, rest) = out.split_at_mut(rows * heads.q_width());
        out = rest;
        tasks.push(TileTask { tiles, out: own });
    }
    tasks
}

impl<'a, O> TileTask<'a, O> {
    /// What its rows have in common; `shared` becomes the rows of their shared keys, in the order of positions.
    fn shares(&self, index: &AttentionIndex, shared: &mut Vec<usize>) -> Shares<'a> {
        let tile = &self.tiles[0];
        let rows = tile.rows.start..self.tiles.last().map_or(0, |tile| tile.rows.end);
        shared.clear();
        tile.shared.iter().for_each(|range| shared.extend(range.clone()));
        let leaf = rows.clone().map(|row| index.ranges()[row].range(3).len()).max().unwrap_or(0);
        Shares { tile, rows, stride: (shared.len() + leaf).next_multiple_of(16) + 16 }
    }
}

/// Key heads whose panels a task holds at a time. All heads of a block of rows follow each other then, so that these are
/// read as they lie in memory.
fn heads_together(shared: usize, head_dim: usize, kv_heads: usize) -> usize {
    let panels = 2 * shared.next_multiple_of(COLUMNS) * head_dim.next_multiple_of(COLUMNS);
    (PANELS / panels.max(1)).clamp(1, kv_heads)
}

/// Panels over rows: columns `columns` of the rows `rows` of x, rows of `width`, both in words of 32 bits, into
/// `panels: [rows / COLUMNS][columns][COLUMNS]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn load_columns(x: &[impl Pod], width: usize, columns: Range<usize>, rows: &[usize], panels: &mut [u32]) {
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

/// Panels over columns of pairs of rows: `panels: [columns / COLUMNS][rows / 2][COLUMNS]`, the last one's other half zero where
/// rows are odd.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn load_pairs(x: &[bf16], width: usize, columns: Range<usize>, rows: &[usize], panels: &mut [u32]) {
    let pairs = rows.len().div_ceil(2);
    assert!(panels.len() == columns.len().next_multiple_of(COLUMNS) * pairs);
    for (p, pair) in rows.chunks(2).enumerate() {
        for from in (0..columns.len()).step_by(16) {
            let mask = first(columns.len() - from);
            // SAFETY: the mask leaves what the columns have; a panel has COLUMNS words for each pair.
            unsafe {
                let half = |row: usize| {
                    let place = x[row * width..][columns.clone()].as_ptr().add(from);
                    _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, place.cast()))
                };
                let high = pair.get(1).map_or(_mm512_setzero_si512(), |&row| half(row));
                let words = _mm512_or_si512(half(pair[0]), _mm512_slli_epi32::<16>(high));
                let at = (from / COLUMNS * pairs + p) * COLUMNS + from % COLUMNS;
                _mm512_storeu_si512(panels.as_mut_ptr().add(at).cast(), words);
            }
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
