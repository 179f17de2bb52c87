//! Root-mean-square norm and score head in one, see `shaders/norm_score.wgsl`.

use super::column_sums::{ROW_BLOCK, column_sums};
use super::shader::{LANES, Part, ROW_LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("norm_score", include_str!("../../../shaders/norm_score.wgsl"))
        .with(&[Part::Reduce, Part::Columns])
        .defining(&[LANES, ROW_BLOCK])
        .set_together(ROW_LANES);

/// score = x·head / √(mean(x²) + eps); `x: [rows, d]`, `head: [d]` the norm's weight times the head,
/// `scores, inverse: [rows]`, inverse the reciprocal roots.
pub fn forward(x: View, head: View, eps: f32, scores: ViewMut, inverse: ViewMut) -> Result<()> {
    let (rows, d) = (inverse.len(), head.len());
    let part = x.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "forward",
            defines: &[x.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, eps.to_bits(), 0],
            reads: &[x.part(first * d, rows * d), head],
            writes: &[scores.part(first, rows), inverse.part(first, rows)],
            groups: grid(rows),
            work: 4 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// What forward gave for every row, and the gradient of its score; `[rows]` each.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Scores.
    pub scores: View<'a>,
    /// Reciprocal roots.
    pub inverse: View<'a>,
    /// Gradients of the scores.
    pub dscores: View<'a>,
}

/// dx of [`forward`]: with s the reciprocal root, dx = dscore·s·(head − x·s·score/d).
pub fn backward_input(x: View, head: View, of: Rows, dx: ViewMut) -> Result<()> {
    let (rows, d) = (of.inverse.len(), head.len());
    let part = x.gpu().rows_per_part(rows, d)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        let [scores, inverse, dscores] =
            [of.scores, of.inverse, of.dscores].map(|view| view.part(first, rows));
        x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "backward_input",
            defines: &[x.gpu().row_lanes(LANES.1)?],
            params: &[rows as u32, d as u32, 0, 0],
            reads: &[x.part(first * d, rows * d), head, scores, inverse, dscores],
            writes: &[dx.part(first * d, rows * d)],
            groups: grid(rows),
            work: 3 * (rows * d) as u64,
        })?;
    }
    Ok(())
}

/// `dhead: [d]` of [`forward`]: Σ_rows dscore·s·x.
pub fn backward_head(x: View, of: Rows, dhead: ViewMut) -> Result<()> {
    let d = dhead.len();
    column_sums(of.inverse.len(), d, dhead, |part| {
        let x = part.of(x, d)?;
        let inverse = part.of(of.inverse, 1)?;
        let dscores = part.of(of.dscores, 1)?;
        part.launch(
            d,
            Launch {
                shader: &SHADER,
                entry: "backward_head",
                defines: &[],
                params: &[part.rows.len() as u32, d as u32, 0, part.block as u32],
                reads: &[x.view(), inverse.view(), dscores.view()],
                writes: &[part.sums()],
                groups: [0; 3],
                work: 3,
            },
        )
    })
}
