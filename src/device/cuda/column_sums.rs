//! Sums over the rows of a matrix, in blocks of rows that run side by side, see `kernels/common/columns.cuh`. The order
//! depends on the number of rows alone.

use super::{Arg, Buffer, Launch, ViewMut, sum_rows};
use crate::Result;
use crate::device::DType;

/// Rows that one block of threads sums; `ROW_BLOCK` of the header.
const ROW_BLOCK: usize = 256;
/// Columns of a block of threads; `COLUMNS` of the header.
const COLUMNS: usize = 32;
/// Threads of a block: `COLUMNS` times `ROW_LANES` of the header.
const THREADS: u32 = 256;

/// Fills `sums: [width]` with the sums over `rows` rows of what `kernel` makes of each element. The kernel's parameters
/// are `args`, then rows, width and where the sum of every block of rows goes.
pub(super) fn column_sums(
    file: &'static str,
    kernel: &'static str,
    args: &[Arg],
    rows: usize,
    sums: ViewMut,
) -> Result<()> {
    let (cuda, width) = (sums.cuda(), sums.len());
    let blocks = rows.div_ceil(ROW_BLOCK).max(1);
    let launch = |to: &ViewMut| {
        let args = [args, &[rows.into(), width.into(), to.into()]].concat();
        let grid = [width.div_ceil(COLUMNS), blocks, 1];
        cuda.launch(&Launch { file, kernel, grid, threads: THREADS, shared: 0, args: &args })
    };
    if blocks == 1 {
        return launch(&sums);
    }
    let partials = Buffer::scratch(cuda, DType::F32, blocks * width)?;
    let all = partials.view(0, blocks * width);
    launch(&ViewMut(all))?;
    sum_rows::forward(all, sums)
}
