//! Pieces of kernels on AVX-512: words transposed in registers, e to the power of sixteen numbers.

use std::arch::x86_64::*;

/// `to[i][j] = rows[j][i]` for i below `depth` and every row, where row i of `to` begins `pitch` words after the one before.
/// Nothing else of `to` is written.
///
/// # Safety
/// Every row has `depth` words; `to` has `depth` rows that many words apart, the last one of as many words as there are rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn transpose(rows: &[*const u32], depth: usize, to: *mut u32, pitch: usize) {
    for (group, rows) in rows.chunks(16).enumerate() {
        let columns = first(rows.len());
        for from in (0..depth).step_by(16) {
            let count = (depth - from).min(16);
            let mut words = [_mm512_setzero_si512(); 16];
            for (words, row) in words.iter_mut().zip(rows) {
                // SAFETY: the mask leaves what the row has.
                *words = unsafe { _mm512_maskz_loadu_epi32(first(count), row.add(from).cast()) };
            }
            let words = transpose_square(words);
            for (i, words) in words.iter().enumerate().take(count) {
                // SAFETY: row from + i of `to` has the columns that the mask leaves.
                unsafe {
                    let place = to.add((from + i) * pitch + 16 * group);
                    _mm512_mask_storeu_epi32(place.cast(), columns, *words);
                }
            }
        }
    }
}

/// A mask of the first `count` of sixteen lanes.
#[inline(always)]
pub fn first(count: usize) -> __mmask16 {
    if count < 16 { (1 << count) - 1 } else { u16::MAX }
}

/// Sixteen rows of sixteen words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn transpose_square(rows: [__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    // Lane l of quads[4g + c]: column 4l + c of rows 4g to 4g + 3.
    let mut quads = [zero; 16];
    for g in 0..4 {
        let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        quads[4 * g] = _mm512_unpacklo_epi64(ab, cd);
        quads[4 * g + 1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        quads[4 * g + 2] = _mm512_unpacklo_epi64(ab, cd);
        quads[4 * g + 3] = _mm512_unpackhi_epi64(ab, cd);
    }
    let mut columns = [zero; 16];
    for c in 0..4 {
        let [q0, q1, q2, q3] = [quads[c], quads[4 + c], quads[8 + c], quads[12 + c]];
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(q0, q1), _mm512_shuffle_i32x4::<0xdd>(q0, q1));
        let (more_even, more_odd) =
            (_mm512_shuffle_i32x4::<0x88>(q2, q3), _mm512_shuffle_i32x4::<0xdd>(q2, q3));
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even, more_even);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd, more_odd);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even, more_even);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd, more_odd);
    }
    columns
}

/// eˣ = 2ⁿ·eʳ as [`Float::exp`](super::Float::exp), whose last steps one instruction does here; below −104 it is 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn exp(x: __m512) -> __m512 {
    // The second operand is what a comparison with NaN gives.
    let x = _mm512_max_ps(_mm512_set1_ps(-110.0), x);
    let n = _mm512_roundscale_ps::<8>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693_359_4), x);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.121_944_4e-4), r);
    let mut p = _mm512_set1_ps(1.984_127e-4);
    for c in [1.388_888_9e-3, 8.333_333e-3, 4.166_666_6e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(p, n)
}

/// 2ᵗ within 2⁻¹⁸ of itself, and 2⁰ = 1: for what is rounded to bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn power_of_two(t: __m512) -> __m512 {
    // t − ⌊t⌋; scalef takes the other part.
    let f = _mm512_reduce_ps::<0b1001>(t);
    let mut p = _mm512_set1_ps(1.342_668_9e-2);
    for c in [5.224_246_6e-2, 0.241_280_21, 0.693_044_84, 1.0] {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(p, t)
}

/// Puts e to the power of x less the largest of all in the place of x; that one, and the sum of the powers, NaN if an x is.
/// The sum is of four vectors in turn.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn powers(x: &mut [f32]) -> (f32, f32) {
    let mut most = [_mm512_set1_ps(f32::NEG_INFINITY); 4];
    for_each_vector(x, |v, mask, place| {
        // SAFETY: here and below the mask leaves what x has.
        let words = unsafe { _mm512_maskz_loadu_ps(mask, place) };
        most[v] = _mm512_mask_max_ps(most[v], mask, words, most[v]);
    });
    let most = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
    let top = _mm512_reduce_max_ps(most);
    let mut sums = [_mm512_setzero_ps(); 4];
    for_each_vector(x, |v, mask, place| {
        // SAFETY: as above.
        unsafe {
            let power = exp(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, place), _mm512_set1_ps(top)));
            sums[v] = _mm512_mask_add_ps(sums[v], mask, sums[v], power);
            _mm512_mask_storeu_ps(place, mask, power);
        }
    });
    let sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    (top, _mm512_reduce_add_ps(sum))
}

