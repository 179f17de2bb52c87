//! C (+)= Aᵀ·B on AVX-512, as gradients of weights are made. Both factors lie row by row along k; a task copies what it reads of
//! them side by side, so that neither is transposed: words of A are repeated, panels of B lie in vectors.
//!
//! Sums are f32 and run over k in order, [`DEPTH`] rows at a time, whatever the tasks. Bound by arithmetic: a copied panel of B
//! serves all columns of A that the task has, up to [`HEIGHT`].

use super::matmul::Terms;
use super::packed::{COLUMNS, Output, Place, ROWS, block_columns};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of the factors that a pass takes: their copies fill a third of a core's own cache.
const DEPTH: usize = 512;
/// Most columns of A of a task.
const HEIGHT: usize = 10 * ROWS;
/// Multiplications of a task, about, where there are enough of them.
const TASK: usize = 1 << 24;

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
    (0..tasks).into_par_iter().for_each_init(Copies::default, |copies, task| {
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
#[derive(Default)]
struct Copies {
    /// Of A, `[rows / ROWS][depth][ROWS]`.
    blocks: Vec<f32>,
    /// Of B, `[depth][COLUMNS]`.
    panel: Vec<f32>,
}

impl Task<'_> {
    /// # Safety
    /// `c` is `[m, n]`, of which this call may write its rows and columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn run(&self, copies: &mut Copies, c: Output, accumulate: bool) {
        let [k, m, n] = self.shape;
        for from in (0..k).step_by(DEPTH) {
            let pass = from..k.min(from + DEPTH);
            let (a, b) = (&self.a[pass.start * m..pass.end * m], &self.b[pass.start * n..pass.end * n]);
            let depth = pass.len();
            copies.blocks.resize(self.rows.len().div_ceil(ROWS) * depth * ROWS, 0.0);
            for (to, row) in copies.blocks.chunks_exact_mut(depth * ROWS).zip(self.rows.clone().step_by(ROWS))
            {
                side_by_side::<ROWS>(a, m, row..self.rows.end, to);
            }
            copies.panel.resize(depth * COLUMNS, 0.0);
            for column in self.panels.clone().map(|number| number * COLUMNS) {
                side_by_side::<COLUMNS>(b, n, column..n, &mut copies.panel);
                let blocks = copies.blocks.chunks_exact(depth * ROWS).zip(self.rows.clone().step_by(ROWS));
                for (words, row) in blocks {
                    let place = Place { n, end: n, pitch: ROWS, row, column };
                    let terms = Terms { accumulate: accumulate || from > 0, ..Terms::default() };
                    let (words, panel) = (bytemuck::cast_slice(words), bytemuck::cast_slice(&copies.panel));
                    // SAFETY: as the caller's.
                    unsafe { block_columns(self.rows.end - row, words, panel, c, place, terms) };
                }
            }
        }
    }
}

/// The first N of `columns`, zeros where there are fewer, of every row of `from: [_, width]`; `to: [_, N]`.
#[inline(always)]
fn side_by_side<const N: usize>(from: &[f32], width: usize, columns: Range<usize>, to: &mut [f32]) {
    let count = columns.len().min(N);
    for (row, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(N)) {
        match row[columns.start..].first_chunk::<N>() {
            Some(row) if count == N => to.copy_from_slice(row),
            _ => {
                to[..count].copy_from_slice(&row[columns.start..columns.start + count]);
                to[count..].fill(0.0);
            }
        }
    }
}
