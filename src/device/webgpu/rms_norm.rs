//! Root-mean-square norm of rows, see `shaders/rms_norm.wgsl`.

use super::column_sums::{ROW_BLOCK, column_sums};
use super::shader::{LANES, Part, ROW_LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("rms_norm", include_str!("../../../shaders/rms_norm.wgsl"))
    .with(&[Part::Reduce, Part::Columns])
    .defining(&[LANES, ROW_BLOCK])
    .set_together(ROW_LANES);

/// y = x / √(mean(x²) + eps) · weight; `x, y: [rows, d]`, `weight: [d]`, `inverse: [rows]` the reciprocal roots.
pub fn forward(x: View, weight: View, eps: f32, y: ViewMut, inverse: ViewMut) -> Result<()> {
    let (rows, d) = (inverse.len(), weight.len());
    let part = x.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "forward",
            defines: &[x.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, eps.to_bits(), 0],
            reads: &[x.part(first * d, rows * d), weight],
            writes: &[y.part(first * d, rows * d), inverse.part(first, rows)],
            groups: grid(rows),
            work: 4 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// dx of [`forward`]: with g = dy·w and s the reciprocal root, dx = s·(g − x·s²·mean(g·x)).
pub fn backward_input(x: View, weight: View, inverse: View, dy: View, dx: ViewMut) -> Result<()> {
    let (rows, d) = (inverse.len(), weight.len());
    let part = x.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "backward_input",
            defines: &[x.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, 0, 0],
            reads: &[
                x.part(first * d, rows * d),
                weight,
                inverse.part(first, rows),
                dy.part(first * d, rows * d),
            ],
            writes: &[dx.part(first * d, rows * d)],
            groups: grid(rows),
            work: 8 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// dweight of [`forward`]: Σ_rows dy·x·s.
pub fn backward_weight(x: View, inverse: View, dy: View, dweight: ViewMut) -> Result<()> {
    let d = dweight.len();
    column_sums(inverse.len(), d, dweight, |part| {
        let x = part.of(x, d)?;
        let inverse = part.of(inverse, 1)?;
        let dy = part.of(dy, d)?;
        part.launch(
            d,
            Launch {
                shader: &SHADER,
                entry: "backward_weight",
                defines: &[],
                params: &[part.rows.len() as u32, d as u32, 0, part.block as u32],
                reads: &[x.view(), inverse.view(), dy.view()],
                writes: &[part.sums()],
                groups: [0; 3],
                work: 3,
            },
        )
    })
}
