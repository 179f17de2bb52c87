//! SwiGLU, see `shaders/swiglu.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("swiglu", include_str!("../../../shaders/swiglu.wgsl"))
    .with(&[Part::Each, Part::Math])
    .defining(&[LANES]);

/// y = gate·σ(gate)·up.
pub fn forward(gate: View, up: View, y: ViewMut) -> Result<()> {
    Each { reads: &[gate, up], writes: &[y], work: 5, ..Each::of(&SHADER, "forward") }.launch()
}

/// dgate = dy·up·σ(g)·(1 + g·(1 − σ(g))) and dup = dy·g·σ(g).
pub fn backward(gate: View, up: View, dy: View, dgate: ViewMut, dup: ViewMut) -> Result<()> {
    let each =
        Each { reads: &[gate, up, dy], writes: &[dgate, dup], work: 10, ..Each::of(&SHADER, "backward") };
    each.launch()
}
