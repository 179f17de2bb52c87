//! Launches of kernels that have one thread an element, and of those that have one block a row.

use super::{Arg, Cuda, Launch};
use crate::Result;

/// Threads of a block.
const THREADS: usize = 256;

/// A kernel of so many threads, in whole blocks, whose parameters are `len`, then `args`.
fn in_blocks(
    cuda: &Cuda,
    file: &'static str,
    kernel: &'static str,
    (len, threads): (usize, usize),
    args: &[Arg],
) -> Result<()> {
    let args = [&[len.into()], args].concat();
    let grid = [threads.div_ceil(THREADS), 1, 1];
    cuda.launch(&Launch { file, kernel, grid, threads: THREADS as u32, shared: 0, args: &args })
}

/// A kernel of one thread an element; its parameters are `len`, then `args`.
pub(super) fn each(
    cuda: &Cuda,
    file: &'static str,
    kernel: &'static str,
    len: usize,
    args: &[Arg],
) -> Result<()> {
    in_blocks(cuda, file, kernel, (len, len), args)
}

/// A kernel of one thread four elements (`kernels/common/four.cuh`), in the same manner.
pub(super) fn each_four(
    cuda: &Cuda,
    file: &'static str,
    kernel: &'static str,
    len: usize,
    args: &[Arg],
) -> Result<()> {
    in_blocks(cuda, file, kernel, (len, len.div_ceil(4)), args)
}

/// A kernel of one warp an element, in the same manner.
pub(super) fn each_by_warp(
    cuda: &Cuda,
    file: &'static str,
    kernel: &'static str,
    len: usize,
    args: &[Arg],
) -> Result<()> {
    in_blocks(cuda, file, kernel, (len, 32 * len), args)
}

/// A kernel of one block a row of `width` elements; its parameters are `width`, then `args`. The number of threads, and so
/// the order of sums, depends on the width alone.
pub(super) fn each_row(
    cuda: &Cuda,
    file: &'static str,
    kernel: &'static str,
    rows: usize,
    width: usize,
    args: &[Arg],
) -> Result<()> {
    let args = [&[width.into()], args].concat();
    let threads = width.div_ceil(32).next_power_of_two().clamp(1, THREADS / 32) * 32;
    cuda.launch(&Launch { file, kernel, grid: [rows, 1, 1], threads: threads as u32, shared: 0, args: &args })
}
