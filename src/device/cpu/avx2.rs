//! Blocks of products on AVX2 with FMA, the same sums in the same order as those of [`packed`](super::packed) on AVX-512: the same
//! bits. Six rows by two vectors of a panel are summed in 12 of 16 registers. Bound by arithmetic: 12 multiply-adds take 8 loads.

use super::matmul::Terms;
use super::packed::{COLUMNS, Place, ROWS};
use std::arch::x86_64::*;

/// Rows that are summed in registers at a time.
const STRIP: usize = ROWS / 2;
/// Columns of the same.
const HALF: usize = COLUMNS / 2;
/// Floats of a vector.
const WIDE: usize = 8;

/// Up to [`ROWS`] rows by a panel, all words f32.
///
/// # Safety
/// As `packed::block_f32`.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn block_f32(
    left: usize,
    a: &[u32],
    panel: &[u32],
    c: *mut f32,
    place: Place,
    terms: &Terms<f32>,
) {
    for first in (0..left.min(ROWS)).step_by(STRIP) {
        let (own, row) = (&a[first * place.pitch..], place.row + first);
        for half in 0..2 {
            let column = place.column + half * HALF;
            if column < place.end {
                let strip = Strip { panel, half, place: Place { row, column, ..place } };
                let count = (left - first).min(STRIP);
                // SAFETY: as the caller's.
                unsafe {
                    match place.end - column >= HALF {
                        true => strip.rows::<true>(count, own, c, terms),
                        false => strip.rows::<false>(count, own, c, terms),
                    }
                }
            }
        }
    }
}

/// Rows of c by half a panel.
struct Strip<'a> {
    panel: &'a [u32],
    half: usize,
    place: Place,
}

impl Strip<'_> {
    /// One copy for each number of rows, so that sums stay in registers; and one for all columns, since masked stores take dozens
    /// of cycles on some processors.
    ///
    /// # Safety
    /// As [`block_f32`], for `count` rows.
    #[inline(always)]
    unsafe fn rows<const WHOLE: bool>(&self, count: usize, a: &[u32], c: *mut f32, terms: &Terms<f32>) {
        // SAFETY: as the caller's.
        unsafe {
            match count {
                1 => self.sums::<1, WHOLE>(a, c, terms),
                2 => self.sums::<2, WHOLE>(a, c, terms),
                3 => self.sums::<3, WHOLE>(a, c, terms),
                4 => self.sums::<4, WHOLE>(a, c, terms),
                5 => self.sums::<5, WHOLE>(a, c, terms),
                _ => self.sums::<STRIP, WHOLE>(a, c, terms),
            }
        }
    }

    /// # Safety
    /// As [`block_f32`], for R rows.
    #[inline(always)]
    unsafe fn sums<const R: usize, const WHOLE: bool>(&self, a: &[u32], c: *mut f32, terms: &Terms<f32>) {
        let Place { n, end, pitch, row, column } = self.place;
        let steps = self.panel.len() / COLUMNS;
        assert!(steps == 0 || a.len() > (R - 1) * pitch + steps - 1);
        // SAFETY: masks leave only columns below `end` of rows of c and of what has its shape; step i of the panel and word i
        // of R rows were checked above.
        unsafe {
            let masks = [0, 1].map(|v| first((end - column).saturating_sub(v * WIDE)));
            let at = |r: usize, v: usize| (row + r) * n + column + v * WIDE;
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    if terms.accumulate {
                        *sum = load::<WHOLE>(c.add(at(r, v)), masks[v]);
                    }
                    if let Some(residual) = terms.residual {
                        let begin = load::<WHOLE>(residual.as_ptr().wrapping_add(at(r, v)), masks[v]);
                        *sum = _mm256_add_ps(*sum, begin);
                    }
                }
            }
            for i in 0..steps {
                let from = self.panel.as_ptr().add(i * COLUMNS + self.half * HALF).cast::<f32>();
                let w = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(WIDE))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(f32::from_bits(*a.as_ptr().add(r * pitch + i)));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = _mm256_fmadd_ps(x, w, *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, mut sum) in sums.into_iter().enumerate() {
                    if let Some(bias) = terms.bias {
                        let bias = bias.as_ptr().wrapping_add(column + v * WIDE);
                        sum = _mm256_add_ps(sum, load::<WHOLE>(bias, masks[v]));
                    }
                    match WHOLE {
                        true => _mm256_storeu_ps(c.add(at(r, v)), sum),
                        false => _mm256_maskstore_ps(c.wrapping_add(at(r, v)), masks[v], sum),
                    }
                }
            }
        }
    }
}

/// Eight floats, or those of the mask and zeros.
#[inline(always)]
unsafe fn load<const WHOLE: bool>(from: *const f32, mask: __m256i) -> __m256 {
    // SAFETY: as the caller's.
    unsafe { if WHOLE { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask) } }
}

