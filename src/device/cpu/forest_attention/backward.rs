//! Backward: trees in parallel. Trees share no key but the root's, whose gradients each tree sums apart; these
//! sums are added in the order of the trees.

use super::tile::{BLOCK, RowKeys, Transposed, block_rows, head_of, leaf_products, stride, weighted_sum};
use super::{Float, Inputs};
use crate::device::cpu::simd::{self, Kernel};
use crate::device::{AttentionIndex, DType, Tree};
use rayon::prelude::*;
use std::ops::Range;

/// Gradients of k and v for a run of key rows.
pub(super) struct KeyGrads<'a, T> {
    pub rows: Range<usize>,
    pub dk: &'a mut [T],
    pub dv: &'a mut [T],
}

/// What forward left, and the gradient of its output; `out, dout: [rows, heads·head_dim]`, `lse: [rows, heads]`.
#[derive(Clone, Copy)]
pub struct Outputs<'a, T> {
    /// Output of forward.
    pub out: &'a [T],
    /// Log-sum-exp of every row and head.
    pub lse: &'a [T],
    /// Gradient of the output.
    pub dout: &'a [T],
}

/// One tree's part of the work.
pub(super) struct TreeBackward<'a, T: Float> {
    pub inputs: Inputs<'a, T>,
    pub outputs: Outputs<'a, T>,
    pub index: &'a AttentionIndex,
    pub tree: &'a Tree,
    /// Of the tree's query rows.
    pub dq: &'a mut [T],
    /// Of the keys that only it sees.
    pub own: KeyGrads<'a, T>,
    /// Of those of the root, by this tree.
    pub root: KeyGrads<'a, T>,
}

impl<T: Float> Kernel for TreeBackward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(mut self) {
        let heads = self.inputs.heads;
        let (mut keys_t, mut values_t) = (Transposed::new(), Transposed::new());
        for tile in &self.index.tiles()[self.tree.tiles.clone()] {
            let stride = stride(self.index, tile);
            let mut p = vec![T::ZERO; BLOCK * stride];
            let mut ds = vec![T::ZERO; BLOCK * stride];
            for kv_head in 0..heads.kv_heads {
                keys_t.load(tile, self.inputs.k, heads.kv_width(), kv_head, heads.head_dim);
                values_t.load(tile, self.inputs.v, heads.kv_width(), kv_head, heads.head_dim);
                for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
                    for first in tile.rows.clone().step_by(BLOCK) {
                        let (rows, count) = block_rows(tile, first);
                        let row_keys = rows.map(|row| RowKeys::of(self.index, tile, row));
                        let transposed = (&keys_t, &values_t);
                        self.score_grads::<FMA>(
                            &rows,
                            &row_keys,
                            (head, kv_head),
                            transposed,
                            &mut p,
                            &mut ds,
                            stride,
                        );
                        self.query_grads::<FMA>(tile, (rows, count), &row_keys, (head, kv_head), &ds, stride);
                        for r in 0..count {
                            let (p, ds) = (&p[r * stride..], &ds[r * stride..]);
                            self.key_grads::<FMA>(tile, rows[r], &row_keys[r], (head, kv_head), p, ds);
                        }
                    }
                }
            }
        }
    }
}

impl<T: Float> TreeBackward<'_, T> {
    /// p = exp(scale·s − lse) and ds = p·(dout·v − dout·out)·scale for four rows; zeros ahead of and behind a row's keys.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn score_grads<const FMA: bool>(
        &self,
        rows: &[usize; BLOCK],
        row_keys: &[RowKeys; BLOCK],
        (head, kv_head): (usize, usize),
        (keys_t, values_t): (&Transposed<T>, &Transposed<T>),
        p: &mut [T],
        ds: &mut [T],
        stride: usize,
    ) {
        let Inputs { q, k, v, heads, scale } = self.inputs;
        let (q_width, hd, at) = (heads.q_width(), heads.head_dim, (heads.kv_width(), kv_head));
        let queries = rows.map(|row| head_of(q, row, q_width, head, hd));
        let douts = rows.map(|row| head_of(self.outputs.dout, row, q_width, head, hd));
        keys_t.products::<FMA>(queries, row_keys, p, stride);
        values_t.products::<FMA>(douts, row_keys, ds, stride);
        for r in 0..BLOCK {
            let (p, ds) = (&mut p[r * stride..(r + 1) * stride], &mut ds[r * stride..(r + 1) * stride]);
            let (ahead, leaf) = (row_keys[r].ahead, row_keys[r].shared_end());
            p[..ahead].fill(T::NEG_INFINITY);
            ds[..ahead].fill(T::ZERO);
            leaf_products::<T, FMA>(queries[r], &row_keys[r], k, at, (p, leaf), T::NEG_INFINITY);
            leaf_products::<T, FMA>(douts[r], &row_keys[r], v, at, (ds, leaf), T::ZERO);
            let lse = self.outputs.lse[rows[r] * heads.heads + head];
            let delta = simd::dot::<T, FMA>(douts[r], head_of(self.outputs.out, rows[r], q_width, head, hd));
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = (*p * scale - lse).exp::<FMA>();
                *ds = *p * (*ds - delta) * scale;
            }
        }
    }

    #[inline(always)]
    fn query_grads<const FMA: bool>(
        &mut self,
        tile: &crate::device::Tile,
        (rows, count): ([usize; BLOCK], usize),
        row_keys: &[RowKeys; BLOCK],
        (head, kv_head): (usize, usize),
        ds: &[T],
        stride: usize,
    ) {
        let heads = self.inputs.heads;
        let (q_width, hd) = (heads.q_width(), heads.head_dim);
        let mut mixed = vec![T::ZERO; BLOCK * hd];
        let source = (self.inputs.k, heads.kv_width(), kv_head);
        weighted_sum::<T, FMA>(tile, row_keys, ds, stride, source, &mut mixed);
        for r in 0..count {
            let at = (rows[r] - self.tree.rows.start) * q_width + head * hd;
            self.dq[at..at + hd].copy_from_slice(&mixed[r * hd..(r + 1) * hd]);
        }
    }

    #[inline(always)]
    fn key_grads<const FMA: bool>(
        &mut self,
        tile: &crate::device::Tile,
        row: usize,
        keys: &RowKeys,
        (head, kv_head): (usize, usize),
        p: &[T],
        ds: &[T],
    ) {
        let heads = self.inputs.heads;
        let (q_width, kv_width, hd) = (heads.q_width(), heads.kv_width(), heads.head_dim);
        let q = head_of(self.inputs.q, row, q_width, head, hd);
        let dout = head_of(self.outputs.dout, row, q_width, head, hd);
        let shared = tile.shared.iter().cloned().flatten().skip(keys.ahead).take(keys.shared);
        for (j, key) in (keys.ahead..).zip(shared.chain(keys.leaf.clone())) {
            let grads = if self.root.rows.contains(&key) { &mut self.root } else { &mut self.own };
            let at = (key - grads.rows.start) * kv_width + kv_head * hd;
            simd::axpy::<T, FMA>(ds[j], q, &mut grads.dk[at..at + hd]);
            simd::axpy::<T, FMA>(p[j], dout, &mut grads.dv[at..at + hd]);
        }
    }
}

