//! Rows of length 1, see `kernels/l2_normalize.cu`.

use super::each::each_row;
use super::{View, ViewMut};
use crate::Result;

/// y = x / max(‖x‖, eps); `x, y: [rows, d]`, `inverse: [rows]` the reciprocal of the divisor.
pub fn forward(x: View, eps: f32, y: ViewMut, inverse: ViewMut) -> Result<()> {
    let rows = inverse.len();
    let args = [eps.into(), (1.0 / eps).into(), x.into(), (&y).into(), (&inverse).into()];
    each_row(x.cuda(), "l2_normalize", "lea_l2_normalize_forward", rows, x.len() / rows.max(1), &args)
}

/// dx of [`forward`]: (dy − y·(y·dy)) / ‖x‖, or dy / eps where ‖x‖ ≤ eps.
pub fn backward(y: View, inverse: View, eps: f32, dy: View, dx: ViewMut) -> Result<()> {
    let rows = inverse.len();
    let args = [(1.0 / eps).into(), y.into(), inverse.into(), dy.into(), (&dx).into()];
    each_row(y.cuda(), "l2_normalize", "lea_l2_normalize_backward", rows, y.len() / rows.max(1), &args)
}