/// `to[i][j] = rows[j][i]` as [`avx512::transpose`](super::avx512::transpose) does it.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn transpose(rows: &[*const u32], depth: usize, to: *mut u32, pitch: usize) {
    for (group, rows) in rows.chunks(WIDE).enumerate() {
        let to = to.wrapping_add(group * WIDE);
        let whole = if rows.len() == WIDE { depth / WIDE * WIDE } else { 0 };
        for from in (0..whole).step_by(WIDE) {
            let mut words = [_mm256_setzero_ps(); WIDE];
            for (words, row) in words.iter_mut().zip(rows) {
                // SAFETY: the row has eight words from there on.
                *words = unsafe { _mm256_loadu_ps(row.add(from).cast()) };
            }
            for (i, words) in transpose_square(words).into_iter().enumerate() {
                // SAFETY: row from + i of `to` has these columns.
                unsafe { _mm256_storeu_ps(to.add((from + i) * pitch).cast(), words) };
            }
        }
        for i in whole..depth {
            for (j, row) in rows.iter().enumerate() {
                // SAFETY: as above, word by word.
                unsafe { *to.add(i * pitch + j) = *row.add(i) };
            }
        }
    }
}

/// Eight rows of eight words.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose_square(rows: [__m256; WIDE]) -> [__m256; WIDE] {
    let zero = _mm256_setzero_ps();
    // Lane l of quads[4g + c]: column 4l + c of rows 4g to 4g + 3.
    let mut quads = [zero; WIDE];
    for g in 0..2 {
        let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        quads[4 * g] = _mm256_shuffle_ps::<0x44>(ab, cd);
        quads[4 * g + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
        let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        quads[4 * g + 2] = _mm256_shuffle_ps::<0x44>(ab, cd);
        quads[4 * g + 3] = _mm256_shuffle_ps::<0xee>(ab, cd);
    }
    let mut columns = [zero; WIDE];
    for c in 0..4 {
        columns[c] = _mm256_permute2f128_ps::<0x20>(quads[c], quads[4 + c]);
        columns[4 + c] = _mm256_permute2f128_ps::<0x31>(quads[c], quads[4 + c]);
    }
    columns
}

/// A mask of the first `count` of eight lanes.
#[inline(always)]
unsafe fn first(count: usize) -> __m256i {
    // SAFETY: whoever calls found AVX2.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(WIDE) as i32), lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::avx512::tests::expect_transposed;
    use super::super::packed;
    use super::super::simd::{Level, best};
    use super::*;

    #[test]
    fn words_are_transposed() {
        if best() >= Level::Avx2 {
            // SAFETY: the features are there, and the lengths are as told.
            expect_transposed(|rows, depth, to, pitch| unsafe { transpose(rows, depth, to, pitch) });
        }
    }

    #[test]
    fn blocks_have_the_bits_of_avx_512_and_write_nothing_beside() {
        if best() != Level::Avx512 {
            return;
        }
        let value = |i: usize| ((i * 7919 % 1013) as f32 - 500.0) / 317.0;
        for (left, end, depth) in
            [(12, 32, 5), (1, 1, 1), (5, 9, 40), (7, 16, 3), (12, 17, 64), (6, 31, 2), (13, 32, 0)]
        {
            let (pitch, n) = (depth + 3, 37);
            let a: Vec<u32> = (0..ROWS * pitch + 1).map(|i| value(i).to_bits()).collect();
            let panel: Vec<u32> = (0..depth * COLUMNS).map(|i| value(i + 99).to_bits()).collect();
            let (residual, bias): (Vec<f32>, Vec<f32>) =
                ((0..ROWS * n).map(|i| value(i + 5)).collect(), (0..n).map(|i| value(i + 8)).collect());
            for set in 0..8 {
                let terms = Terms {
                    residual: (set & 1 > 0).then_some(&residual[..]),
                    bias: (set & 2 > 0).then_some(&bias[..]),
                    accumulate: set & 4 > 0,
                };
                let before: Vec<f32> = (0..ROWS * n).map(|i| value(i + 50)).collect();
                let place = Place { n, end, pitch, row: 0, column: 0 };
                let mut found = [before.clone(), before];
                // SAFETY: the features are there; c, residual and bias have these rows and columns.
                unsafe {
                    block_f32(left, &a, &panel, found[0].as_mut_ptr(), place, &terms);
                    packed::block_f32(left, &a, &panel, found[1].as_mut_ptr(), place, &terms);
                }
                let [found, want] = found.map(|c| c.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                assert!(found == want, "{left} rows, {end} columns, depth {depth}, terms {set}");
            }
        }
    }
}
