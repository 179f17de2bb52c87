//! A row taken from every row, see `shaders/sub_row.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("sub_row", include_str!("../../../shaders/sub_row.wgsl"))
    .with(&[Part::Each])
    .defining(&[LANES]);

/// y = x − row; `x, y: [rows, d]`, `row: [d]`.
pub fn forward(x: View, row: View, y: ViewMut) -> Result<()> {
    let d = row.len();
    let params = &[d as u32];
    Each { params, whole: &[row], reads: &[x], writes: &[y], row: d, ..Each::of(&SHADER, "forward") }.launch()
}
