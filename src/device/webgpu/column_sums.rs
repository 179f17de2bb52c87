//! Sums over the rows of a matrix, in blocks of rows that run side by side, see `shaders/common/columns.wgsl`. The order
//! depends on the number of rows alone.

use super::{Aligned, Buffer, Launch, View, ViewMut, add, grid, sum_rows};
use crate::Result;
use crate::device::DType;
use std::ops::Range;

/// The constant `ROW_BLOCK`, rows that one workgroup sums, and its value.
pub(super) const ROW_BLOCK: (&str, u32) = ("ROW_BLOCK", 256);
/// Columns of a workgroup, as in the file.
const COLUMNS: usize = 32;

/// What a kernel is given to sum: it writes the sum of every block of `rows` from row `block` of `sums` on.
pub(super) struct Part<'a> {
    pub rows: Range<usize>,
    pub sums: View<'a>,
    pub block: usize,
}

impl<'a> Part<'a> {
    /// `width` elements of each of the rows.
    pub fn of<'b>(&self, x: View<'b>, width: usize) -> Result<Aligned<'b>> {
        x.part_anywhere(self.rows.start * width, self.rows.len() * width)
    }

    /// The sums, to be written. A launch binds them once.
    pub fn sums(&self) -> ViewMut<'a> {
        ViewMut(self.sums)
    }

    /// Records `launch` on the grid for `columns` columns; its `work` is that of one element.
    pub fn launch(&self, columns: usize, launch: Launch) -> Result<()> {
        let blocks = self.rows.len().div_ceil(ROW_BLOCK.1 as usize).max(1);
        let groups = grid(columns.div_ceil(COLUMNS) * blocks);
        let work = launch.work * (self.rows.len() * columns) as u64;
        self.sums.gpu().launch(&Launch { groups, work, ..launch })
    }
}

/// Fills `sums` with the sums over `rows` rows of `width` elements: `partial` launches a kernel for some of them.
pub(super) fn column_sums(
    rows: usize,
    width: usize,
    sums: ViewMut,
    partial: impl Fn(&Part) -> Result<()>,
) -> Result<()> {
    let (gpu, block) = (sums.gpu(), ROW_BLOCK.1 as usize);
    let part = gpu.rows_per_buffer(rows, width)?;
    // What a binding shows may cut a block; work alone must not, for the cut would change the order of the sums.
    let bounded = gpu.rows_at_once(width).max(block);
    if part < block.min(rows) {
        return wide_column_sums(rows, part, sums, partial);
    }
    if rows <= block {
        return partial(&Part { rows: 0..rows, sums: sums.0, block: 0 });
    }
    let part = part.min(bounded);
    let part = if part < rows { part / block * block } else { rows };
    let blocks = rows.div_ceil(block);
    let partials = Buffer::scratch(gpu, DType::F32, blocks * sums.len())?;
    let partials = partials.view(0, blocks * sums.len());
    for first in (0..rows).step_by(part) {
        let rows = first..rows.min(first + part);
        partial(&Part { rows, sums: partials, block: first / block })?;
    }
    sum_rows::forward(partials, sums)
}

/// The same where not even a block of rows fits a binding: some rows at a time, one sum after the other.
fn wide_column_sums(
    rows: usize,
    part: usize,
    sums: ViewMut,
    partial: impl Fn(&Part) -> Result<()>,
) -> Result<()> {
    partial(&Part { rows: 0..part, sums: sums.0, block: 0 })?;
    for first in (part..rows).step_by(part) {
        let next = Buffer::scratch(sums.gpu(), DType::F32, sums.len())?;
        let next = next.view(0, sums.len());
        partial(&Part { rows: first..rows.min(first + part), sums: next, block: 0 })?;
        add::assign(sums.part(0, sums.len()), next)?;
    }
    Ok(())
}
