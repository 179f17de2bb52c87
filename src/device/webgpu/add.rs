//! Sums of tensors of one shape, see `shaders/add.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("add", include_str!("../../../shaders/add.wgsl")).with(&[Part::Each]).defining(&[LANES]);

/// a += b.
pub fn assign(a: ViewMut, b: View) -> Result<()> {
    Each { reads: &[b], writes: &[a], ..Each::of(&SHADER, "assign") }.launch()
}

/// y = a + b.
pub fn forward(a: View, b: View, y: ViewMut) -> Result<()> {
    Each { reads: &[a, b], writes: &[y], ..Each::of(&SHADER, "forward") }.launch()
}
