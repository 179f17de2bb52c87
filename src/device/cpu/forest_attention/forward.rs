//! Forward: tiles in parallel, all heads of a tile by one task.

use super::tile::{BLOCK, RowKeys, Transposed, block_rows, head_of, leaf_products, stride, weighted_sum};
use super::{Float, Inputs};
use crate::device::cpu::simd::{self, Kernel, LANES};
use crate::device::{AttentionIndex, DType, Tile};
use rayon::prelude::*;

struct TileForward<'a, T: Float> {
    inputs: Inputs<'a, T>,
    index: &'a AttentionIndex,
    tile: &'a Tile,
    out: &'a mut [T],
    lse: Option<&'a mut [T]>,
}

impl<T: Float> Kernel for TileForward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(mut self) {
        let Inputs { q, k, v, heads, scale } = self.inputs;
        let (q_width, kv_width, hd) = (heads.q_width(), heads.kv_width(), heads.head_dim);
        let stride = stride(self.index, self.tile);
        let mut scores = vec![T::ZERO; BLOCK * stride];
        let mut mixed = vec![T::ZERO; BLOCK * hd];
        let mut keys_t = Transposed::new();
        for kv_head in 0..heads.kv_heads {
            keys_t.load(self.tile, k, kv_width, kv_head, hd);
            for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
                for first in self.tile.rows.clone().step_by(BLOCK) {
                    let (rows, count) = block_rows(self.tile, first);
                    let row_keys = rows.map(|row| RowKeys::of(self.index, self.tile, row));
                    let queries = rows.map(|row| head_of(q, row, q_width, head, hd));
                    keys_t.products::<FMA>(queries, &row_keys, &mut scores, stride);
                    for r in 0..BLOCK {
                        let scores = &mut scores[r * stride..(r + 1) * stride];
                        let (keys, at) = (&row_keys[r], (kv_width, kv_head));
                        // The softmax runs over the row's own positions, so that its bits tell nothing of the tile.
                        scores.copy_within(keys.ahead..keys.shared_end(), 0);
                        let own = &mut scores[..keys.len().next_multiple_of(LANES)];
                        leaf_products::<T, FMA>(queries[r], keys, k, at, (own, keys.shared), T::NEG_INFINITY);
                        let lse = softmax::<T, FMA>(own, scale);
                        scores.copy_within(..keys.len(), keys.ahead);
                        scores[..keys.ahead].fill(T::ZERO);
                        scores[keys.ahead + keys.len()..].fill(T::ZERO);
                        if let Some(all) = self.lse.as_mut().filter(|_| r < count) {
                            all[(first + r - self.tile.rows.start) * heads.heads + head] = lse;
                        }
                    }
                    let source = (v, kv_width, kv_head);
                    weighted_sum::<T, FMA>(self.tile, &row_keys, &scores, stride, source, &mut mixed);
                    for r in 0..count {
                        let at = (first + r - self.tile.rows.start) * q_width + head * hd;
                        self.out[at..at + hd].copy_from_slice(&mixed[r * hd..(r + 1) * hd]);
                    }
                }
            }
        }
    }
}

/// Turns raw scores into probabilities in place and returns the log-sum-exp of the scaled scores. The slice is whole
/// lanes, −∞ behind the row's keys, so that the sum's order is that of the positions.
#[inline(always)]
fn softmax<T: Float, const FMA: bool>(scores: &mut [T], scale: T) -> T {
    let mut highest = T::NEG_INFINITY;
    for s in scores.iter_mut() {
        *s = *s * scale;
    }
    highest = highest.max(simd::max(scores));
    let mut lanes = [T::ZERO; LANES];
    for chunk in scores.chunks_exact_mut(LANES) {
        for l in 0..LANES {
            chunk[l] = (chunk[l] - highest).exp::<FMA>();
            lanes[l] += chunk[l];
        }
    }
    let sum = simd::sum_of(&lanes, |x| x);
    let inverse = T::ONE / sum;
    for s in scores.iter_mut() {
        *s = *s * inverse;
    }
    highest + sum.ln()
}

/// Forward. `out: [rows, heads·head_dim]`; `lse: [rows, heads]` the log-sum-exp of every row's scaled scores, where it is
/// wanted.
pub fn forward<T: Float>(inputs: Inputs<T>, index: &AttentionIndex, out: &mut [T], lse: Option<&mut [T]>) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && simd::level() == simd::Level::Avx512 {
        use bytemuck::cast_slice_mut;
        return super::avx512::forward(inputs.as_f32(), index, cast_slice_mut(out), lse.map(cast_slice_mut));
    }
    let heads = inputs.heads;
    let (mut out, mut lse) = (out, lse);
    let mut tasks = Vec::with_capacity(index.tiles().len());
    for tile in index.tiles() {
        let (tile_out, rest) = out.split_at_mut(tile.rows.len() * heads.q_width());
        out = rest;
        let tile_lse = lse.take().map(|all| {
            let (own, rest) = all.split_at_mut(tile.rows.len() * heads.heads);
            lse = Some(rest);
            own
        });
        tasks.push(TileForward { inputs, index, tile, out: tile_out, lse: tile_lse });
    }
    tasks.into_par_iter().for_each(simd::dispatch);
}
