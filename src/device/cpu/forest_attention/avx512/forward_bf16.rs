//! Forward in bf16 on AVX-512 BF16: scores and weighted sums of twelve rows by products of pairs (`packed`): of two columns of
//! queries and keys, of two keys' weights and values. Weights e^(s − max) are rounded to bf16, their sum is that of the rounded
//! ones, by which the output is divided at the end; sums and softmax are in f32.
//!
//! Pairs of keys begin with a row's first, so that they are the same whatever else its tile sees.

use super::{At, Shares, TileTask, ahead, load_columns, load_pairs, run_of, shares};
use crate::device::cpu::Stores;
use crate::device::cpu::avx512::{first, power_of_two};
use crate::device::cpu::forest_attention::tile::RowKeys;
use crate::device::cpu::forest_attention::{HalfInputs, Heads};
use crate::device::cpu::matmul::Terms;
use crate::device::cpu::packed::{COLUMNS, Output, Place, ROWS, block_bf16};
use crate::device::{AttentionIndex, DType};
use half::bf16;
use rayon::prelude::*;
use std::arch::x86_64::*;
use std::ops::Range;

/// What a task works in.
#[derive(Default)]
struct Scratch {
    /// Rows of the shared keys, in the order of their positions.
    shared: Vec<usize>,
    /// Keys of some heads, `[shared / COLUMNS][head_dim / 2][COLUMNS]` each.
    keys: Vec<u32>,
    /// Values of those heads, `[head_dim / COLUMNS][pairs][COLUMNS]` each, in pairs from the first shared key on.
    values: Vec<u32>,
    /// The same in pairs from the second on, where a row sees an odd number of keys less.
    values_odd: Vec<u32>,
    /// Scores of a block of rows `[ROWS, stride]`: shared positions, then those of leaves, which become weights.
    scores: Vec<f32>,
    /// Weights `[ROWS, stride / 2]` in pairs, from a row's first key on.
    weights: Vec<u32>,
    /// Weighted sums `[ROWS, head_dim]`.
    sums: Vec<f32>,
}

/// As [`forward_bf16`](crate::device::cpu::forest_attention::forward_bf16), where heads have an even width.
pub fn forward_bf16<O: Stores<f32>>(inputs: HalfInputs, index: &AttentionIndex, out: &mut [O]) {
    let tasks = shares(index, inputs.heads, out);
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        // SAFETY: whoever chose this kernel found the features.
        unsafe { run(task, inputs, index, scratch) };
    });
}

/// # Safety
/// The processor must have the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn run<O: Stores<f32>>(
    task: TileTask<O>,
    inputs: HalfInputs,
    index: &AttentionIndex,
    scratch: &mut Scratch,
) {
    let Heads { kv_heads, head_dim, .. } = inputs.heads;
    let (q_width, group) = (inputs.heads.q_width(), inputs.heads.group());
    let Shares { tile, rows, stride } = task.shares(index, &mut scratch.shared);
    scratch.scores.resize(ROWS * stride, 0.0);
    scratch.weights.resize(ROWS * stride / 2, 0);
    scratch.sums.resize(ROWS * head_dim, 0.0);
    let keys_of = |row| RowKeys::of(index, tile, row);
    let odd = rows.clone().any(|row| !keys_of(row).ahead.is_multiple_of(2));
    let together = super::heads_together(scratch.shared.len(), head_dim, kv_heads);
    for first in (0..kv_heads).step_by(together) {
        let kv_heads = first..kv_heads.min(first + together);
        scratch.load(&inputs, kv_heads.clone(), odd);
        for block in rows.clone().step_by(ROWS) {
            let block = block..rows.end.min(block + ROWS);
            let mut keys = [const { RowKeys { ahead: 0, shared: 0, leaf: 0..0 } }; ROWS];
            for (keys, row) in keys.iter_mut().zip(block.clone()) {
                *keys = keys_of(row);
            }
            let keys = &keys[..block.len()];
            let out = &mut task.out[(block.start - rows.start) * q_width..][..keys.len() * q_width];
            for head in kv_heads.start * group..kv_heads.end * group {
                let at = At { head, panel: head / group - first, stride };
                ahead(
                    inputs.heads,
                    [inputs.q, inputs.k, inputs.v],
                    index,
                    block.end..rows.end.min(block.end + ROWS),
                    head,
                );
                // SAFETY: as the caller's.
                unsafe {
                    let inverse = scratch.weights(&inputs, block.start, keys, at);
                    scratch.weighted_sums(head_dim, keys, at);
                    scratch.finish(&inputs, keys, at, inverse, out);
                }
            }
        }
    }
}

