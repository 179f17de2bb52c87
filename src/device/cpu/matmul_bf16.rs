//! C = X·Wᵀ with W stored as bf16: X is rounded to bf16, products are summed in f32.
//!
//! Where the processor has AVX-512 BF16 this is [`packed`](super)'s product of pairs, twice the work of f32 an instruction.
//! Elsewhere W is widened, and the f32 product does the work on the same rounded numbers.

use super::matmul::{self, Matrix, Terms};
use half::bf16;
use rayon::prelude::*;

/// c = x·wᵀ and the terms; `x: [rows, k]`, `w: [n, k]`, `c: [rows, n]`.
pub fn matmul(x: &[f32], w: &[bf16], c: &mut [f32], [n, k]: [usize; 2], terms: Terms<f32>) {
    assert!(w.len() == n * k && c.len().is_multiple_of(n.max(1)), "[{n}, {k}] weights, {} results", c.len());
    let rows = c.len() / n.max(1);
    assert!(x.len() == rows * k, "{} elements of {rows} rows of {k}", x.len());
    if rows == 0 || n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if has_instructions() {
        return native::matmul(x, w, c, [n, k], terms);
    }
    widened(x, w, c, [n, k], terms);
}

/// Whether the processor multiplies bf16 itself.
pub fn has_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = super::simd::level() == super::simd::Level::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    found
}

/// The same by the f32 product.
fn widened(x: &[f32], w: &[bf16], c: &mut [f32], [n, k]: [usize; 2], terms: Terms<f32>) {
    let rounded: Vec<f32> = x.par_iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    let w: Vec<f32> = w.par_iter().map(|w| w.to_f32()).collect();
    let rows = c.len() / n;
    matmul::matmul_with(Matrix::new(&rounded, rows, k), Matrix::transposed(&w, k, n), c, terms);
}

#[cfg(target_arch = "x86_64")]
pub(super) mod native {
    use super::super::avx512::transpose;
    use super::super::matmul::Terms;
    use super::super::packed::{COLUMNS, Panels, Rows, Words, pitch, product};
    use half::bf16;
    use std::arch::x86_64::*;
    use std::ops::Range;

    pub fn matmul(x: &[f32], w: &[bf16], c: &mut [f32], [n, k]: [usize; 2], terms: Terms<f32>) {
        product(Words::Pair, &Rounded { x, k }, &pack(w, [n, k]), c, terms);
    }

    /// w in panels of pairs.
    pub fn pack(w: &[bf16], [n, k]: [usize; 2]) -> Panels {
        let depth = k.div_ceil(2);
        Panels::fill(n, depth, |first, count, panel| {
            if k.is_multiple_of(2) {
                let mut rows = [w.as_ptr().cast(); COLUMNS];
                for (column, to) in rows.iter_mut().enumerate().take(count) {
                    *to = w[(first + column) * k..][..k].as_ptr().cast();
                }
                // SAFETY: `has_instructions` found the features; rows of depth pairs, and the panel has depth rows.
                return unsafe { transpose(&rows[..count], depth, panel.as_mut_ptr(), COLUMNS) };
            }
            for column in 0..count {
                let row = &w[(first + column) * k..][..k];
                for (pair, to) in row.chunks(2).zip(panel[column..].iter_mut().step_by(COLUMNS)) {
                    let high = pair.get(1).map_or(0, |x| x.to_bits());
                    *to = u32::from(pair[0].to_bits()) | u32::from(high) << 16;
                }
            }
        })
    }

    /// Rows of f32 as pairs of bf16.
    pub struct Rounded<'a> {
        pub x: &'a [f32],
        pub k: usize,
    }

    impl Rows for Rounded<'_> {
        fn words<'a>(
            &'a self,
            rows: Range<usize>,
            pass: Range<usize>,
            scratch: &'a mut Vec<u32>,
        ) -> (&'a [u32], usize) {
            let (k, pitch) = (self.k, pitch(pass.len()));
            scratch.resize(rows.len() * pitch, 0);
            let columns = 2 * pass.start..k.min(2 * pass.end);
            let inputs = self.x[rows.start * k..rows.end * k].chunks_exact(k.max(1));
            for (row, pairs) in inputs.zip(scratch.chunks_mut(pitch.max(1))) {
                // SAFETY: `has_instructions` found the features at run time.
                unsafe { round_row(&row[columns.clone()], pairs) };
            }
            (scratch, pitch)
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn round_row(row: &[f32], pairs: &mut [u32]) {
        let (chunks, rest) = row.as_chunks::<32>();
        for (chunk, to) in chunks.iter().zip(pairs.chunks_exact_mut(16)) {
            // SAFETY: 32 floats are read, 16 words written.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(chunk.as_ptr()), _mm512_loadu_ps(chunk.as_ptr().add(16)));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(to.as_mut_ptr().cast(), both);
            }
        }
        for (pair, to) in rest.chunks(2).zip(&mut pairs[chunks.len() * 16..]) {
            let high = pair.get(1).map_or(0, |&x| bf16::from_f32(x).to_bits());
            *to = u32::from(bf16::from_f32(pair[0]).to_bits()) | u32::from(high) << 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn stored(values: &[f32]) -> Vec<bf16> {
        values.iter().map(|&x| bf16::from_f32(x)).collect()
    }

    #[test]
    fn products_are_sums_over_rounded_factors() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shapes =
            [(1, 1, 1), (3, 5, 2), (12, 32, 64), (13, 33, 65), (40, 70, 288), (25, 31, 0), (5, 64, 1000)];
        for (rows, n, k) in shapes {
            let (x, w) = (random(&mut rng, rows * k), stored(&random(&mut rng, n * k)));
            let before = random(&mut rng, rows * n);
            let (residual, bias) = (random(&mut rng, rows * n), random(&mut rng, n));
            for set in 0..8 {
                let terms = Terms {
                    residual: (set & 1 > 0).then_some(&residual[..]),
                    bias: (set & 2 > 0).then_some(&bias[..]),
                    accumulate: set & 4 > 0,
                };
                let mut found = [before.clone(), before.clone()];
                matmul(&x, &w, &mut found[0], [n, k], terms);
                widened(&x, &w, &mut found[1], [n, k], terms);
                for place in 0..rows * n {
                    let (i, j) = (place / n, place % n);
                    let factor = |a: usize| f64::from(bf16::from_f32(x[i * k + a]).to_f32());
                    let dot: f64 = (0..k).map(|a| factor(a) * f64::from(w[j * k + a].to_f32())).sum();
                    let added = [(1, residual[place]), (2, bias[j]), (4, before[place])];
                    let added = added.iter().filter(|(bit, _)| set & bit > 0).map(|&(_, x)| f64::from(x));
                    let want = dot + added.sum::<f64>();
                    for found in &found {
                        let error = (f64::from(found[place]) - want).abs();
                        assert!(
                            error <= 2e-6 * (1.0 + k as f64).sqrt(),
                            "{rows}x{n}x{k} at {place}: {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_have_the_same_bits_in_any_batch() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (rows, n, k) = (61, 45, 131);
        let (x, w) = (random(&mut rng, rows * k), stored(&random(&mut rng, n * k)));
        let mut all = vec![0.0; rows * n];
        matmul(&x, &w, &mut all, [n, k], Terms::default());
        for (first, count) in [(0, 1), (7, 12), (30, 31), (60, 1)] {
            let mut part = vec![0.0; count * n];
            matmul(&x[first * k..][..count * k], &w, &mut part, [n, k], Terms::default());
            let same = part.iter().zip(&all[first * n..]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{count} rows from {first} on");
        }
    }
}
