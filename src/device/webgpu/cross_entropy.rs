//! Softmax cross-entropy of rows, see `shaders/cross_entropy.wgsl`.

use super::shader::{LANES, Part, SUBGROUP, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("cross_entropy", include_str!("../../../shaders/cross_entropy.wgsl"))
        .with(&[Part::Reduce])
        .defining(&[LANES, ("MASKED", 0)])
        .set_together(&[
            &[(LANES.0, SUBGROUP as u32), ("MASKED", 1)],
            &[(LANES.0, 256)],
            &[(LANES.0, 256), ("MASKED", 1)],
        ]);

/// Logits of rows: `scale · x` where `mask` is not 0, −∞ elsewhere; and a target column for each.
#[derive(Clone, Copy)]
pub struct Logits<'a> {
    /// `[rows, columns]`.
    pub x: View<'a>,
    /// u32 `[rows, columns]`; `None` keeps all.
    pub mask: Option<View<'a>>,
    /// u32 `[rows]`.
    pub targets: View<'a>,
    /// Factor, above 0.
    pub scale: f32,
    /// Row length.
    pub columns: usize,
}

impl Logits<'_> {
    /// Long rows get as many invocations as a workgroup may have; on one device that depends on their length alone, so
    /// that a row has the same bits beside any others.
    fn defines(&self) -> Result<[(&'static str, u32); 2]> {
        let lanes = if self.columns > 1024 { 256 } else { LANES.1 };
        Ok([self.x.gpu().row_lanes(lanes)?, ("MASKED", u32::from(self.mask.is_some()))])
    }

    fn params(&self, rows: usize) -> [u32; 4] {
        [rows as u32, self.columns as u32, self.scale.to_bits(), f32::NAN.to_bits()]
    }
}

/// lossᵢ = log Σⱼ exp(logitᵢⱼ) − logitᵢₜ with t the target of row i; `losses, log_sums: [rows]`. A target that is no column
/// that counts, which only another kernel can have made, gives NaN.
pub fn forward(of: Logits, losses: ViewMut, log_sums: ViewMut) -> Result<()> {
    let (rows, columns) = (losses.len(), of.columns);
    let part = of.x.gpu().rows_per_part(rows, columns)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        let targets = of.targets.part(first, rows);
        of.x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "forward",
            defines: &of.defines()?,
            params: &of.params(rows),
            reads: &[
                of.x.part(first * columns, rows * columns),
                targets,
                of.mask.map_or(targets, |mask| mask.part(first * columns, rows * columns)),
            ],
            writes: &[losses.part(first, rows), log_sums.part(first, rows)],
            groups: grid(rows),
            work: 10 * (rows * columns) as u64,
        })?;
    }
    Ok(())
}

/// dxᵢⱼ = gradᵢ·scale·(softmaxᵢⱼ − [j = t]), the softmax recomputed from the log sums of [`forward`].
pub fn backward(of: Logits, log_sums: View, grad: View, dx: ViewMut) -> Result<()> {
    let (rows, columns) = (log_sums.len(), of.columns);
    let part = of.x.gpu().rows_per_part(rows, columns)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        let targets = of.targets.part(first, rows);
        of.x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "backward",
            defines: &of.defines()?,
            params: &of.params(rows),
            reads: &[
                of.x.part(first * columns, rows * columns),
                targets,
                of.mask.map_or(targets, |mask| mask.part(first * columns, rows * columns)),
                log_sums.part(first, rows),
                grad.part(first, rows),
            ],
            writes: &[dx.part(first * columns, rows * columns)],
            groups: grid(rows),
            work: 10 * (rows * columns) as u64,
        })?;
    }
    Ok(())
}
