//! Root-mean-square norm of rows, see `kernels/rms_norm.cu`.

use super::column_sums::column_sums;
use super::{Launch, View, ViewMut};
use crate::Result;

/// Threads of a block, which has a row.
const THREADS: u32 = 256;

/// y = x / √(mean(x²) + eps) · weight; `x, y: [rows, d]`, `weight: [d]`, `inverse: [rows]` the reciprocal roots.
pub fn forward(x: View, weight: View, eps: f32, y: ViewMut, inverse: ViewMut) -> Result<()> {
    let (rows, d) = (inverse.len(), weight.len());
    x.cuda().launch(&Launch {
        file: "rms_norm",
        kernel: "lea_rms_norm_forward",
        grid: [rows, 1, 1],
        threads: THREADS,
        shared: 0,
        args: &[x.into(), weight.into(), d.into(), eps.into(), (&y).into(), (&inverse).into()],
    })
}

/// dx of [`forward`]: with g = dy·w and s the reciprocal root, dx = s·(g − x·s²·mean(g·x)).
pub fn backward_input(x: View, weight: View, inverse: View, dy: View, dx: ViewMut) -> Result<()> {
    let (rows, d) = (inverse.len(), weight.len());
    x.cuda().launch(&Launch {
        file: "rms_norm",
        kernel: "lea_rms_norm_backward_input",
        grid: [rows, 1, 1],
        threads: THREADS,
        shared: 0,
        args: &[x.into(), weight.into(), inverse.into(), dy.into(), d.into(), (&dx).into()],
    })
}

/// dweight of [`forward`]: Σ_rows dy·x·s.
pub fn backward_weight(x: View, inverse: View, dy: View, dweight: ViewMut) -> Result<()> {
    let args = [x.into(), inverse.into(), dy.into()];
    column_sums("rms_norm", "lea_rms_norm_backward_weight", &args, inverse.len(), dweight)
}
