//! Norm and score head in one, see `kernels/norm_score.cu`.

use super::column_sums::column_sums;
use super::each::each_row;
use super::{View, ViewMut};
use crate::Result;

/// score = x·head / √(mean(x²) + eps); `x: [rows, d]`, `head: [d]`, `scores, inverse: [rows]`.
pub fn forward(x: View, head: View, eps: f32, scores: ViewMut, inverse: ViewMut) -> Result<()> {
    let args = [eps.into(), x.into(), head.into(), (&scores).into(), (&inverse).into()];
    each_row(x.cuda(), "norm_score", "lea_norm_score_forward", scores.len(), head.len(), &args)
}

/// What [`forward`] left, and the gradient of its scores.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `[rows]`.
    pub scores: View<'a>,
    /// `[rows]`.
    pub inverse: View<'a>,
    /// `[rows]`.
    pub dscores: View<'a>,
}

/// dx of [`forward`].
pub fn backward_input(x: View, head: View, of: Rows, dx: ViewMut) -> Result<()> {
    let kept = [of.scores.into(), of.inverse.into(), of.dscores.into()];
    let args = [&[x.into(), head.into()], &kept[..], &[(&dx).into()]].concat();
    each_row(x.cuda(), "norm_score", "lea_norm_score_backward_input", of.scores.len(), head.len(), &args)
}

/// dhead of [`forward`].
pub fn backward_head(x: View, of: Rows, dhead: ViewMut) -> Result<()> {
    let args = [x.into(), of.inverse.into(), of.dscores.into()];
    column_sums("norm_score", "lea_norm_score_backward_head", &args, of.scores.len(), dhead)
}
