//! Pairwise loss, see `kernels/log_sigmoid.cu`.

use super::each::{each, each_by_warp};
use super::{View, ViewMut};
use crate::Result;

/// lossᵢⱼ = −log σ(positiveᵢ − negativeᵢⱼ − margin); `positive: [n]`, `negative, losses: [n, k]`.
pub fn forward(positive: View, negative: View, k: usize, margin: f32, losses: ViewMut) -> Result<()> {
    let args = [k.into(), margin.into(), positive.into(), negative.into(), (&losses).into()];
    each(positive.cuda(), "log_sigmoid", "lea_log_sigmoid_forward", losses.len(), &args)
}

/// dnegative = grad·σ(negative + margin − positive) of [`forward`].
pub fn backward(
    positive: View,
    negative: View,
    grad: View,
    k: usize,
    margin: f32,
    dnegative: ViewMut,
) -> Result<()> {
    let args = [k.into(), margin.into(), positive.into(), negative.into(), grad.into(), (&dnegative).into()];
    each(positive.cuda(), "log_sigmoid", "lea_log_sigmoid_backward", dnegative.len(), &args)
}

/// dpositive of [`forward`]: less the sums of dnegative over k.
pub fn backward_positive(dnegative: View, k: usize, dpositive: ViewMut) -> Result<()> {
    let args = [k.into(), dnegative.into(), (&dpositive).into()];
    let kernel = "lea_log_sigmoid_backward_positive";
    each_by_warp(dnegative.cuda(), "log_sigmoid", kernel, dpositive.len(), &args)
}
