//! C = X·Wᵀ with W stored as bf16: X is rounded to bf16 where it is not so yet, products are summed in f32.
//!
//! Where the processor has AVX-512 BF16 this is [`packed`](super)'s product of pairs, twice the work of f32 an instruction.
//! Elsewhere W is widened, and the f32 product does the work on the same rounded numbers.

use super::Stores;
use super::matmul::{self, Matrix, Terms};
use crate::device::DType;
use half::bf16;
use rayon::prelude::*;

/// x `[rows, k]`.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// To be rounded.
    F32(&'a [f32]),
    /// As it is.
    Bf16(&'a [bf16]),
}

impl Left<'_> {
    /// Number of elements, rows·k.
    pub fn elements(&self) -> usize {
        match self {
            Left::F32(x) => x.len(),
            Left::Bf16(x) => x.len(),
        }
    }
}

/// w `[n, k]`.
#[derive(Clone, Copy)]
pub struct Weight<'a> {
    /// Its elements.
    pub values: &'a [bf16],
    /// Where its panels are kept, if it is a whole buffer.
    #[cfg(target_arch = "x86_64")]
    pub kept: Option<&'a super::kept::Kept>,
}

impl<'a> Weight<'a> {
    /// Of some elements, of which nothing is kept.
    pub fn new(values: &'a [bf16]) -> Self {
        Weight {
            values,
            #[cfg(target_arch = "x86_64")]
            kept: None,
        }
    }
}

/// c = x·wᵀ and the terms, rounded where c is bf16, which does not accumulate; `c: [rows, n]`.
pub fn matmul<C: Stores<f32>>(x: Left, w: Weight, c: &mut [C], [n, k]: [usize; 2], terms: Terms<f32>) {
    let elements = w.values.len();
    assert!(elements == n * k && c.len().is_multiple_of(n.max(1)), "[{n}, {k}] weights, {} results", c.len());
    let rows = c.len() / n.max(1);
    assert!(x.elements() == rows * k, "{} elements of {rows} rows of {k}", x.elements());
    assert!(C::DTYPE == DType::F32 || !terms.accumulate, "a sum that was rounded does not go on");
    if rows == 0 || n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if has_instructions() {
        return native::matmul(x, w, c, [n, k], terms);
    }
    widened(x, w.values, c, [n, k], terms);
}

/// Whether the processor multiplies bf16 itself.
pub fn has_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = super::simd::level() == super::simd::Level::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    found
}

/// Bytes of what is kept of frozen weights of these shapes `[n, k]` at most.
pub fn kept_bytes(shapes: impl IntoIterator<Item = [usize; 2]>) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if has_instructions() {
        use super::{kept, packed};
        let bytes =
            |[n, k]: [usize; 2]| 4 * n.next_multiple_of(packed::COLUMNS) as u64 * k.div_ceil(2) as u64;
        return shapes.into_iter().map(bytes).sum::<u64>().min(kept::MOST as u64);
    }
    let _ = shapes;
    0
}

/// The same by the f32 product.
fn widened<C: Stores<f32>>(x: Left, w: &[bf16], c: &mut [C], [n, k]: [usize; 2], terms: Terms<f32>) {
    let rounded: Vec<f32> = match x {
        Left::F32(x) => x.par_iter().map(|&x| bf16::stored(x).to_f32()).collect(),
        Left::Bf16(x) => x.par_iter().map(|x| x.to_f32()).collect(),
    };
    let w: Vec<f32> = w.par_iter().map(|w| w.to_f32()).collect();
    let rows = c.len() / n;
    let (x, w) = (Matrix::new(&rounded, rows, k), Matrix::transposed(&w, k, n));
    if C::DTYPE == DType::F32 {
        return matmul::matmul_with(x, w, bytemuck::cast_slice_mut(c), terms);
    }
    let mut sums = vec![0.0; c.len()];
    matmul::matmul_with(x, w, &mut sums, terms);
    c.par_iter_mut().zip(sums).for_each(|(c, sum)| *c = C::stored(sum));
}

#[cfg(target_arch = "x86_64")]
pub(super) mod native {
    use super::super::Stores;
    use super::super::avx512::transpose;
    use super::super::matmul::Terms;
    use super::super::packed::{COLUMNS, Panels, Rows, Words, pitch, product};
    use super::{Left, Weight};
    use half::bf16;
    use std::arch::x86_64::*;
    use std::ops::Range;
    use std::sync::Arc;

