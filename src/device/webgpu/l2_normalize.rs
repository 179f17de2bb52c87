//! Rows of length 1, see `shaders/l2_normalize.wgsl`.

use super::shader::{LANES, Part, ROW_LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("l2_normalize", include_str!("../../../shaders/l2_normalize.wgsl"))
        .with(&[Part::Reduce])
        .defining(&[LANES])
        .set_together(ROW_LANES);

/// y = x / max(‖x‖, eps); `x, y: [rows, d]`, `inverse: [rows]` the reciprocal of the divisor.
pub fn forward(x: View, eps: f32, y: ViewMut, inverse: ViewMut) -> Result<()> {
    let rows = inverse.len();
    let d = x.len() / rows.max(1);
    let part = x.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "forward",
            defines: &[x.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, eps.to_bits(), (1.0 / eps).to_bits()],
            reads: &[x.part(first * d, rows * d)],
            writes: &[y.part(first * d, rows * d), inverse.part(first, rows)],
            groups: grid(rows),
            work: 3 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// dx of [`forward`]: (dy − y·(y·dy)) / ‖x‖, or dy / eps where ‖x‖ ≤ eps.
pub fn backward(y: View, inverse: View, eps: f32, dy: View, dx: ViewMut) -> Result<()> {
    let rows = inverse.len();
    let d = y.len() / rows.max(1);
    let part = y.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        y.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "backward",
            defines: &[y.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, eps.to_bits(), (1.0 / eps).to_bits()],
            reads: &[y.part(first * d, rows * d), inverse.part(first, rows), dy.part(first * d, rows * d)],
            writes: &[dx.part(first * d, rows * d)],
            groups: grid(rows),
            work: 5 * (rows * d) as u64,
        })?;
    }
    Ok(())
}
