//! Products on AVX-512 and AVX2: C = A·B, where B is packed into panels of `COLUMNS` columns that stay in the cache while rows of A
//! pass, and a block of `ROWS` rows by a panel is summed in registers.
//!
//! Factors are words of 32 bits: an f32, or a pair of bf16 of neighbouring k, which one instruction multiplies and adds. Sums are
//! f32 and run over k in order, [`DEPTH`] words at a time, whatever rows or columns stand beside: a row's bits depend on
//! itself and B alone, the instruction set not among them. Bound by arithmetic: 24 vector multiply-adds take 14 loads (AVX-512).

use super::Stores;
use super::avx2;
use super::avx512::{self, first};
use super::matmul::Terms;
use super::simd::{Level, level};
use crate::device::DType;
use half::bf16;
use rayon::prelude::*;
use std::arch::x86_64::*;
use std::ops::Range;

/// Columns of a panel: two vectors of sums.
pub const COLUMNS: usize = 32;
/// Rows of a block: with two vectors a row, 24 of 32 registers hold sums.
pub const ROWS: usize = 12;
/// Words of k that a pass takes: a panel of that depth stays in the nearest caches while rows pass.
const DEPTH: usize = 512;
/// Work of a task, in words times results, where its rows are no more than [`HEIGHT`].
pub const TASK: usize = 1 << 22;
/// Most rows of a task: with a pass's words of them, and a panel, the second cache is about half full.
const HEIGHT: usize = 20 * ROWS;

/// What the words of both factors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// One f32.
    Single,
    /// Two bf16, the first in the low half.
    Pair,
}

/// B in panels `[n / COLUMNS][depth][COLUMNS]`, zeros beyond its columns.
#[derive(Debug)]
pub struct Panels {
    /// Columns.
    pub n: usize,
    /// Words along k.
    pub depth: usize,
    words: Vec<u32>,
}

impl Panels {
    /// Panel `number`, `[depth][COLUMNS]`.
    pub fn panel(&self, number: usize) -> &[u32] {
        &self.words[number * self.depth * COLUMNS..][..self.depth * COLUMNS]
    }

    /// Filled by `column_group(first, count, panel)`: columns `first..first + count` into `panel: [depth][COLUMNS]`, which
    /// is zero.
    pub fn fill(n: usize, depth: usize, group: impl Fn(usize, usize, &mut [u32]) + Sync) -> Self {
        let mut words = vec![0; n.div_ceil(COLUMNS) * depth * COLUMNS];
        let panels = words.par_chunks_mut((depth * COLUMNS).max(1)).enumerate();
        panels.for_each(|(number, panel)| {
            let first = number * COLUMNS;
            group(first, COLUMNS.min(n - first), panel);
        });
        Panels { n, depth, words }
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.words[..])
    }
}

/// A matrix of words that tasks read rows of.
pub trait Rows: Sync {
    /// Words `pass` of rows `rows`, each row so many words after the one before: in place, or written to `scratch`.
    fn words<'a>(
        &'a self,
        rows: Range<usize>,
        pass: Range<usize>,
        scratch: &'a mut Vec<u32>,
    ) -> (&'a [u32], usize);
}

/// Words from a row to the next where rows of `depth` words are written anew. Rows that lie a power of two apart would all
/// fall into the same few places of the cache.
pub fn pitch(depth: usize) -> usize {
    if depth > 0 && depth.is_multiple_of(128) { depth + 16 } else { depth }
}

/// The first element of c.
#[derive(Clone, Copy)]
pub enum Output {
    /// Of f32.
    F32(*mut f32),
    /// Of bf16, to which sums are rounded at their end: they do not begin with what c holds.
    Bf16(*mut bf16),
}

// SAFETY: tasks write to distinct rows and columns.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

impl Output {
    /// Of all of `c`.
    pub fn of<C: Stores<f32>>(c: &mut [C]) -> Self {
        match C::DTYPE {
            DType::BF16 => Output::Bf16(c.as_mut_ptr().cast()),
            _ => Output::F32(c.as_mut_ptr().cast()),
        }
    }
}

