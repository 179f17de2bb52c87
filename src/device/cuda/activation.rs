//! Activation functions, see `kernels/activation.cu`.

use super::each::each_four;
use super::{View, ViewMut};
use crate::Result;

/// y = f(x); `function` is the number of f in the file.
pub fn forward(function: u32, x: View, y: ViewMut) -> Result<()> {
    let args = [function.into(), x.into(), (&y).into()];
    each_four(x.cuda(), "activation", "lea_activation_forward", y.len(), &args)
}

/// dx = f′(x)·dy.
pub fn backward(function: u32, x: View, dy: View, dx: ViewMut) -> Result<()> {
    let args = [function.into(), x.into(), dy.into(), (&dx).into()];
    each_four(x.cuda(), "activation", "lea_activation_backward", dx.len(), &args)
}
