//! The thin products of a low-rank adapter in f32, see `kernels/low_rank.cu`.

use super::matmul::{Epilogue, Matrix, optional, sum_parts};
use super::matmul_bf16::CHUNK;
use super::{Buffer, Launch, View, ViewMut};
use crate::Result;
use crate::device::DType;

const FILE: &str = "low_rank";
/// Columns of the thin matrix that a warp has.
const RANKS: usize = 8;
/// Rows that a warp of `project` has, and its warps a block.
const ROWS: usize = 4;
const WARPS: usize = 4;
/// Pieces of the other factor that a thread makes.
const PIECES_EACH: usize = 8;
/// Rows that a block of `gradient` sums, its columns and its threads.
const PART: usize = 256;
const COLUMNS: usize = 128;
const THREADS: u32 = 256;
/// The largest rank for which [`gradient`] is faster than a product of matrices, which reads x once whatever the rank. Estimated, not measured.
pub const MOST_OF_GRADIENT: usize = 16;
/// Products of pieces that are kept.
const PIECES: usize = 6;

/// Length of a row of pieces.
pub fn pieces(rank: usize) -> usize {
    (PIECES * rank).next_multiple_of(CHUNK)
}

/// What [`project`] makes.
#[derive(Debug)]
pub struct Projected<'a> {
    /// low `[m, r]` = scale·x·factor, f32.
    pub low: ViewMut<'a>,
    /// Both factors of the pair that a product takes ([`Pair`](super::matmul::Pair)), where it takes one.
    pub pair: Option<PairOf<'a>>,
    /// x `[m, k]` in bf16; k is a multiple of [`CHUNK`].
    pub rounded: Option<ViewMut<'a>>,
}

/// A pair of factors in pieces, bf16.
#[derive(Debug)]
pub struct PairOf<'a> {
    /// Of low, `[m, pieces(r)]`.
    pub left: ViewMut<'a>,
    /// The adapter's other factor `[r, n]`, f32; stored as `[n, r]` where the first one is stored transposed.
    pub other: View<'a>,
    /// Of that, `[pieces(r), n]`; likewise `[n, pieces(r)]`.
    pub right: ViewMut<'a>,
}

/// One pass over x `[m, k]`, f32; factor `[k, r]`. The bits of a row do not depend on the others.
pub fn project(x: View, factor: Matrix, scale: f32, to: Projected, [m, k, r]: [usize; 3]) -> Result<()> {
    let (p, Projected { low, pair, rounded }) = (pieces(r), to);
    assert!(low.len() == m * r, "{low:?}");
    let fits = rounded.as_ref().is_none_or(|x| x.len() == m * k && k.is_multiple_of(CHUNK));
    assert!(fits, "{rounded:?} of [{m}, {k}]");
    let n = pair.as_ref().map_or(0, |pair| pair.other.len() / r);
    let fits = pair.as_ref().is_none_or(|pair| (pair.left.len(), pair.right.len()) == (m * p, n * p));
    assert!(fits, "{pair:?} of [{m}, {n}], {r}");
    let of_rows = (m.div_ceil(ROWS) * r.div_ceil(RANKS)).div_ceil(WARPS);
    let other = pair.as_ref().map(|pair| pair.other);
    let (left, right) = pair.map(|pair| (pair.left.0, pair.right.0)).unzip();
    x.cuda().launch(&Launch {
        file: FILE,
        kernel: if factor.transposed { "lea_low_rank_project_t" } else { "lea_low_rank_project" },
        grid: [of_rows + (n * p).div_ceil(PIECES_EACH * 32 * WARPS), 1, 1],
        threads: 32 * WARPS as u32,
        shared: 0,
        args: &[
            m.into(),
            k.into(),
            r.into(),
            p.into(),
            scale.into(),
            x.into(),
            factor.data.into(),
            (&low).into(),
            optional(left),
            optional(rounded.map(|to| to.0)),
            n.into(),
            optional(other),
            optional(right),
        ],
    })
}

/// `[r, w]` = tᵀ·x, or stored as `[w, r]`; t `[m, r]`, x `[m, w]`, all f32. The order of the sums depends on m alone.
pub fn gradient(t: View, x: View, out: ViewMut, transposed: bool, [m, w, r]: [usize; 3]) -> Result<()> {
    let (cuda, parts, len) = (x.cuda(), m.div_ceil(PART).max(1), r * w);
    let sums = if parts > 1 { Some(Buffer::scratch(cuda, DType::F32, parts * len)?) } else { None };
    let first = sums.as_ref().map_or(out.0, |sums| sums.view(0, parts * len));
    cuda.launch(&Launch {
        file: FILE,
        kernel: if transposed { "lea_low_rank_gradient_t" } else { "lea_low_rank_gradient" },
        grid: [w.div_ceil(COLUMNS) * r.div_ceil(RANKS), parts, 1],
        threads: THREADS,
        shared: 0,
        args: &[m.into(), w.into(), r.into(), t.into(), x.into(), first.into()],
    })?;
    match sums {
        Some(_) => sum_parts(first, parts, &out, [r, w], Epilogue::default()),
        None => Ok(()),
    }
}
