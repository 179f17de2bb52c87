//! Softmax cross-entropy of rows, see `kernels/cross_entropy.cu`.

use super::each::each_row;
use super::{Arg, View, ViewMut};
use crate::Result;

/// Logits of rows: `scale · x` where `mask` is not 0, −∞ elsewhere; and a target column for each.
#[derive(Clone, Copy)]
pub struct Logits<'a> {
    /// `[rows, columns]`.
    pub x: View<'a>,
    /// u32 `[rows, columns]`; `None` keeps all.
    pub mask: Option<View<'a>>,
    /// u32 `[rows]`.
    pub targets: View<'a>,
    /// Factor, above 0.
    pub scale: f32,
    /// Row length.
    pub columns: usize,
}

impl Logits<'_> {
    fn args(&self) -> [Arg<'static>; 4] {
        let mask = self.mask.map_or(Arg::Long(0), Arg::from);
        [self.scale.into(), self.x.into(), self.targets.into(), mask]
    }
}

/// lossᵢ = log Σⱼ exp(logitᵢⱼ) − logitᵢₜ with t the target of row i; `losses, log_sums: [rows]`. A target that is no column
/// that counts, which only another kernel can have made, gives NaN.
pub fn forward(of: Logits, losses: ViewMut, log_sums: ViewMut) -> Result<()> {
    let args = [&of.args()[..], &[(&losses).into(), (&log_sums).into()]].concat();
    let kernel = "lea_cross_entropy_forward";
    each_row(of.x.cuda(), "cross_entropy", kernel, losses.len(), of.columns, &args)
}

/// dxᵢⱼ = gradᵢ·scale·(softmaxᵢⱼ − [j = t]), the softmax recomputed from the log sums of [`forward`].
pub fn backward(of: Logits, log_sums: View, grad: View, dx: ViewMut) -> Result<()> {
    let args = [&of.args()[..], &[log_sums.into(), grad.into(), (&dx).into()]].concat();
    let kernel = "lea_cross_entropy_backward";
    each_row(of.x.cuda(), "cross_entropy", kernel, log_sums.len(), of.columns, &args)
}
