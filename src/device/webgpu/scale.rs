//! Multiples, see `shaders/scale.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("scale", include_str!("../../../shaders/scale.wgsl")).with(&[Part::Each]).defining(&[LANES]);

/// y = factor · x.
pub fn forward(x: View, factor: f32, y: ViewMut) -> Result<()> {
    let params = &[factor.to_bits()];
    Each { params, reads: &[x], writes: &[y], ..Each::of(&SHADER, "forward") }.launch()
}