impl Scratch {
    /// Takes the heads `kv_heads` of the shared keys and values, of these also the pairs of `odd` rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn load(&mut self, inputs: &HalfInputs, kv_heads: Range<usize>, odd: bool) {
        let (head_dim, width) = (inputs.heads.head_dim, inputs.heads.kv_width());
        let keys = self.keys_of_head(head_dim);
        self.keys.resize(kv_heads.len() * keys, 0);
        for (i, head) in kv_heads.clone().enumerate() {
            let columns = head * head_dim / 2..(head + 1) * head_dim / 2;
            load_columns(inputs.k, width / 2, columns, &self.shared, &mut self.keys[i * keys..][..keys]);
        }
        for (offset, panels) in [&mut self.values, &mut self.values_odd].into_iter().enumerate() {
            if offset == 1 && !odd {
                continue;
            }
            let rows = self.shared.get(offset..).unwrap_or_default();
            let values = head_dim.next_multiple_of(COLUMNS) * rows.len().div_ceil(2);
            panels.resize(kv_heads.len() * values, 0);
            for (i, head) in kv_heads.clone().enumerate() {
                let columns = head * head_dim..(head + 1) * head_dim;
                load_pairs(inputs.v, width, columns, rows, &mut panels[i * values..][..values]);
            }
        }
    }

    /// Words of the keys of a head.
    fn keys_of_head(&self, head_dim: usize) -> usize {
        self.shared.len().next_multiple_of(COLUMNS) * head_dim / 2
    }

    /// Weights of a block of rows from `row` on, from the scores of their keys: in pairs, zeros at shared keys behind a row's own; those
    /// of leaves also in the place of their scores. Also 1 over each row's sum.
    ///
    /// # Safety
    /// `scores` must have a row of `stride` for each of `keys`, with room for all their positions, and `weights` half of it.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn weights(
        &mut self,
        inputs: &HalfInputs,
        row: usize,
        keys: &[RowKeys],
        At { head, panel, stride }: At,
    ) -> [f32; ROWS] {
        let Heads { head_dim, .. } = inputs.heads;
        let (width, kv_width) = (inputs.heads.q_width(), inputs.heads.kv_width());
        let run = run_of(keys);
        let queries = &inputs.q[row * width + head * head_dim..];
        let words = (keys.len() - 1) * width + head_dim;
        let own = &self.keys[panel * self.keys_of_head(head_dim)..];
        for number in run.start / COLUMNS..run.end.div_ceil(COLUMNS) {
            let panel = &own[number * COLUMNS * head_dim / 2..][..COLUMNS * head_dim / 2];
            let place = Place { n: stride, end: run.end, pitch: width / 2, row: 0, column: number * COLUMNS };
            let scores = Output::F32(self.scores.as_mut_ptr());
            let queries = bytemuck::cast_slice(&queries[..words]);
            // SAFETY: rows of scores as the caller's; a run ends ahead of their end.
            unsafe { block_bf16(keys.len(), queries, panel, scores, place, &Terms::default()) };
        }
        let kv_head = head / inputs.heads.group();
        let mut inverse = [0.0; ROWS];
        for (r, keys) in keys.iter().enumerate() {
            let scores = &mut self.scores[r * stride + keys.ahead..(r + 1) * stride];
            let weights: &mut [u16] = bytemuck::cast_slice_mut(&mut self.weights[r * stride / 2..]);
            let query = &queries[r * width..][..head_dim];
            let leaf = |j: usize| {
                let key = keys.leaf.start + j;
                dot(query, &inputs.k[key * kv_width + kv_head * head_dim..][..head_dim])
            };
            put_behind(scores, keys.shared, keys.leaf.len(), leaf);
            let vectors = keys.len().div_ceil(16);
            inverse[r] = 1.0 / softmax(&scores[..16 * vectors], inputs.scale, weights);
            for (score, weight) in scores[keys.shared..keys.len()].iter_mut().zip(&weights[keys.shared..]) {
                *score = bf16::from_bits(*weight).to_f32();
            }
            // Those of leaves need not go where they meet shared keys: there, these end.
            let end = run.len().next_multiple_of(16);
            if end > 16 * vectors {
                weights[16 * vectors..end].fill(0);
            }
        }
        inverse
    }

    /// Σ weight·value over the shared keys of a block of rows, into `sums`.
    ///
    /// # Safety
    /// As [`Scratch::weights`]; `sums` must have a row of `head_dim` for each of `keys`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn weighted_sums(&mut self, head_dim: usize, keys: &[RowKeys], At { panel, stride, .. }: At) {
        let run = run_of(keys);
        let alike = keys.iter().all(|keys| keys.ahead == run.start);
        // Rows that begin at different keys have different pairs.
        let (height, blocks) = if alike { (keys.len(), 1) } else { (1, keys.len()) };
        for (row, own) in keys.iter().enumerate().take(blocks) {
            let seen = if alike { run.clone() } else { own.ahead..own.shared_end() };
            let odd = seen.start % 2;
            let values = if odd == 0 { &self.values } else { &self.values_odd };
            let all = (self.shared.len() - odd.min(self.shared.len())).div_ceil(2);
            let own = &values[panel * all * head_dim.next_multiple_of(COLUMNS)..];
            for number in 0..head_dim.div_ceil(COLUMNS) {
                let panel = &own[(number * all + seen.start / 2) * COLUMNS..];
                let panel = &panel[..seen.len().div_ceil(2) * COLUMNS];
                let column = number * COLUMNS;
                let place = Place { n: head_dim, end: head_dim, pitch: stride / 2, row, column };
                let (weights, sums) =
                    (&self.weights[row * stride / 2..], Output::F32(self.sums.as_mut_ptr()));
                // SAFETY: as the caller's.
                unsafe { block_bf16(height, weights, panel, sums, place, &Terms::default()) };
            }
        }
    }

    /// The sums with those of leaves, times `inverse`: a head of the rows `out: [rows, heads·head_dim]`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn finish<O: Stores<f32>>(
        &self,
        inputs: &HalfInputs,
        keys: &[RowKeys],
        At { head, stride, .. }: At,
        inverse: [f32; ROWS],
        out: &mut [O],
    ) {
        let Heads { head_dim, .. } = inputs.heads;
        let (width, kv_width) = (inputs.heads.q_width(), inputs.heads.kv_width());
        let kv_head = head / inputs.heads.group();
        for (r, keys) in keys.iter().enumerate() {
            let out = &mut out[r * width + head * head_dim..][..head_dim];
            let sums = &self.sums[r * head_dim..][..head_dim];
            let weights = &self.scores[r * stride + keys.shared_end()..][..keys.leaf.len()];
            for from in (0..head_dim).step_by(16) {
                let mask = first(head_dim - from);
                // SAFETY: the mask leaves what rows of head_dim have.
                unsafe {
                    let mut sum = _mm512_maskz_loadu_ps(mask, sums.as_ptr().add(from));
                    for (key, &weight) in keys.leaf.clone().zip(weights) {
                        let value = &inputs.v[key * kv_width + kv_head * head_dim..][..head_dim];
                        let value = _mm256_maskz_loadu_epi16(mask, value.as_ptr().add(from).cast());
                        sum = _mm512_fmadd_ps(_mm512_set1_ps(weight), widened(value), sum);
                    }
                    let sum = _mm512_mul_ps(sum, _mm512_set1_ps(inverse[r]));
                    match O::DTYPE {
                        DType::BF16 => {
                            let place = out.as_mut_ptr().add(from).cast();
                            _mm256_mask_storeu_epi16(place, mask, halves(sum));
                        }
                        _ => _mm512_mask_storeu_ps(out.as_mut_ptr().add(from).cast(), mask, sum),
                    }
                }
            }
        }
    }
}

