//! Layer norm of rows, see `kernels/layer_norm.cu`.

use super::column_sums::column_sums;
use super::each::each_row;
use super::{View, ViewMut, sum_rows};
use crate::Result;

/// y = (x − mean) / √(variance + eps) · weight + bias; `x, y: [rows, d]`, `weight, bias: [d]`, `moments: [rows, 2]` mean
/// and reciprocal root.
pub fn forward(x: View, [weight, bias]: [View; 2], eps: f32, y: ViewMut, moments: ViewMut) -> Result<()> {
    let args = [eps.into(), x.into(), weight.into(), bias.into(), (&y).into(), (&moments).into()];
    each_row(x.cuda(), "layer_norm", "lea_layer_norm_forward", moments.len() / 2, weight.len(), &args)
}

/// dx of [`forward`].
pub fn backward_input(x: View, weight: View, moments: View, dy: View, dx: ViewMut) -> Result<()> {
    let args = [x.into(), weight.into(), moments.into(), dy.into(), (&dx).into()];
    each_row(x.cuda(), "layer_norm", "lea_layer_norm_backward_input", moments.len() / 2, weight.len(), &args)
}

/// Gradients of weight and bias of [`forward`], Σ_rows dy·normed and Σ_rows dy: `sums: [2, d]`.
pub fn backward_parameters(x: View, moments: View, dy: View, sums: ViewMut) -> Result<()> {
    let d = sums.len() / 2;
    let (dweight, dbias) = (sums.part(0, d), sums.part(d, d));
    let args = [x.into(), moments.into(), dy.into()];
    column_sums("layer_norm", "lea_layer_norm_backward_weight", &args, moments.len() / 2, dweight)?;
    sum_rows::forward(dy, dbias)
}
