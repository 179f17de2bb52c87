//! Backward of one tree. Weights and their gradients are made for all rows of a tile; then those of keys and values are
//! products of their transposes with the rows.

use super::{add_scaled, dot, load_columns, load_rows, run_of};
use crate::device::Tile;
use crate::device::cpu::avx512::{exp, first};
use crate::device::cpu::forest_attention::Heads;
use crate::device::cpu::forest_attention::backward::TreeBackward;
use crate::device::cpu::forest_attention::tile::RowKeys;
use crate::device::cpu::matmul::Terms;
use crate::device::cpu::packed::{COLUMNS, Output, Place, ROWS, block_columns, block_f32};
use std::arch::x86_64::*;
use std::ops::Range;

/// What a tile works in, one key head at a time.
#[derive(Default)]
struct Scratch {
    /// Rows of the shared keys, in the order of their positions.
    shared: Vec<usize>,
    /// The query rows.
    rows: Vec<usize>,
    /// Panels of the shared keys: over keys, and over columns.
    keys: [Vec<u32>; 2],
    /// Panels of the shared values over values.
    values: Vec<u32>,
    /// Panels of the queries, then of the output's gradients, over columns.
    queries: Vec<u32>,
    /// Scores, then weights `[rows, stride]`.
    weights: Vec<f32>,
    /// Gradients of the weights, then of the scores `[rows, stride]`.
    grads: Vec<f32>,
    /// Gradients of the shared keys, then of the values `[shared, head_dim]`.
    sums: [Vec<f32>; 2],
}

/// Runs it.
pub fn tree(mut task: TreeBackward<f32>) {
    let mut scratch = Scratch::default();
    for tile in &task.index.tiles()[task.tree.tiles.clone()] {
        // SAFETY: whoever chose this kernel found the features.
        unsafe { task.tile(tile, &mut scratch) };
    }
}

