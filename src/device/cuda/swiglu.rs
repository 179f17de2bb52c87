//! SwiGLU, see `kernels/swiglu.cu`.

use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// y = gate·σ(gate)·up.
pub fn forward(gate: View, up: View, y: ViewMut) -> Result<()> {
    each(gate.cuda(), "swiglu", "lea_swiglu_forward", y.len(), &[gate.into(), up.into(), (&y).into()])
}

/// dgate = dy·up·σ(g)·(1 + g·(1 − σ(g))) and dup = dy·g·σ(g).
pub fn backward(gate: View, up: View, dy: View, dgate: ViewMut, dup: ViewMut) -> Result<()> {
    let args = [gate.into(), up.into(), dy.into(), (&dgate).into(), (&dup).into()];
    each(gate.cuda(), "swiglu", "lea_swiglu_backward", dgate.len(), &args)
}
