//! SwiGLU, see `kernels/swiglu.cu`.

use super::each::{each, each_four};
use super::{View, ViewMut};
use crate::Result;
use crate::device::DType;

/// y = gate·σ(gate)·up, in f32 or bf16.
pub fn forward(gate: View, up: View, y: ViewMut) -> Result<()> {
    let kernel = match y.dtype() {
        DType::BF16 => "lea_swiglu_forward_bf16",
        _ => "lea_swiglu_forward",
    };
    each_four(gate.cuda(), "swiglu", kernel, y.len(), &[gate.into(), up.into(), (&y).into()])
}

/// dgate = dy·up·σ(g)·(1 + g·(1 − σ(g))) and dup = dy·g·σ(g).
pub fn backward(gate: View, up: View, dy: View, dgate: ViewMut, dup: ViewMut) -> Result<()> {
    let args = [gate.into(), up.into(), dy.into(), (&dgate).into(), (&dup).into()];
    each(gate.cuda(), "swiglu", "lea_swiglu_backward", dgate.len(), &args)
}