impl TreeBackward<'_, f32> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn tile(&mut self, tile: &Tile, scratch: &mut Scratch) {
        let Heads { kv_heads, head_dim, .. } = self.inputs.heads;
        let (group, kv_width) = (self.inputs.heads.group(), self.inputs.heads.kv_width());
        scratch.shared.clear();
        tile.shared.iter().for_each(|range| scratch.shared.extend(range.clone()));
        scratch.rows.clear();
        scratch.rows.extend(tile.rows.clone());
        let keys: Vec<RowKeys> = tile.rows.clone().map(|row| RowKeys::of(self.index, tile, row)).collect();
        let stride = scratch.shared.len().next_multiple_of(16) + 16;
        for kv_head in 0..kv_heads {
            let columns = kv_head * head_dim..(kv_head + 1) * head_dim;
            scratch.load(self.inputs.k, self.inputs.v, kv_width, columns);
            for head in kv_head * group..(kv_head + 1) * group {
                self.row_grads(tile, &keys, (head, kv_head), scratch, stride);
                scratch.key_grads(self.inputs.q, self.outputs.dout, &keys, (head, self.inputs.heads), stride);
            }
            let Scratch { shared, sums: [dk, dv], .. } = &*scratch;
            for (j, &key) in shared.iter().enumerate() {
                let grads = if self.root.rows.contains(&key) { &mut self.root } else { &mut self.own };
                let at = (key - grads.rows.start) * kv_width + kv_head * head_dim;
                add_scaled(1.0, &dk[j * head_dim..][..head_dim], &mut grads.dk[at..at + head_dim]);
                add_scaled(1.0, &dv[j * head_dim..][..head_dim], &mut grads.dv[at..at + head_dim]);
            }
        }
    }

    /// Weights and gradients of the scores of a head's shared keys, into `scratch`; gradients of its queries, and of their
    /// leaves' keys and values.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn row_grads(
        &mut self,
        tile: &Tile,
        keys: &[RowKeys],
        (head, kv_head): (usize, usize),
        scratch: &mut Scratch,
        stride: usize,
    ) {
        let Heads { heads, head_dim, .. } = self.inputs.heads;
        let (width, kv_width) = (self.inputs.heads.q_width(), self.inputs.heads.kv_width());
        let (scale, columns) = (self.inputs.scale, head * head_dim..(head + 1) * head_dim);
        for block in (0..keys.len()).step_by(ROWS) {
            let keys = &keys[block..keys.len().min(block + ROWS)];
            let (row, run) = (tile.rows.start + block, run_of(keys));
            let queries = &self.inputs.q[row * width + columns.start..];
            let douts = &self.outputs.dout[row * width + columns.start..];
            let weights = &mut scratch.weights[block * stride..][..keys.len() * stride];
            let grads = &mut scratch.grads[block * stride..][..keys.len() * stride];
            products(queries, width, &scratch.keys[0], head_dim, run.clone(), (weights, stride));
            products(douts, width, &scratch.values, head_dim, run.clone(), (grads, stride));
            for (r, own) in keys.iter().enumerate() {
                let (row, dout) = (row + r, &douts[r * width..][..head_dim]);
                let log_sum = self.outputs.lse[row * heads + head];
                let delta = dot(dout, &self.outputs.out[row * width..][columns.clone()]);
                let (weights, grads) =
                    (&mut weights[r * stride..][..stride], &mut grads[r * stride..][..stride]);
                let seen = own.ahead..own.shared_end();
                for x in [&mut *weights, &mut *grads] {
                    x[..seen.start].fill(0.0);
                    x[seen.end..].fill(0.0);
                }
                through_softmax(&mut weights[seen.clone()], &mut grads[seen], scale, log_sum, delta);
            }
            let at = (row - self.tree.rows.start) * width;
            let dq = &mut self.dq[at..at + (keys.len() - 1) * width + columns.end];
            weighted(
                grads,
                (stride, run),
                &scratch.keys[1],
                scratch.shared.len(),
                (dq, width, columns.clone()),
            );
            for (r, own) in keys.iter().enumerate() {
                let (query, dout) = (&queries[r * width..][..head_dim], &douts[r * width..][..head_dim]);
                let log_sum = self.outputs.lse[(row + r) * heads + head];
                let delta = dot(dout, &self.outputs.out[(row + r) * width..][columns.clone()]);
                let dq = &mut dq[r * width..][columns.clone()];
                for key in own.leaf.clone() {
                    let at = key * kv_width + kv_head * head_dim;
                    let (k, v) = (&self.inputs.k[at..][..head_dim], &self.inputs.v[at..][..head_dim]);
                    let (mut weight, mut grad) = ([dot(query, k)], [dot(dout, v)]);
                    through_softmax(&mut weight, &mut grad, scale, log_sum, delta);
                    add_scaled(grad[0], k, dq);
                    let own = if self.root.rows.contains(&key) { &mut self.root } else { &mut self.own };
                    let at = at - own.rows.start * kv_width;
                    add_scaled(grad[0], query, &mut own.dk[at..at + head_dim]);
                    add_scaled(weight[0], dout, &mut own.dv[at..at + head_dim]);
                }
            }
        }
    }
}

impl Scratch {
    /// Takes a head of the shared keys and values, and makes room.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn load(&mut self, k: &[f32], v: &[f32], width: usize, columns: Range<usize>) {
        let (shared, head_dim, rows) = (self.shared.len(), columns.len(), self.rows.len());
        let over_keys = shared.next_multiple_of(COLUMNS) * head_dim;
        let over_columns = head_dim.next_multiple_of(COLUMNS);
        self.keys[0].resize(over_keys, 0);
        self.keys[1].resize(over_columns * shared, 0);
        self.values.resize(over_keys, 0);
        self.queries.resize(over_columns * rows, 0);
        load_columns(k, width, columns.clone(), &self.shared, &mut self.keys[0]);
        load_rows(k, width, columns.clone(), &self.shared, &mut self.keys[1]);
        load_columns(v, width, columns, &self.shared, &mut self.values);
        let stride = shared.next_multiple_of(16) + 16;
        self.weights.resize(rows * stride, 0.0);
        self.grads.resize(rows * stride, 0.0);
        for sums in &mut self.sums {
            sums.clear();
            sums.resize(shared * head_dim, 0.0);
        }
    }

    /// Adds what a query head gives to the gradients of its shared keys, Σ ds·q, and values, Σ p·dout.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn key_grads(
        &mut self,
        q: &[f32],
        dout: &[f32],
        keys: &[RowKeys],
        (head, heads): (usize, Heads),
        stride: usize,
    ) {
        let (head_dim, width, rows) = (heads.head_dim, heads.q_width(), self.rows.len());
        if self.shared.is_empty() {
            return;
        }
        let columns = head * head_dim..(head + 1) * head_dim;
        let factors = [(q, &self.grads), (dout, &self.weights)];
        for ((x, factor), sums) in factors.into_iter().zip(&mut self.sums) {
            load_rows(x, width, columns.clone(), &self.rows, &mut self.queries);
            let factor: &[u32] = bytemuck::cast_slice(factor);
            for row in (0..self.shared.len()).step_by(ROWS) {
                // Rows ahead of the first that sees one of these keys, and behind the last, have no weights here.
                let sees = |own: &RowKeys| own.shared_end() > row && own.ahead < row + ROWS;
                let Some(from) = keys.iter().position(sees) else { continue };
                let to = keys.iter().rposition(sees).map_or(from, |last| last + 1);
                let panels = self.queries.chunks_exact(COLUMNS * rows.max(1));
                for (number, panel) in panels.enumerate() {
                    let panel = &panel[from * COLUMNS..to * COLUMNS];
                    let place =
                        Place { n: head_dim, end: head_dim, pitch: stride, row, column: number * COLUMNS };
                    let left = self.shared.len() - row;
                    let terms = Terms { accumulate: true, ..Terms::default() };
                    // SAFETY: `sums` has a row of head_dim for each shared key.
                    unsafe {
                        block_columns(
                            left,
                            &factor[from * stride + row..],
                            panel,
                            Output::F32(sums.as_mut_ptr()),
                            place,
                            &terms,
                        )
                    };
                }
            }
        }
    }
}