/// c = a·b and the terms; `c: [rows, n]`.
pub fn product<C: Stores<f32>>(kind: Words, a: &impl Rows, b: &Panels, c: &mut [C], terms: Terms<f32>) {
    let Panels { n, depth, .. } = *b;
    let rows = c.len() / n.max(1);
    if rows == 0 {
        return;
    }
    assert!(terms.residual.is_none_or(|r| r.len() == c.len()) && terms.bias.is_none_or(|b| b.len() == n));
    let panels = n.div_ceil(COLUMNS);
    let threads = rayon::current_num_threads();
    let height = (TASK / (n * depth).max(1)).min(HEIGHT).clamp(1, rows.div_ceil(threads));
    let height = height.next_multiple_of(ROWS);
    // Few rows are shared by cutting the columns.
    let across = if rows.div_ceil(height) >= threads { 1 } else { threads.min(panels) };
    let width = panels.div_ceil(across);
    let output = Output::of(c);
    let tasks = rows.div_ceil(height) * panels.div_ceil(width);
    (0..tasks).into_par_iter().for_each_init(Vec::new, |scratch, task| {
        let (down, across) = (task / panels.div_ceil(width), task % panels.div_ceil(width));
        let rows = down * height..rows.min((down + 1) * height);
        let panels = across * width..panels.min((across + 1) * width);
        // SAFETY: tasks have distinct rows and columns of c, which has all of them.
        unsafe { part((kind, a, b), (rows, panels), output, terms, scratch) };
    });
}

/// Most rows of a task that is more than one product: with what they become they stay in a core's own cache.
pub const HEIGHT_ALONE: usize = 4 * ROWS;

/// Rows of such a task, of `rows` in all: each thread has many, so that none waits long for the last.
pub fn height_of(rows: usize) -> usize {
    (rows / (16 * rayon::current_num_threads())).clamp(1, HEIGHT_ALONE).next_multiple_of(ROWS)
}

/// The same on this thread alone, for a task of something larger; `scratch` may hold anything.
pub fn product_alone<C: Stores<f32>>(
    kind: Words,
    a: &impl Rows,
    b: &Panels,
    c: &mut [C],
    terms: Terms<f32>,
    scratch: &mut Vec<u32>,
) {
    let rows = c.len() / b.n.max(1);
    assert!(terms.residual.is_none_or(|r| r.len() == c.len()) && terms.bias.is_none_or(|x| x.len() == b.n));
    let output = Output::of(c);
    for first in (0..rows).step_by(HEIGHT) {
        let part_of_it = (first..rows.min(first + HEIGHT), 0..b.n.div_ceil(COLUMNS));
        // SAFETY: c has all of these.
        unsafe { part((kind, a, b), part_of_it, output, terms, scratch) };
    }
}

/// Some rows and panels of a product.
///
/// # Safety
/// The result must have them, and nobody else may write there.
unsafe fn part(
    (kind, a, b): (Words, &impl Rows, &Panels),
    (rows, panels): (Range<usize>, Range<usize>),
    output: Output,
    terms: Terms<f32>,
    scratch: &mut Vec<u32>,
) {
    let Panels { n, depth, .. } = *b;
    let of_pass = match output {
        Output::F32(_) => DEPTH,
        // c holds no sum that another pass could go on from.
        Output::Bf16(_) => depth.max(1),
    };
    for from in (0..depth.max(1)).step_by(of_pass) {
        let pass = from..depth.min(from + of_pass);
        let (words, pitch) = a.words(rows.clone(), pass.clone(), scratch);
        // Made once: a copy for each block would wait for the results of the block before it to be written.
        let terms = Terms {
            residual: terms.residual.filter(|_| pass.start == 0),
            bias: terms.bias.filter(|_| pass.end == depth),
            accumulate: terms.accumulate || pass.start > 0,
        };
        for number in panels.clone() {
            let panel = &b.panel(number)[pass.start * COLUMNS..pass.end * COLUMNS];
            for row in rows.clone().step_by(ROWS) {
                let place = Place { n, end: n, pitch, row, column: number * COLUMNS };
                let own = &words[(row - rows.start) * pitch..];
                // SAFETY: the features were found at run time by whoever chose this product. The block's rows and columns are
                // the caller's.
                unsafe { block_of(kind, rows.end - row, own, panel, output, place, &terms) };
            }
        }
    }
}

