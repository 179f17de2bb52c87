//! Activation functions, see `shaders/activation.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

/// The constant `FUNCTION`, which one of the file's functions is meant.
const FUNCTION: (&str, u32) = ("FUNCTION", 0);

pub(super) static SHADER: Shader =
    Shader::new("activation", include_str!("../../../shaders/activation.wgsl"))
        .with(&[Part::Each, Part::Math])
        .defining(&[LANES, FUNCTION])
        .set_together(&[&[(FUNCTION.0, 2)], &[(FUNCTION.0, 3)], &[(FUNCTION.0, 4)], &[(FUNCTION.0, 5)]]);

/// y = f(x); `function` is the number of f in the file.
pub fn forward(function: u32, x: View, y: ViewMut) -> Result<()> {
    let defines = &[(FUNCTION.0, function)];
    Each { defines, reads: &[x], writes: &[y], work: 4, ..Each::of(&SHADER, "forward") }.launch()
}

/// dx = f′(x)·dy.
pub fn backward(function: u32, x: View, dy: View, dx: ViewMut) -> Result<()> {
    let each = Each {
        defines: &[(FUNCTION.0, function)],
        reads: &[x, dy],
        writes: &[dx],
        work: 8,
        ..Each::of(&SHADER, "backward")
    };
    each.launch()
}