/// Vectors of x in their order, numbered in turn by four, with a mask of what x has of them.
#[inline(always)]
fn for_each_vector(x: &mut [f32], mut each: impl FnMut(usize, __mmask16, *mut f32)) {
    let mut blocks = x.chunks_exact_mut(64);
    for block in &mut blocks {
        for (v, vector) in block.chunks_exact_mut(16).enumerate() {
            each(v, u16::MAX, vector.as_mut_ptr());
        }
    }
    for (v, vector) in blocks.into_remainder().chunks_mut(16).enumerate() {
        each(v, first(vector.len()), vector.as_mut_ptr());
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::device::cpu::simd::{Level, level};

    /// `transpose` takes words of any number of rows, and writes nothing else.
    pub fn expect_transposed(transpose: impl Fn(&[*const u32], usize, *mut u32, usize)) {
        for (count, depth) in [(1, 1), (8, 8), (8, 21), (16, 16), (5, 40), (32, 17), (31, 33), (3, 0), (0, 4)]
        {
            let words: Vec<u32> = (0..count * depth).map(|i| i as u32).collect();
            let rows: Vec<*const u32> = (0..count).map(|j| words[j * depth..].as_ptr()).collect();
            let pitch = count + 3;
            let mut to = vec![u32::MAX; depth * pitch];
            transpose(&rows, depth, to.as_mut_ptr(), pitch);
            for (place, &word) in to.iter().enumerate() {
                let (i, j) = (place / pitch, place % pitch);
                assert_eq!(word, if j < count { words[j * depth + i] } else { u32::MAX }, "{count}x{depth}");
            }
        }
    }

    #[test]
    fn words_are_transposed() {
        if level() == Level::Avx512 {
            // SAFETY: the features are there, and the lengths are as told.
            expect_transposed(|rows, depth, to, pitch| unsafe { transpose(rows, depth, to, pitch) });
        }
    }

    #[test]
    fn short_powers_have_eighteen_bits_and_keep_their_limits() {
        if level() != Level::Avx512 {
            return;
        }
        let power_of = |t: f32| {
            let mut y = [0.0; 16];
            // SAFETY: the features are there; sixteen floats are written.
            unsafe { _mm512_storeu_ps(y.as_mut_ptr(), power_of_two(_mm512_set1_ps(t))) };
            y[3]
        };
        for i in 0..200_000 {
            let t = -126.0 + 253.0 * (i as f32) / 200_000.0;
            let exact = f64::from(t).exp2();
            assert!((f64::from(power_of(t)) - exact).abs() <= exact * 2f64.powi(-18), "at {t}");
        }
        assert_eq!([power_of(f32::NEG_INFINITY), power_of(-1e4), power_of(0.0)], [0.0, 0.0, 1.0]);
        assert_eq!([power_of(f32::INFINITY), power_of(1e4)], [f32::INFINITY; 2]);
        assert!(power_of(f32::NAN).is_nan());
    }

    #[test]
    fn powers_of_any_number_of_scores_and_their_sum_agree_with_f64() {
        if level() != Level::Avx512 {
            return;
        }
        for len in [1, 15, 16, 63, 64, 65, 200, 1000] {
            let scores: Vec<f32> = (0..len).map(|i| ((i * 37 + 11) % 101) as f32 / 7.0 - 40.0).collect();
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut found = scores.clone();
            // SAFETY: the features are there.
            let (most, sum) = unsafe { powers(&mut found) };
            let want: Vec<f64> = scores.iter().map(|&x| (f64::from(x) - f64::from(top)).exp()).collect();
            assert_eq!(most, top);
            let all: f64 = want.iter().sum();
            assert!((f64::from(sum) - all).abs() <= 2e-6 * all, "{len}: {sum}, not {all}");
            for (found, want) in found.iter().zip(&want) {
                assert!((f64::from(*found) - want).abs() <= 1e-6 * want, "{len}: {found}, not {want}");
            }
        }
        let mut spoilt = vec![1.0, f32::NAN, 2.0];
        // SAFETY: as above.
        assert!(unsafe { powers(&mut spoilt) }.1.is_nan());
    }

    #[test]
    fn powers_are_within_two_ulp_and_keep_their_limits() {
        if level() != Level::Avx512 {
            return;
        }
        let exp_of = |x: f32| {
            let mut y = [0.0; 16];
            // SAFETY: the features are there; sixteen floats are written.
            unsafe { _mm512_storeu_ps(y.as_mut_ptr(), exp(_mm512_set1_ps(x))) };
            y[7]
        };
        for i in 0..200_000 {
            let x = -87.0 + 175.0 * (i as f32) / 200_000.0;
            let exact = f64::from(x).exp();
            let ulp = 2f64.powi(exact.log2().floor() as i32 - 23);
            assert!((f64::from(exp_of(x)) - exact).abs() <= 2.0 * ulp, "at {x}");
        }
        assert_eq!([exp_of(f32::NEG_INFINITY), exp_of(-1e4), exp_of(0.0)], [0.0, 0.0, 1.0]);
        assert_eq!(exp_of(f32::INFINITY), f32::INFINITY);
        assert!(exp_of(f32::NAN).is_nan());
    }
}