/// `to[i][j] = rows[j][i]` as [`avx512::transpose`] does it, on any of the instruction sets of these products.
///
/// # Safety
/// As there.
pub unsafe fn transpose(rows: &[*const u32], depth: usize, to: *mut u32, pitch: usize) {
    // SAFETY: as the caller's.
    unsafe {
        match level() {
            Level::Avx512 => avx512::transpose(rows, depth, to, pitch),
            _ => avx2::transpose(rows, depth, to, pitch),
        }
    }
}

/// Where a block's results go.
#[derive(Clone, Copy)]
pub struct Place {
    /// Words from a row of c to the next.
    pub n: usize,
    /// Past the last column of c that the product has.
    pub end: usize,
    /// Words from a row of a to the next; of a transposed one from a column to the next.
    pub pitch: usize,
    /// First row in c.
    pub row: usize,
    /// Column in c of the panel's first.
    pub column: usize,
}

/// Up to [`ROWS`] rows by a panel.
///
/// # Safety
/// `c` must have `place.row + min(left, ROWS)` rows of `place.n`, of which this call may write those and the panel's columns
/// below `place.end`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub unsafe fn block_bf16(left: usize, a: &[u32], panel: &[u32], c: Output, place: Place, terms: &Terms<f32>) {
    let step = |sum, x: u32, w| {
        // SAFETY: both are 512 bits.
        let [x, w] = [_mm512_set1_epi32(x as i32), w]
            .map(|words| unsafe { std::mem::transmute::<__m512i, __m512bh>(words) });
        _mm512_dpbf16_ps(sum, x, w)
    };
    let word = |r, i| r * place.pitch + i;
    // SAFETY: as the caller's.
    unsafe { rows_of(left, (a, word), panel, c, place, terms, step) }
}

/// The same in f32.
///
/// # Safety
/// As [`block_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn block_f32(
    left: usize,
    a: &[u32],
    panel: &[u32],
    c: *mut f32,
    place: Place,
    terms: &Terms<f32>,
) {
    let step =
        |sum, x: u32, w| _mm512_fmadd_ps(_mm512_set1_ps(f32::from_bits(x)), _mm512_castsi512_ps(w), sum);
    let word = |r, i| r * place.pitch + i;
    // SAFETY: as the caller's.
    unsafe { rows_of(left, (a, word), panel, Output::F32(c), place, terms, step) }
}

/// The same with a transposed: its words lie side by side for the rows, `place.pitch` apart along k.
///
/// # Safety
/// As [`block_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn block_columns(
    left: usize,
    a: &[u32],
    panel: &[u32],
    c: Output,
    place: Place,
    terms: &Terms<f32>,
) {
    let step =
        |sum, x: u32, w| _mm512_fmadd_ps(_mm512_set1_ps(f32::from_bits(x)), _mm512_castsi512_ps(w), sum);
    let word = |r, i| i * place.pitch + r;
    // SAFETY: as the caller's.
    unsafe { rows_of(left, (a, word), panel, c, place, terms, step) }
}

/// # Safety
/// As [`block_bf16`], and the processor must have what `kind` needs.
pub unsafe fn block_of(
    kind: Words,
    left: usize,
    a: &[u32],
    panel: &[u32],
    c: Output,
    place: Place,
    terms: &Terms<f32>,
) {
    // SAFETY: as the caller's.
    unsafe {
        match (kind, c) {
            (Words::Single, Output::F32(c)) if level() == Level::Avx512 => {
                block_f32(left, a, panel, c, place, terms)
            }
            (Words::Single, Output::F32(c)) => avx2::block_f32(left, a, panel, c, place, terms),
            (Words::Pair, c) => block_bf16(left, a, panel, c, place, terms),
            (Words::Single, Output::Bf16(_)) => unreachable!("f32 factors have f32 products"),
        }
    }
}