/// Rounded to bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn halves(x: __m512) -> __m256i {
    // SAFETY: both are 256 bits.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) }
}

/// From bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

/// Σ aᵢ·bᵢ over the length of a.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn dot(a: &[bf16], b: &[bf16]) -> f32 {
    assert!(a.len() <= b.len());
    let mut sum = _mm512_setzero_ps();
    for from in (0..a.len()).step_by(32) {
        let mask = if a.len() - from < 32 { (1 << (a.len() - from)) - 1 } else { u32::MAX };
        // SAFETY: the mask leaves what both have; all are 512 bits.
        unsafe {
            let [x, y] = [a, b].map(|x| {
                let words = _mm512_maskz_loadu_epi16(mask, x.as_ptr().add(from).cast());
                std::mem::transmute::<__m512i, __m512bh>(words)
            });
            sum = _mm512_dpbf16_ps(sum, x, y);
        }
    }
    _mm512_reduce_add_ps(sum)
}

/// Puts the scores of a leaf behind `shared` ones, and −∞ from there to the end of the vector, a vector at a time: what is
/// written word by word is not there yet when vectors are read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn put_behind(scores: &mut [f32], shared: usize, leaves: usize, leaf: impl Fn(usize) -> f32) {
    for from in (shared / 16 * 16..shared + leaves.max(1)).step_by(16) {
        let place = scores[from..from + 16].as_mut_ptr();
        let below = first(shared.saturating_sub(from));
        // SAFETY: sixteen scores, checked above.
        unsafe {
            let mut vector =
                _mm512_mask_mov_ps(_mm512_set1_ps(f32::NEG_INFINITY), below, _mm512_loadu_ps(place));
            for at in shared.max(from)..(shared + leaves).min(from + 16) {
                vector = _mm512_mask_mov_ps(vector, 1 << (at - from), _mm512_set1_ps(leaf(at - shared)));
            }
            _mm512_storeu_ps(place, vector);
        }
    }
}

/// Weights e^(scale·s − max) in bf16 of whole vectors of scores, and their sum. Powers are of 2.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn softmax(scores: &[f32], scale: f32, weights: &mut [u16]) -> f32 {
    let (vectors, places) = (scores.as_chunks::<16>().0, weights.as_chunks_mut::<16>().0);
    assert!(places.len() >= vectors.len());
    let factor = _mm512_set1_ps(scale * std::f32::consts::LOG2_E);
    let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
    // SAFETY: here and below, a vector of each.
    unsafe {
        for scores in vectors {
            most = _mm512_max_ps(most, _mm512_mul_ps(_mm512_loadu_ps(scores.as_ptr()), factor));
        }
        let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
        let mut sums = _mm512_setzero_ps();
        for (scores, place) in vectors.iter().zip(places) {
            let score = _mm512_loadu_ps(scores.as_ptr());
            let weight = halves(power_of_two(_mm512_fmsub_ps(score, factor, most)));
            sums = _mm512_add_ps(sums, widened(weight));
            _mm256_storeu_si256(place.as_mut_ptr().cast(), weight);
        }
        _mm512_reduce_add_ps(sums)
    }
}