    pub fn matmul<C: Stores<f32>>(x: Left, w: Weight, c: &mut [C], [n, k]: [usize; 2], terms: Terms<f32>) {
        product(Words::Pair, &Pairs { x, k }, &panels(w, [n, k]), c, terms);
    }

    /// w in panels of pairs.
    pub fn panels(w: Weight, shape: [usize; 2]) -> Arc<Panels> {
        match w.kept {
            Some(kept) => kept.panels(shape, || pack(w.values, shape)),
            None => Arc::new(pack(w.values, shape)),
        }
    }

    fn pack(w: &[bf16], [n, k]: [usize; 2]) -> Panels {
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
                let mut pairs = vec![0; depth];
                pair_row(&w[(first + column) * k..][..k], &mut pairs);
                for (pair, to) in pairs.into_iter().zip(panel[column..].iter_mut().step_by(COLUMNS)) {
                    *to = pair;
                }
            }
        })
    }

    /// Rows of x as pairs of bf16.
    pub struct Pairs<'a> {
        pub x: Left<'a>,
        pub k: usize,
    }

    impl Rows for Pairs<'_> {
        fn words<'a>(
            &'a self,
            rows: Range<usize>,
            pass: Range<usize>,
            scratch: &'a mut Vec<u32>,
        ) -> (&'a [u32], usize) {
            let k = self.k;
            let elements = rows.start * k..rows.end * k;
            if let (Left::Bf16(x), true) = (self.x, k.is_multiple_of(2))
                && let Ok(words) = bytemuck::try_cast_slice(&x[elements.clone()])
            {
                return (&words[pass.start..], k / 2);
            }
            let pitch = pitch(pass.len());
            scratch.resize(rows.len() * pitch, 0);
            let columns = 2 * pass.start..k.min(2 * pass.end);
            for (r, pairs) in scratch.chunks_mut(pitch.max(1)).enumerate() {
                let at = elements.start + r * k;
                match self.x {
                    // SAFETY: `has_instructions` found the features at run time.
                    Left::F32(x) => unsafe { round_row(&x[at..at + k][columns.clone()], pairs) },
                    Left::Bf16(x) => pair_row(&x[at..at + k][columns.clone()], pairs),
                }
            }
            (scratch, pitch)
        }
    }

    fn pair_row(row: &[bf16], pairs: &mut [u32]) {
        for (pair, to) in row.chunks(2).zip(pairs) {
            let high = pair.get(1).map_or(0, |x| x.to_bits());
            *to = u32::from(pair[0].to_bits()) | u32::from(high) << 16;
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
        let shapes = [
            (1, 1, 1),
            (3, 5, 2),
            (12, 32, 64),
            (13, 33, 65),
            (40, 70, 288),
            (25, 31, 0),
            (5, 64, 1000),
            (3, 40, 1101),
        ];
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
                let mut found = [before.clone(), before.clone(), before.clone()];
                matmul(Left::F32(&x), Weight::new(&w), &mut found[0], [n, k], terms);
                matmul(Left::Bf16(&stored(&x)), Weight::new(&w), &mut found[1], [n, k], terms);
                widened(Left::F32(&x), &w, &mut found[2], [n, k], terms);
                assert!(found[0] == found[1], "{rows}x{n}x{k}");
                if !terms.accumulate {
                    let mut rounded = vec![bf16::NAN; rows * n];
                    matmul(Left::F32(&x), Weight::new(&w), &mut rounded, [n, k], terms);
                    assert!(rounded == stored(&found[0]), "{rows}x{n}x{k}");
                    widened(Left::F32(&x), &w, &mut rounded, [n, k], terms);
                    assert!(rounded == stored(&found[2]), "{rows}x{n}x{k}");
                }
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
        matmul(Left::F32(&x), Weight::new(&w), &mut all, [n, k], Terms::default());
        for (first, count) in [(0, 1), (7, 12), (30, 31), (60, 1)] {
            let mut part = vec![0.0; count * n];
            let own = Left::F32(&x[first * k..][..count * k]);
            matmul(own, Weight::new(&w), &mut part, [n, k], Terms::default());
            let same = part.iter().zip(&all[first * n..]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{count} rows from {first} on");
        }
    }
}