/// One copy for each number of rows and of vectors, so that sums stay in registers.
#[inline(always)]
unsafe fn rows_of(
    left: usize,
    a: (&[u32], impl Fn(usize, usize) -> usize + Copy),
    panel: &[u32],
    c: Output,
    place: Place,
    terms: &Terms<f32>,
    step: impl Fn(__m512, u32, __m512i) -> __m512 + Copy,
) {
    macro_rules! rows {
        ($($r:literal)*) => {
            // SAFETY: as the caller's.
            unsafe {
                match (left, place.end > place.column + 16) {
                    $(($r, true) => block::<$r, 2>(a, panel, c, place, terms, step),)*
                    $(($r, false) => block::<$r, 1>(a, panel, c, place, terms, step),)*
                    (_, true) => block::<ROWS, 2>(a, panel, c, place, terms, step),
                    (_, false) => block::<ROWS, 1>(a, panel, c, place, terms, step),
                }
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11)
}

// Loops over numbers of rows and vectors are unrolled, those over what holds the sums are not always.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn block<const R: usize, const V: usize>(
    (a, word): (&[u32], impl Fn(usize, usize) -> usize),
    panel: &[u32],
    c: Output,
    place: Place,
    terms: &Terms<f32>,
    step: impl Fn(__m512, u32, __m512i) -> __m512,
) {
    let Place { n, end, row, column, .. } = place;
    let steps = panel.len() / COLUMNS;
    assert!(steps == 0 || a.len() > word(R - 1, steps - 1));
    let mut masks = [0; V];
    for (v, mask) in masks.iter_mut().enumerate() {
        *mask = first(end.saturating_sub(column + 16 * v));
    }
    // SAFETY: masks leave only columns below `end` of rows of c and of what has its shape; step i of the panel and word i of
    // R rows were checked above.
    unsafe {
        let at = |r: usize, v: usize| (row + r) * n + column + 16 * v;
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        if let (true, Output::F32(c)) = (terms.accumulate, c) {
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = _mm512_maskz_loadu_ps(masks[v], c.add(at(r, v)));
                }
            }
        }
        if let Some(residual) = terms.residual {
            for r in 0..R {
                for v in 0..V {
                    let first = _mm512_maskz_loadu_ps(masks[v], residual.as_ptr().add(at(r, v)));
                    sums[r][v] = _mm512_add_ps(sums[r][v], first);
                }
            }
            // Those of the rows below come from memory while these are summed.
            for r in R..2 * R {
                let below = residual.as_ptr().wrapping_add(at(r, 0));
                _mm_prefetch::<_MM_HINT_T0>(below.cast());
                _mm_prefetch::<_MM_HINT_T0>(below.wrapping_add(16).cast());
            }
        }
        for i in 0..steps {
            let mut w = [_mm512_setzero_si512(); V];
            for v in 0..V {
                w[v] = _mm512_loadu_si512(panel.as_ptr().add(i * COLUMNS + 16 * v).cast());
            }
            for r in 0..R {
                let x = *a.as_ptr().add(word(r, i));
                for v in 0..V {
                    sums[r][v] = step(sums[r][v], x, w[v]);
                }
            }
        }
        if let Some(bias) = terms.bias {
            for v in 0..V {
                let bias = _mm512_maskz_loadu_ps(masks[v], bias.as_ptr().add(column + 16 * v));
                for r in 0..R {
                    sums[r][v] = _mm512_add_ps(sums[r][v], bias);
                }
            }
        }
        match c {
            Output::F32(c) => {
                for r in 0..R {
                    for v in 0..V {
                        _mm512_mask_storeu_ps(c.add(at(r, v)), masks[v], sums[r][v]);
                    }
                }
            }
            Output::Bf16(c) => {
                for r in 0..R {
                    for v in 0..V {
                        let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums[r][v]));
                        _mm256_mask_storeu_epi16(c.add(at(r, v)).cast(), masks[v], halves);
                    }
                }
            }
        }
    }
}
