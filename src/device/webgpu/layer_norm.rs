//! Layer norm of rows, see `shaders/layer_norm.wgsl`.

use super::column_sums::{ROW_BLOCK, column_sums};
use super::shader::{LANES, Part, ROW_LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("layer_norm", include_str!("../../../shaders/layer_norm.wgsl"))
        .with(&[Part::Reduce, Part::Columns])
        .defining(&[LANES, ROW_BLOCK])
        .set_together(ROW_LANES);

/// y = (x − mean) / √(variance + eps) · weight + bias; `x, y: [rows, d]`, `weight, bias: [d]`, `moments: [rows, 2]`
/// mean and reciprocal root of every row.
pub fn forward(x: View, [weight, bias]: [View; 2], eps: f32, y: ViewMut, moments: ViewMut) -> Result<()> {
    let (rows, d) = (moments.len() / 2, weight.len());
    let part = x.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "forward",
            defines: &[x.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, eps.to_bits(), 0],
            reads: &[x.part(first * d, rows * d), weight, bias],
            writes: &[y.part(first * d, rows * d), moments.part(2 * first, 2 * rows)],
            groups: grid(rows),
            work: 8 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// dx of [`forward`]: with g = dy·w, x̂ the normed row and s the reciprocal root,
/// dx = s·(g − mean(g) − x̂·mean(g·x̂)).
pub fn backward_input(x: View, weight: View, moments: View, dy: View, dx: ViewMut) -> Result<()> {
    let (rows, d) = (moments.len() / 2, weight.len());
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
                moments.part(2 * first, 2 * rows),
                dy.part(first * d, rows * d),
            ],
            writes: &[dx.part(first * d, rows * d)],
            groups: grid(rows),
            work: 12 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// `sums: [2, d]` = Σ_rows dy·x̂ (the weight's gradient) and Σ_rows dy (the bias's).
pub fn backward_parameters(x: View, moments: View, dy: View, sums: ViewMut) -> Result<()> {
    let d = sums.len() / 2;
    column_sums(moments.len() / 2, d, sums, |part| {
        let x = part.of(x, d)?;
        let moments = part.of(moments, 2)?;
        let dy = part.of(dy, d)?;
        part.launch(
            d,
            Launch {
                shader: &SHADER,
                entry: "backward_parameters",
                defines: &[],
                params: &[part.rows.len() as u32, d as u32, 0, part.block as u32],
                reads: &[x.view(), moments.view(), dy.view()],
                writes: &[part.sums()],
                groups: [0; 3],
                work: 5,
            },
        )
    })
}
