//! Sums over the rows of a matrix, see `shaders/sum_rows.wgsl`.

use super::column_sums::{ROW_BLOCK, column_sums};
use super::shader::{Part, Shader};
use super::{Launch, View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("sum_rows", include_str!("../../../shaders/sum_rows.wgsl"))
    .with(&[Part::Columns])
    .defining(&[ROW_BLOCK]);

/// y = Σ_rows x; `x: [rows, d]`, `y: [d]`.
pub fn forward(x: View, y: ViewMut) -> Result<()> {
    let d = y.len();
    let rows = x.len() / d.max(1);
    column_sums(rows, d, y, |part| {
        let x = part.of(x, d)?;
        part.launch(
            d,
            Launch {
                shader: &SHADER,
                entry: "forward",
                defines: &[],
                params: &[part.rows.len() as u32, d as u32, part.block as u32],
                reads: &[x.view()],
                writes: &[part.sums()],
                groups: [0; 3],
                work: 1,
            },
        )
    })
}
