//! The thin products of a low-rank adapter in f32, see `kernels/low_rank.cu`.

use super::each::each;
use super::matmul::{Epilogue, Matrix, optional, sum_parts};
use super::matmul_bf16::CHUNK;
use super::{Buffer, Launch, View, ViewMut};
use crate::device::DType;
use crate::{Error, Result};

const FILE: &str = "low_rank";
/// Columns of the thin matrix that a warp has.
const RANKS: usize = 8;
/// Rows that a warp of `project` has, and its warps a block.
const ROWS: usize = 4;
const WARPS: usize = 2;
/// Rows that a block of `gradient` sums, its columns and its threads.
const PART: usize = 256;
const COLUMNS: usize = 128;
const THREADS: u32 = 256;
/// Products of pieces that are kept.
const PIECES: usize = 6;

/// Length of a row of pieces.
pub fn pieces(rank: usize) -> usize {
    (PIECES * rank).next_multiple_of(CHUNK)
}

/// low `[m, r]` = scale·x·factor in f32, and where asked for its pieces as a left factor `[m, pieces(r)]` in bf16; x `[m, k]`, factor
/// `[k, r]`. The bits of a row do not depend on the others.
pub fn project(
    x: View,
    factor: Matrix,
    scale: f32,
    (low, to_pieces): (ViewMut, Option<ViewMut>),
    [m, k, r]: [usize; 3],
) -> Result<()> {
    let whole = to_pieces.as_ref().is_none_or(|to| to.len() == m * pieces(r));
    assert!(low.len() == m * r && whole, "{low:?} and {to_pieces:?}");
    let kernel = if factor.transposed { "lea_low_rank_project_t" } else { "lea_low_rank_project" };
    x.cuda().launch(&Launch {
        file: FILE,
        kernel,
        grid: [(m.div_ceil(ROWS) * r.div_ceil(RANKS)).div_ceil(WARPS), 1, 1],
        threads: 32 * WARPS as u32,
        shared: 0,
        args: &[
            m.into(),
            k.into(),
            r.into(),
            pieces(r).into(),
            scale.into(),
            x.into(),
            factor.data.into(),
            (&low).into(),
            optional(to_pieces.map(|to| to.0)),
        ],
    })
}

/// `[r, w]` = tᵀ·x, or stored as `[w, r]`; t `[m, r]`, x `[m, w]`, all f32. The order of the sums depends on m alone.
pub fn gradient(t: View, x: View, out: ViewMut, transposed: bool, [m, w, r]: [usize; 3]) -> Result<()> {
    let (cuda, parts, len) = (x.cuda(), m.div_ceil(PART).max(1), r * w);
    let sums = if parts > 1 { Some(Buffer::scratch(cuda, DType::F32, parts * len)?) } else { None };
    let first = sums.as_ref().map_or(out.0, |sums| sums.view(0, parts * len));
    let runs = r.div_ceil(RANKS);
    if runs > 65_535 {
        return Err(Error::shape(FILE, format!("a rank of {r} is more than an adapter has")));
    }
    cuda.launch(&Launch {
        file: FILE,
        kernel: if transposed { "lea_low_rank_gradient_t" } else { "lea_low_rank_gradient" },
        grid: [w.div_ceil(COLUMNS), parts, runs],
        threads: THREADS,
        shared: 0,
        args: &[m.into(), w.into(), r.into(), t.into(), x.into(), first.into()],
    })?;
    match sums {
        Some(_) => sum_parts(first, parts, &out, [r, w], Epilogue::default()),
        None => Ok(()),
    }
}

/// Pieces `[pieces(r), n]` of a right factor `[r, n]` in f32; of one stored as `[n, r]`, `[n, pieces(r)]`.
pub fn right_pieces(factor: Matrix, to: ViewMut, [n, r]: [usize; 2]) -> Result<()> {
    let (len, p) = (n * pieces(r), pieces(r));
    assert!(to.len() == len, "{to:?}");
    let (kernel, row) = match factor.transposed {
        true => ("lea_low_rank_pieces_t", p),
        false => ("lea_low_rank_pieces", n),
    };
    each(to.cuda(), FILE, kernel, len, &[row.into(), r.into(), factor.data.into(), (&to).into()])
}
