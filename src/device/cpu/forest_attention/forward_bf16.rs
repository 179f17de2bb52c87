//! Forward of q, k and v in bf16. Where the processor multiplies bf16 itself, products are its own, of weights rounded to bf16; elsewhere,
//! and for heads of an odd width, f32 does the work on the same rounded numbers.

use super::{HalfInputs, Inputs, forward};
use crate::device::AttentionIndex;
use crate::device::cpu::Stores;
use rayon::prelude::*;

/// `out: [rows, heads·head_dim]`, rounded where it is bf16.
pub fn forward_bf16<O: Stores<f32>>(inputs: HalfInputs, index: &AttentionIndex, out: &mut [O]) {
    #[cfg(target_arch = "x86_64")]
    if inputs.heads.head_dim.is_multiple_of(2) && crate::device::cpu::matmul_bf16::has_instructions() {
        return super::avx512::forward_bf16(inputs, index, out);
    }
    widened(inputs, index, out);
}

/// The same by f32.
fn widened<O: Stores<f32>>(inputs: HalfInputs, index: &AttentionIndex, out: &mut [O]) {
    let HalfInputs { q, k, v, heads, scale } = inputs;
    let [q, k, v] = [q, k, v].map(|x| x.par_iter().map(|x| x.to_f32()).collect::<Vec<f32>>());
    let mut sums = vec![0.0; out.len()];
    forward(Inputs { q: &q, k: &k, v: &v, heads, scale }, index, &mut sums, None);
    out.par_iter_mut().zip(sums).for_each(|(out, sum)| *out = O::stored(sum));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::RowRanges;
    use crate::device::cpu::forest_attention::Heads;
    use half::bf16;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<bf16> {
        (0..len).map(|_| bf16::from_f32(rng.random_range(-2.0..2.0))).collect()
    }

    /// Three rows of a root, then a trunk with leaves of one to three rows behind some of its rows.
    fn forest(trunk: u32) -> AttentionIndex {
        let root = (0, 3);
        let causal = |start: u32, i: u32| (start, start + i + 1);
        let mut rows: Vec<RowRanges> =
            (0..3).map(|i| RowRanges([causal(0, i), (0, 0), (0, 0), (0, 0)])).collect();
        rows.extend((0..trunk).map(|t| RowRanges([root, causal(3, t), (0, 0), (0, 0)])));
        for t in [1, trunk / 2, trunk - 1] {
            for length in [1, 2, 3, 1, 1, 2, 1, 1, 1, 2] {
                let leaf = rows.len() as u32;
                rows.extend((0..length).map(|i| RowRanges([root, causal(3, t), (0, 0), causal(leaf, i)])));
            }
        }
        let keys = rows.len();
        AttentionIndex::new(rows, keys).unwrap()
    }

    const LAYOUTS: [(usize, usize, usize); 5] = [(1, 1, 2), (4, 2, 6), (6, 3, 48), (2, 1, 64), (3, 3, 5)];

    /// Softmax and sums in f64, or with weights rounded to bf16 and sums in f32.
    fn plain(inputs: HalfInputs, index: &AttentionIndex, rounded: bool) -> Vec<f64> {
        let Heads { heads, head_dim, .. } = inputs.heads;
        let (width, kv_width) = (inputs.heads.q_width(), inputs.heads.kv_width());
        let mut out = vec![0.0; inputs.q.len()];
        for (row, ranges) in index.ranges().iter().enumerate() {
            let keys: Vec<usize> = (0..4).flat_map(|i| ranges.range(i)).collect();
            for head in 0..heads {
                let at = |key: usize| key * kv_width + head / inputs.heads.group() * head_dim;
                let own = row * width + head * head_dim;
                let product = |key| {
                    let pairs = inputs.q[own..].iter().zip(&inputs.k[at(key)..]).take(head_dim);
                    pairs.map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>() * f64::from(inputs.scale)
                };
                let scores: Vec<f64> = keys.iter().map(|&key| product(key)).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let terms = keys.iter().zip(&weights).map(|(&key, w)| (w / total, inputs.v[at(key) + d]));
                    out[own + d] = match rounded {
                        false => terms.map(|(w, v)| w * v.to_f64()).sum(),
                        true => terms
                            .map(|(w, v)| bf16::from_f64(w).to_f32() * v.to_f32())
                            .fold(0.0f32, |sum, term| sum + term)
                            .into(),
                    };
                }
            }
        }
        out
    }

    #[test]
    fn errors_are_at_most_twice_those_of_a_plain_computation() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for index in [forest(40), forest(37).windowed(8).unwrap(), forest(60).windowed(11).unwrap()] {
            for (heads, kv_heads, head_dim) in LAYOUTS {
                let heads = Heads { heads, kv_heads, head_dim };
                let q = random(&mut rng, index.rows() * heads.q_width());
                let [k, v] = [(); 2].map(|()| random(&mut rng, index.keys() * heads.kv_width()));
                let inputs = HalfInputs { q: &q, k: &k, v: &v, heads, scale: 0.4 };
                let (want, simple) = (plain(inputs, &index, false), plain(inputs, &index, true));
                let most = |found: &[f64]| {
                    let errors = found.iter().zip(&want).map(|(a, b)| (a - b).abs());
                    errors
                        .fold(0.0, |most: f64, error| if error.is_nan() { f64::MAX } else { most.max(error) })
                };
                let limit = 2.0 * most(&simple) + 1e-6;
                let mut found = [vec![f32::NAN; q.len()], vec![f32::NAN; q.len()]];
                forward_bf16(inputs, &index, &mut found[0]);
                widened(inputs, &index, &mut found[1]);
                for found in &found {
                    let error = most(&found.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
                    assert!(error <= limit, "{heads:?}: {error} beside {limit}");
                }
                let mut halves = vec![bf16::NAN; q.len()];
                forward_bf16(inputs, &index, &mut halves);
                assert!(halves.iter().zip(&found[0]).all(|(half, &x)| *half == bf16::from_f32(x)));
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_rows_stand_beside() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for index in [forest(40), forest(37).windowed(8).unwrap(), forest(60).windowed(11).unwrap()] {
            for (heads, kv_heads, head_dim) in LAYOUTS {
                let heads = Heads { heads, kv_heads, head_dim };
                let q = random(&mut rng, index.rows() * heads.q_width());
                let [k, v] = [(); 2].map(|()| random(&mut rng, index.keys() * heads.kv_width()));
                let inputs = HalfInputs { q: &q, k: &k, v: &v, heads, scale: 0.4 };
                let mut all = vec![f32::NAN; q.len()];
                forward_bf16(inputs, &index, &mut all);
                for step in [2, 3, 7] {
                    let chosen: Vec<usize> = (step - 1..index.rows()).step_by(step).collect();
                    let ranges = chosen.iter().map(|&row| index.ranges()[row]).collect();
                    let part = AttentionIndex::new(ranges, index.keys()).unwrap();
                    let row_of = |row: usize| row * heads.q_width()..(row + 1) * heads.q_width();
                    let own: Vec<bf16> = chosen.iter().flat_map(|&row| q[row_of(row)].to_vec()).collect();
                    let mut found = vec![f32::NAN; own.len()];
                    forward_bf16(HalfInputs { q: &own, ..inputs }, &part, &mut found);
                    for (i, &row) in chosen.iter().enumerate() {
                        assert!(found[row_of(i)] == all[row_of(row)], "{heads:?} row {row} of every {step}");
                    }
                }
            }
        }
    }
}
