//! Gradient of the mean over rows, see `shaders/mean_rows.wgsl`.

use super::each::Each;
use super::shader::{LANES, Part, Shader};
use super::{View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("mean_rows", include_str!("../../../shaders/mean_rows.wgsl"))
    .with(&[Part::Each])
    .defining(&[LANES]);

/// Every row of `dx: [rows, d]` becomes `row: [d]`.
pub fn backward(row: View, dx: ViewMut) -> Result<()> {
    let d = row.len();
    let each =
        Each { params: &[d as u32], whole: &[row], writes: &[dx], row: d, ..Each::of(&SHADER, "backward") };
    each.launch()
}