/// Products of rows of x, `width` apart, with the keys `run` of panels over keys; `products` of rows of `stride`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn products(
    x: &[f32],
    width: usize,
    panels: &[u32],
    head_dim: usize,
    run: Range<usize>,
    (products, stride): (&mut [f32], usize),
) {
    let rows = products.len() / stride;
    assert!(run.end <= stride);
    for number in run.start / COLUMNS..run.end.div_ceil(COLUMNS) {
        let panel = &panels[number * COLUMNS * head_dim..][..COLUMNS * head_dim];
        let place = Place { n: stride, end: run.end, pitch: width, row: 0, column: number * COLUMNS };
        // SAFETY: `products` has these rows, and the run ends ahead of their end.
        unsafe {
            block_f32(rows, bytemuck::cast_slice(x), panel, products.as_mut_ptr(), place, &Terms::default());
        }
    }
}

/// Sums over the keys `run` of panels over columns, of `shared` keys, weighted by rows of `stride`; written to `columns` of
/// rows of `width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn weighted(
    weights: &[f32],
    (stride, run): (usize, Range<usize>),
    panels: &[u32],
    shared: usize,
    (out, width, columns): (&mut [f32], usize, Range<usize>),
) {
    let rows = weights.len() / stride;
    assert!(out.len() >= (rows - 1) * width + columns.end && columns.end <= width);
    for (number, column) in columns.clone().step_by(COLUMNS).enumerate() {
        let panel = &panels[(number * shared + run.start) * COLUMNS..][..run.len() * COLUMNS];
        let place = Place { n: width, end: columns.end, pitch: stride, row: 0, column };
        let weights: &[u32] = bytemuck::cast_slice(&weights[run.start..]);
        // SAFETY: `out` has these rows, and the columns below their end.
        unsafe { block_f32(rows, weights, panel, out.as_mut_ptr(), place, &Terms::default()) };
    }
}

/// From scores and the gradients of weights: weights p = exp(scale·s − log_sum), and gradients of the scores
/// p·(dp − delta)·scale.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn through_softmax(scores: &mut [f32], grads: &mut [f32], scale: f32, log_sum: f32, delta: f32) {
    assert!(scores.len() == grads.len());
    let [scale, log_sum, delta] = [scale, log_sum, delta].map(|x| _mm512_set1_ps(x));
    for from in (0..scores.len()).step_by(16) {
        let mask = first(scores.len() - from);
        // SAFETY: the mask leaves what both have.
        unsafe {
            let (s, g) = (scores.as_mut_ptr().add(from), grads.as_mut_ptr().add(from));
            let weight = exp(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(mask, s), scale, log_sum));
            let grad = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, g), delta);
            _mm512_mask_storeu_ps(s, mask, weight);
            _mm512_mask_storeu_ps(g, mask, _mm512_mul_ps(_mm512_mul_ps(weight, grad), scale));
        }
    }
}
