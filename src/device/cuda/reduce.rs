//! Sums over whole tensors, see `kernels/reduce.cu`.

use super::each::each;
use super::{Buffer, Launch, View, ViewMut};
use crate::Result;
use crate::device::DType;

/// Elements that one block of threads sums; `BLOCK` of the file.
const BLOCK: usize = 4096;
/// Threads of a block.
const THREADS: u32 = 256;

/// y = factor · Σ x; `y: [1]`.
pub fn sum(x: View, factor: f32, y: ViewMut) -> Result<()> {
    passes("lea_reduce_sum", x, None, factor, y)
}

/// y = Σ weightsᵢ·xᵢ; `y: [1]`.
pub fn dot(x: View, weights: View, y: ViewMut) -> Result<()> {
    passes("lea_reduce_dot", x, Some(weights), 1.0, y)
}

/// Element `at` of y = Σ x².
pub fn squares(x: View, y: ViewMut, at: usize) -> Result<()> {
    passes("lea_reduce_squares", x, None, 1.0, y.part(at, 1))
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
