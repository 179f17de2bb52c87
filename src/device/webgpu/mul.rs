//! Products, see `shaders/mul.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("mul", include_str!("../../../shaders/mul.wgsl")).with(&[Part::Each]).defining(&[LANES]);

/// y = a·b, element by element.
pub fn forward(a: View, b: View, y: ViewMut) -> Result<()> {
    Each { reads: &[a, b], writes: &[y], ..Each::of(&SHADER, "forward") }.launch()
}
