//! C (+)= Aᵀ·B on AVX-512, as gradients of weights are made. Both factors lie row by row along k; a task copies what it reads of
//! them side by side, so that neither is transposed: words of A are repeated, panels of B lie in vectors.
//!
//! Sums are f32 and run over k in order, [`DEPTH`] rows at a time, whatever the tasks. Bound by arithmetic: a copied panel of B
//! serves all columns of A that the task has, up to [`HEIGHT`].

use super::Buffer;
use super::avx512::first;
use super::matmul::Terms;
use super::packed::{COLUMNS, Output, Place, ROWS, block_columns};
use crate::device::DType;
use rayon::prelude::*;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of the factors that a pass takes: their copies fill a third of a core's own cache.
const DEPTH: usize = 512;
/// Most columns of A of a task.
const HEIGHT: usize = 10 * ROWS;
/// Multiplications of a task, about, where there are enough of them.
const TASK: usize = 1 << 24;
/// Words from a row of a copied block of A to the next: one line.
const PITCH: usize = 16;

/// c = aᵀ·b, or c += aᵀ·b if `accumulate`; `a: [k, m]`, `b: [k, n]`, `c: [m, n]`.
pub fn product(a: &[f32], b: &[f32], [m, n]: [usize; 2], c: &mut [f32], accumulate: bool) {
    assert!(c.len() == m * n);
    let k = a.len().checked_div(m).unwrap_or(0);
    assert!(a.len() == k * m && (m == 0 || b.len() == k * n));
    if k == 0 || n == 0 {
        return if accumulate {
        } else {
            c.fill(0.0)
        };
    }
    let (panels, threads) = (n.div_ceil(COLUMNS), rayon::current_num_threads());
    let mut height = m.min(HEIGHT).next_multiple_of(ROWS);
    let width = (TASK / (height * COLUMNS * k)).clamp(1, panels.div_ceil(threads));
    let across = panels.div_ceil(width);
    if m.div_ceil(height) * across < threads {
        height = ROWS;
    }
    let output = Output::of(c);
    let tasks = m.div_ceil(height) * across;
    let copies = || Copies::new(height, k);
    (0..tasks).into_par_iter().for_each_init(copies, |copies, task| {
        let (down, across) = (task / across, task % across);
        let task = Task {
            a,
            b,
            shape: [k, m, n],
            rows: down * height..m.min((down + 1) * height),
            panels: across * width..panels.min((across + 1) * width),
        };
        // SAFETY: whoever chose this product found AVX-512. Tasks have distinct rows and columns of c, which has the shape.
        unsafe { task.run(copies, output, accumulate) };
    });
}

/// Columns of A, which are rows of C, by panels of B.
struct Task<'a> {
    a: &'a [f32],
    b: &'a [f32],
    shape: [usize; 3],
    rows: Range<usize>,
    panels: Range<usize>,
}

/// What a task has copied.
struct Copies {
    /// Of A, `[rows / ROWS][depth][PITCH]`.
    blocks: Buffer,
    /// Of B, `[depth][COLUMNS]`.
    panel: Buffer,
}

impl Copies {
    /// Room for `rows` columns of A along `depth` rows.
    fn new(rows: usize, depth: usize) -> Self {
        let [blocks, panel] = [rows.div_ceil(ROWS) * PITCH, COLUMNS]
            .map(|width| Buffer::scratch(DType::F32, depth.min(DEPTH) * width));
        Copies { blocks, panel }
    }
}

impl Task<'_> {
    /// # Safety
    /// The processor has AVX-512, and `c` is `[m, n]`, of which this call may write its rows and columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn run(&self, copies: &mut Copies, c: Output, accumulate: bool) {
        let [k, m, n] = self.shape;
        let blocks = self.rows.len().div_ceil(ROWS);
        for from in (0..k).step_by(DEPTH) {
            let pass = from..k.min(from + DEPTH);
            let (a, b) = (&self.a[pass.start * m..pass.end * m], &self.b[pass.start * n..pass.end * n]);
            let depth = pass.len();
            let terms = Terms { accumulate: accumulate || from > 0, ..Terms::default() };
            let a_blocks = &mut copies.blocks.as_mut_slice::<f32>()[..blocks * depth * PITCH];
            load_blocks(a, m, self.rows.clone(), a_blocks);
            let panel = &mut copies.panel.as_mut_slice::<f32>()[..depth * COLUMNS];
            for column in self.panels.clone().map(|number| number * COLUMNS) {
                load_panel(b, n, column, panel);
                let next = column + COLUMNS;
                for (block, words) in a_blocks.chunks_exact(depth * PITCH).enumerate() {
                    if next < self.panels.end * COLUMNS {
                        // A share of the next panel: rows of B are too far apart for the processor to see them coming.
                        let share = depth.div_ceil(blocks);
                        fetch(b, n, next, block * share..depth.min((block + 1) * share));
                    }
                    let row = self.rows.start + block * ROWS;
                    let place = Place { n, end: n, pitch: PITCH, row, column };
                    let (words, panel) = (bytemuck::cast_slice(words), bytemuck::cast_slice(&*panel));
                    // SAFETY: as the caller's.
                    unsafe { block_columns(self.rows.end - row, words, panel, c, place, &terms) };
                }
            }
        }
    }
}

/// Columns `rows` of a, `[depth, m]`, into `blocks: [rows / ROWS][depth][PITCH]`, zeros where a block has fewer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn load_blocks(a: &[f32], m: usize, rows: Range<usize>, blocks: &mut [f32]) {
    let depth = a.len() / m;
    assert!(rows.end <= m && blocks.len() == rows.len().div_ceil(ROWS) * depth * PITCH);
    for i in 0..depth {
        for (block, row) in rows.clone().step_by(ROWS).enumerate() {
            let mask = first((rows.end - row).min(ROWS));
            // SAFETY: the mask leaves what row i of a has; the place is inside the blocks, which were measured above.
            unsafe {
                let words = _mm512_maskz_loadu_ps(mask, a.as_ptr().add(i * m + row));
                _mm512_storeu_ps(blocks.as_mut_ptr().add((block * depth + i) * PITCH), words);
            }
        }
    }
}

/// Columns of b, rows of `n`, from `column` on into `panel: [depth][COLUMNS]`, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn load_panel(b: &[f32], n: usize, column: usize, panel: &mut [f32]) {
    for (row, to) in b.chunks_exact(n).zip(panel.chunks_exact_mut(COLUMNS)) {
        match row[column..].first_chunk::<COLUMNS>() {
            Some(row) => to.copy_from_slice(row),
            None => {
                to[..n - column].copy_from_slice(&row[column..]);
                to[n - column..].fill(0.0);
            }
        }
    }
}

/// Has the lines of a panel at `column` of some rows on their way.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn fetch(b: &[f32], n: usize, column: usize, rows: Range<usize>) {
    for row in rows {
        for part in b[row * n + column..].chunks(16).take(COLUMNS / 16) {
            _mm_prefetch::<_MM_HINT_T1>(part.as_ptr().cast());
        }
    }
}
