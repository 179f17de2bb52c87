//! How targets stand among scores, see `shaders/standing.wgsl`.

use super::shader::{LANES, ROW_LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("standing", include_str!("../../../shaders/standing.wgsl"))
    .defining(&[LANES])
    .set_together(ROW_LANES);

/// Pairs from number `first` on of `standings`: columns that score higher than the row's target, and others that score the
/// same; `scores: [rows, columns]` of those rows, `targets` of all, below `columns`.
pub fn count(scores: View, columns: usize, targets: View, first: usize, standings: ViewMut) -> Result<()> {
    let gpu = scores.gpu();
    let rows = scores.len() / columns.max(1);
    let part = gpu.rows_per_part(rows, columns)?;
    // Long rows get as many invocations as a workgroup may have.
    let lanes = if columns > 1024 { 256 } else { LANES.1 };
    for from in (0..rows).step_by(part) {
        let rows = part.min(rows - from);
        gpu.launch(&Launch {
            shader: &SHADER,
            entry: "count",
            defines: &[gpu.row_lanes(lanes)?],
            params: &[rows as u32, (first + from) as u32, columns as u32],
            reads: &[scores.part(from * columns, rows * columns), targets],
            writes: &[standings.part(0, standings.len())],
            groups: grid(rows),
            work: 2 * (rows * columns) as u64,
        })?;
    }
    Ok(())
}
