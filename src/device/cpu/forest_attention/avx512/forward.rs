//! Forward in f32 on AVX-512: scores and weighted sums of twelve rows by products of blocks (`packed`), with the keys and
//! values that the tiles share in panels. A row's leaf keys follow by dot products. Sums run in the order of positions.
//!
//! The time of it is in benches/results/label-cpu.md.

use super::{
    At, Shares, TileTask, add_scaled, ahead, dot, heads_together, load_columns, load_rows, run_of, shares,
};
use crate::device::AttentionIndex;
use crate::device::cpu::avx512::{exp, first};
use crate::device::cpu::forest_attention::tile::RowKeys;
use crate::device::cpu::forest_attention::{Heads, Inputs};
use crate::device::cpu::matmul::Terms;
use crate::device::cpu::packed::{COLUMNS, Place, ROWS, block_f32};
use rayon::prelude::*;
use std::arch::x86_64::*;
use std::ops::Range;

/// A task, and its part of the log-sums.
struct Task<'a> {
    of: TileTask<'a, f32>,
    lse: Option<&'a mut [f32]>,
}

/// What a task works in.
#[derive(Default)]
struct Scratch {
    /// Rows of the shared keys, in the order of their positions.
    shared: Vec<usize>,
    /// Keys of some heads, `[shared / COLUMNS][head_dim][COLUMNS]` each.
    keys: Vec<u32>,
    /// Values of those heads, `[head_dim / COLUMNS][shared][COLUMNS]` each.
    values: Vec<u32>,
    /// Scores, then weights, of a block of rows: shared positions, then those of leaves.
    scores: Vec<f32>,
}

/// As [`forward`](crate::device::cpu::forest_attention::forward).
pub fn forward(inputs: Inputs<f32>, index: &AttentionIndex, out: &mut [f32], lse: Option<&mut [f32]>) {
    let (heads, mut lse) = (inputs.heads, lse);
    let mut tasks = Vec::with_capacity(index.tiles().len());
    for of in shares(index, heads, out) {
        let rows: usize = of.tiles.iter().map(|tile| tile.rows.len()).sum();
        let own = lse.take().map(|all| {
            let (own, rest) = all.split_at_mut(rows * heads.heads);
            lse = Some(rest);
            own
        });
        tasks.push(Task { of, lse: own });
    }
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        // SAFETY: whoever chose this kernel found the features.
        unsafe { task.run(inputs, index, scratch) };
    });
}

impl Task<'_> {
    /// # Safety
    /// The processor must have the features.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn run(mut self, inputs: Inputs<f32>, index: &AttentionIndex, scratch: &mut Scratch) {
        let Heads { heads, kv_heads, head_dim } = inputs.heads;
        let q_width = heads * head_dim;
        let Shares { tile, rows, stride } = self.of.shares(index, &mut scratch.shared);
        scratch.scores.resize(ROWS * stride, 0.0);
        let together = heads_together(scratch.shared.len(), head_dim, kv_heads);
        for first in (0..kv_heads).step_by(together) {
            let kv_heads = first..kv_heads.min(first + together);
            scratch.load(&inputs, kv_heads.clone());
            for block in rows.clone().step_by(ROWS) {
                let block = block..rows.end.min(block + ROWS);
                let mut keys = [const { RowKeys { ahead: 0, shared: 0, leaf: 0..0 } }; ROWS];
                for (keys, row) in keys.iter_mut().zip(block.clone()) {
                    *keys = RowKeys::of(index, tile, row);
                }
                let keys = &keys[..block.len()];
                let group = inputs.heads.group();
                for head in kv_heads.start * group..kv_heads.end * group {
                    let at = At { head, panel: head / group - first, stride };
                    if rows.contains(&block.end) {
                        ahead(
                            inputs.heads,
                            [inputs.q, inputs.k, inputs.v],
                            index,
                            block.end..rows.end.min(block.end + ROWS),
                            head,
                        );
                    }
                    // SAFETY: as the caller's.
                    let log_sums = unsafe { scratch.weights(&inputs, block.start, keys, at) };
                    if let Some(lse) = &mut self.lse {
                        for (r, &log_sum) in log_sums.iter().enumerate().take(keys.len()) {
                            lse[(block.start + r - rows.start) * heads + head] = log_sum;
                        }
                    }
                    let out =
                        &mut self.of.out[(block.start - rows.start) * q_width..][..keys.len() * q_width];
                    // SAFETY: as the caller's.
                    unsafe { scratch.weighted_sums(&inputs, out, keys, at) };
                }
            }
        }
    }
}

