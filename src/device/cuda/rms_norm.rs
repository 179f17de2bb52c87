//! Root-mean-square norm of rows, see `kernels/rms_norm.cu`.

use super::column_sums::column_sums;
use super::each::each_row;
use super::{View, ViewMut};
use crate::Result;
use crate::device::DType;

/// y = x / √(mean(x²) + eps) · weight; `x, y: [rows, d]`, y in f32 or bf16, `weight: [d]`, `inverse: [rows]` the reciprocal roots.
pub fn forward(x: View, weight: View, eps: f32, y: ViewMut, inverse: ViewMut) -> Result<()> {
    let args = [eps.into(), x.into(), weight.into(), (&y).into(), (&inverse).into()];
    let kernel = match y.dtype() {
        DType::BF16 => "lea_rms_norm_forward_bf16",
        _ => "lea_rms_norm_forward",
    };
    each_row(x.cuda(), "rms_norm", kernel, inverse.len(), weight.len(), &args)
}

/// dx of [`forward`]: with g = dy·w and s the reciprocal root, dx = s·(g − x·s²·mean(g·x)).
pub fn backward_input(x: View, weight: View, inverse: View, dy: View, dx: ViewMut) -> Result<()> {
    let args = [x.into(), weight.into(), inverse.into(), dy.into(), (&dx).into()];
    each_row(x.cuda(), "rms_norm", "lea_rms_norm_backward_input", inverse.len(), weight.len(), &args)
}

/// dweight of [`forward`]: Σ_rows dy·x·s.
pub fn backward_weight(x: View, inverse: View, dy: View, dweight: ViewMut) -> Result<()> {
    let args = [x.into(), inverse.into(), dy.into()];
    column_sums("rms_norm", "lea_rms_norm_backward_weight", &args, inverse.len(), dweight)
}
