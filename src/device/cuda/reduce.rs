//! Sums over whole tensors, see `kernels/reduce.cu`.

use super::each::each;
use super::table::{Row, Tabled};
use super::{Arg, Buffer, Launch, View, ViewMut};
use crate::Result;
use crate::device::DType;

/// Elements that one block of threads sums; `BLOCK` of the file.
const BLOCK: usize = 4096;
/// Threads of a block.
const THREADS: u32 = 256;
const SQUARES: Tabled = Tabled { file: "reduce", kernel: "lea_reduce_squares", rows: 160, block: BLOCK };

/// y = factor · Σ x; `y: [1]`.
pub fn sum(x: View, factor: f32, y: ViewMut) -> Result<()> {
    passes("lea_reduce_sum", x, None, factor, y)
}

/// y = Σ weightsᵢ·xᵢ; `y: [1]`.
pub fn dot(x: View, weights: View, y: ViewMut) -> Result<()> {
    passes("lea_reduce_dot", x, Some(weights), 1.0, y)
}

/// y = Σ x² of each of some tensors; `y: [tensors]`.
pub fn squares(tensors: &[View], y: ViewMut) -> Result<()> {
    for (at, tensors) in (0..).step_by(SQUARES.rows).zip(tensors.chunks(SQUARES.rows)) {
        let cuda = tensors[0].cuda();
        let rows: Vec<Row<2>> = tensors.iter().map(|x| ([x.address(), x.len() as u64], x.len())).collect();
        let (table, blocks) = (SQUARES.table(&rows), SQUARES.blocks(&rows));
        let sums = Buffer::scratch(cuda, DType::F32, blocks)?;
        let sums = sums.view(0, blocks);
        SQUARES.launch(cuda, &table, blocks, &[sums.into()])?;
        let args = [Arg::Table(&table), sums.into(), (&y.part(at, tensors.len())).into()];
        let (kernel, grid) = ("lea_reduce_squares_of_tensors", [tensors.len(), 1, 1]);
        cuda.launch(&Launch { file: SQUARES.file, kernel, grid, threads: THREADS, shared: 0, args: &args })?;
    }
    Ok(())
}

/// The first pass by `kernel`, then sums of the sums of blocks.
fn passes(kernel: &'static str, x: View, weights: Option<View>, factor: f32, y: ViewMut) -> Result<()> {
    let (cuda, blocks) = (x.cuda(), x.len().div_ceil(BLOCK).max(1));
    let pass = |factor: f32, to: &ViewMut| {
        let weights = weights.map(Into::into);
        let args: Vec<_> =
            [Some(x.len().into()), Some(factor.into()), Some(x.into()), weights, Some(to.into())]
                .into_iter()
                .flatten()
                .collect();
        let grid = [blocks, 1, 1];
        cuda.launch(&Launch { file: "reduce", kernel, grid, threads: THREADS, shared: 0, args: &args })
    };
    if blocks == 1 {
        return pass(factor, &y);
    }
    let partials = Buffer::scratch(cuda, DType::F32, blocks)?;
    pass(1.0, &partials.view_mut(0, blocks))?;
    passes("lea_reduce_sum", partials.view(0, blocks), None, factor, y)
}

/// Every element of dx = factor · grad; `grad: [1]`.
pub fn spread(grad: View, factor: f32, dx: ViewMut) -> Result<()> {
    each(grad.cuda(), "reduce", "lea_reduce_spread", dx.len(), &[factor.into(), grad.into(), (&dx).into()])
}

/// dx = grad · weights; `grad: [1]`.
pub fn spread_weights(grad: View, weights: View, dx: ViewMut) -> Result<()> {
    let args = [grad.into(), weights.into(), (&dx).into()];
    each(grad.cuda(), "reduce", "lea_reduce_spread_weights", dx.len(), &args)
}