impl Scratch {
    /// Takes the heads `kv_heads` of the shared keys and values.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn load(&mut self, inputs: &Inputs<f32>, kv_heads: Range<usize>) {
        let (head_dim, width) = (inputs.heads.head_dim, inputs.heads.kv_width());
        let (keys, values) = (self.keys_of_head(head_dim), self.values_of_head(head_dim));
        self.keys.resize(kv_heads.len() * keys, 0);
        self.values.resize(kv_heads.len() * values, 0);
        for (i, head) in kv_heads.enumerate() {
            let columns = head * head_dim..(head + 1) * head_dim;
            let (keys, values) =
                (&mut self.keys[i * keys..][..keys], &mut self.values[i * values..][..values]);
            load_columns(inputs.k, width, columns.clone(), &self.shared, keys);
            load_rows(inputs.v, width, columns, &self.shared, values);
        }
    }

    /// Words of the keys of a head.
    fn keys_of_head(&self, head_dim: usize) -> usize {
        self.shared.len().next_multiple_of(COLUMNS) * head_dim
    }

    /// Words of the values of a head.
    fn values_of_head(&self, head_dim: usize) -> usize {
        head_dim.next_multiple_of(COLUMNS) * self.shared.len()
    }

    /// Softmax of the scores of a block of rows from `row` on: weights at their positions, 0 at shared ones that others see
    /// alone. Also the log-sum-exp of each.
    ///
    /// # Safety
    /// `scores` must have a row of `stride` for each of `keys`, with room for all their positions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn weights(
        &mut self,
        inputs: &Inputs<f32>,
        row: usize,
        keys: &[RowKeys],
        At { head, panel, stride }: At,
    ) -> [f32; ROWS] {
        let Heads { head_dim, .. } = inputs.heads;
        let (width, kv_width) = (inputs.heads.q_width(), inputs.heads.kv_width());
        let run = run_of(keys);
        let queries: &[f32] = &inputs.q[row * width + head * head_dim..];
        let own = &self.keys[panel * self.keys_of_head(head_dim)..];
        for number in run.start / COLUMNS..run.end.div_ceil(COLUMNS) {
            let panel = &own[number * COLUMNS * head_dim..][..COLUMNS * head_dim];
            let place = Place { n: stride, end: run.end, pitch: width, row: 0, column: number * COLUMNS };
            let scores = self.scores.as_mut_ptr();
            // SAFETY: rows of scores as the caller's; a run ends ahead of their end.
            unsafe {
                block_f32(keys.len(), bytemuck::cast_slice(queries), panel, scores, place, &Terms::default());
            }
        }
        let kv_head = head / inputs.heads.group();
        let mut log_sums = [0.0; ROWS];
        for (r, keys) in keys.iter().enumerate() {
            let scores = &mut self.scores[r * stride..(r + 1) * stride];
            let query = &queries[r * width..][..head_dim];
            for (j, key) in keys.leaf.clone().enumerate() {
                let key = &inputs.k[key * kv_width + kv_head * head_dim..][..head_dim];
                scores[keys.shared_end() + j] = dot(query, key);
            }
            let own = &mut scores[keys.ahead..keys.ahead + keys.len()];
            log_sums[r] = softmax(own, inputs.scale);
            if run.start < keys.ahead {
                scores[run.start..keys.ahead].fill(0.0);
            }
            if keys.shared_end() < run.end {
                scores[keys.shared_end()..run.end].fill(0.0);
            }
        }
        log_sums
    }

    /// Σ weight·value for a block of rows; `out: [rows, heads·head_dim]`.
    ///
    /// # Safety
    /// As [`Scratch::weights`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn weighted_sums(
        &mut self,
        inputs: &Inputs<f32>,
        out: &mut [f32],
        keys: &[RowKeys],
        At { head, panel, stride }: At,
    ) {
        let Heads { head_dim, .. } = inputs.heads;
        let (width, kv_width) = (inputs.heads.q_width(), inputs.heads.kv_width());
        let run = run_of(keys);
        let weights: &[u32] = bytemuck::cast_slice(&self.scores[run.start..]);
        let own = &self.values[panel * self.values_of_head(head_dim)..];
        let end = (head + 1) * head_dim;
        for number in 0..head_dim.div_ceil(COLUMNS) {
            let panel = &own[number * COLUMNS * self.shared.len()..][run.start * COLUMNS..];
            let panel = &panel[..run.len() * COLUMNS];
            let column = head * head_dim + number * COLUMNS;
            let place = Place { n: width, end, pitch: stride, row: 0, column };
            // SAFETY: `out` has a row for each of `keys`, and the head's columns.
            unsafe { block_f32(keys.len(), weights, panel, out.as_mut_ptr(), place, &Terms::default()) };
        }
        let kv_head = head / inputs.heads.group();
        for (r, keys) in keys.iter().enumerate() {
            for (j, key) in keys.leaf.clone().enumerate() {
                let weight = self.scores[r * stride + keys.shared_end() + j];
                let value = &inputs.v[key * kv_width + kv_head * head_dim..][..head_dim];
                add_scaled(weight, value, &mut out[r * width + head * head_dim..][..head_dim]);
            }
        }
    }
}

/// Turns raw scores into probabilities and returns the log-sum-exp of the scaled scores.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let (len, place, factor) = (scores.len(), scores.as_mut_ptr(), _mm512_set1_ps(scale));
    let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
    // SAFETY: here and below, masks leave what the slice has.
    unsafe {
        for from in (0..len).step_by(16) {
            let scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(first(len - from), place.add(from)), factor);
            most = _mm512_mask_max_ps(most, first(len - from), most, scaled);
        }
        let most = _mm512_reduce_max_ps(most);
        let mut sums = _mm512_setzero_ps();
        for from in (0..len).step_by(16) {
            let mask = first(len - from);
            let scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, place.add(from)), factor);
            let power = exp(_mm512_sub_ps(scaled, _mm512_set1_ps(most)));
            sums = _mm512_mask_add_ps(sums, mask, sums, power);
            _mm512_mask_storeu_ps(place.add(from), mask, power);
        }
        let sum = _mm512_reduce_add_ps(sums);
        let inverse = _mm512_set1_ps(1.0 / sum);
        for from in (0..len).step_by(16) {
            let power = _mm512_maskz_loadu_ps(first(len - from), place.add(from));
            _mm512_mask_storeu_ps(place.add(from), first(len - from), _mm512_mul_ps(power, inverse));
        }
        most + sum.ln()
    }
}