/// Skips `gap` elements of `rest` and splits off the next `len`.
fn take_rows<'a, T>(rest: &mut &'a mut [T], gap: usize, len: usize) -> &'a mut [T] {
    let (_, tail) = std::mem::take(rest).split_at_mut(gap);
    let (own, tail) = tail.split_at_mut(len);
    *rest = tail;
    own
}

/// Backward. `dq: [rows, heads·head_dim]`, `dk, dv: [keys, kv_heads·head_dim]`, all written in full.
pub fn backward<T: Float>(
    inputs: Inputs<T>,
    outputs: Outputs<T>,
    index: &AttentionIndex,
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && simd::level() == simd::Level::Avx512 {
        use bytemuck::{cast_slice, cast_slice_mut};
        let Outputs { out, lse, dout } = outputs;
        let [out, lse, dout] = [out, lse, dout].map(cast_slice::<T, f32>);
        let (inputs, outputs) = (inputs.as_f32(), Outputs { out, lse, dout });
        let grads = [dq, dk, dv].map(cast_slice_mut);
        return over_trees(inputs, outputs, index, grads, super::avx512::tree);
    }
    over_trees(inputs, outputs, index, [dq, dk, dv], |tree| simd::dispatch(tree));
}

/// Backward by `run` of every tree.
fn over_trees<T: Float>(
    inputs: Inputs<T>,
    outputs: Outputs<T>,
    index: &AttentionIndex,
    [dq, dk, dv]: [&mut [T]; 3],
    run: impl Fn(TreeBackward<T>) + Sync + Send,
) {
    let (q_width, kv_width) = (inputs.heads.q_width(), inputs.heads.kv_width());
    dk.fill(T::ZERO);
    dv.fill(T::ZERO);
    let root = index.root();
    let mut root_grads = vec![T::ZERO; 2 * root.len() * kv_width * index.trees().len()];
    let (mut dq_rest, mut dk_rest, mut dv_rest, mut roots) = (dq, &mut *dk, &mut *dv, &mut root_grads[..]);
    let mut tasks = Vec::with_capacity(index.trees().len());
    let mut key = 0;
    for tree in index.trees() {
        let (dq, rest) = dq_rest.split_at_mut(tree.rows.len() * q_width);
        dq_rest = rest;
        let gap = (tree.keys.start - key.min(tree.keys.start)) * kv_width;
        let own_dk = take_rows(&mut dk_rest, gap, tree.keys.len() * kv_width);
        let own_dv = take_rows(&mut dv_rest, gap, tree.keys.len() * kv_width);
        key = key.max(tree.keys.start) + tree.keys.len();
        let (root_dk, rest) = roots.split_at_mut(root.len() * kv_width);
        let (root_dv, rest) = rest.split_at_mut(root.len() * kv_width);
        roots = rest;
        let own = KeyGrads { rows: tree.keys.clone(), dk: own_dk, dv: own_dv };
        let root = KeyGrads { rows: root.clone(), dk: root_dk, dv: root_dv };
        tasks.push(TreeBackward { inputs, outputs, index, tree, dq, own, root });
    }
    tasks.into_par_iter().for_each(run);
    let root_range = root.start * kv_width..root.end * kv_width;
    for sums in root_grads.chunks_exact(2 * root_range.len().max(1)) {
        let (sum_k, sum_v) = sums.split_at(root_range.len());
        crate::device::cpu::elementwise::add_assign(&mut dk[root_range.clone()], sum_k);
        crate::device::cpu::elementwise::add_assign(&mut dv[root_range.clone()], sum_v);
    }
}
