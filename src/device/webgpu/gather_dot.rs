//! Dot products with chosen rows of a table, see `shaders/gather_dot.wgsl`.

use super::destinations::Uploaded;
use super::shader::{self, LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader =
    Shader::new("gather_dot", include_str!("../../../shaders/gather_dot.wgsl"))
        .with(&[shader::Part::Places])
        .defining(&[LANES]);

/// Invocations that share a product in `forward`.
const SHARE: usize = 8;

/// x `[n, d]`, table `[v, d]` and the choice `[n, k]` of rows of the table.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// `[n, d]`.
    pub x: View<'a>,
    /// `[v, d]`.
    pub table: View<'a>,
    /// `[n, k]`. An id beyond the table, which only another kernel can have made, gives NaN.
    pub ids: View<'a>,
    /// `[n, d, k, v]`.
    pub dims: [usize; 4],
}

/// A part of x, its choices, and a part of the table.
struct Part {
    row: usize,
    rows: usize,
    first: usize,
    count: usize,
}

impl Choice<'_> {
    /// Rows of x and of the table that are bound at a time.
    fn part_rows(&self) -> Result<(usize, usize)> {
        let [n, d, k, v] = self.dims;
        let gpu = self.x.gpu();
        Ok((gpu.places_per_part(n, d.max(k), [k, k * d])?, gpu.table_rows_per_part(v, d)?))
    }

    fn params(&self, part: &Part, biased: bool) -> [u32; 10] {
        let [_, d, k, v] = self.dims;
        let &Part { row, rows, first, count } = part;
        let [n, k, d, first, count, v, biased, offset, places] =
            [rows, k, d, first, count, v, usize::from(biased), row * k, rows * k].map(|x| x as u32);
        [n, k, d, first, count, v, biased, offset, places, f32::NAN.to_bits()]
    }
}

fn invocations(len: usize) -> [u32; 3] {
    grid(len.div_ceil(LANES.1 as usize))
}

/// yᵢⱼ = xᵢ·table\[idsᵢⱼ\] (+ bias\[idsᵢⱼ\]); `y: [n, k]`, `bias: [v]`.
pub fn forward(of: Choice, bias: Option<View>, y: ViewMut) -> Result<()> {
    let [n, d, k, v] = of.dims;
    let (x_part, table_part) = of.part_rows()?;
    for row in (0..n).step_by(x_part) {
        let rows = x_part.min(n - row);
        let ids = of.ids.part(row * k, rows * k);
        for first in (0..v).step_by(table_part) {
            let count = table_part.min(v - first);
            of.x.gpu().launch(&Launch {
                shader: &SHADER,
                entry: "forward",
                defines: &[],
                params: &of.params(&Part { row, rows, first, count }, bias.is_some()),
                reads: &[
                    of.x.part(row * d, rows * d),
                    of.table.part(first * d, count * d),
                    bias.unwrap_or(ids),
                    ids,
                ],
                writes: &[y.part(row * k, rows * k)],
                groups: grid((rows * k * SHARE).div_ceil(LANES.1 as usize)),
                work: (2 * rows * k * d) as u64,
            })?;
        }
    }
    Ok(())
}

/// dxᵢ = Σⱼ dyᵢⱼ·table\[idsᵢⱼ\].
pub fn backward_x(of: Choice, dy: View, dx: ViewMut) -> Result<()> {
    let [n, d, k, v] = of.dims;
    let (x_part, table_part) = of.part_rows()?;
    for row in (0..n).step_by(x_part) {
        let rows = x_part.min(n - row);
        // A table without rows gives zeros.
        for first in (0..v.max(1)).step_by(table_part) {
            let count = table_part.min(v - first);
            of.x.gpu().launch(&Launch {
                shader: &SHADER,
                entry: "backward_x",
                defines: &[],
                params: &of.params(&Part { row, rows, first, count }, false),
                reads: &[
                    of.x.part(row * d, rows * d),
                    of.table.part(first * d, count * d),
                    of.ids.part(row * k, rows * k),
                    dy.part(row * k, rows * k),
                ],
                writes: &[dx.part(row * d, rows * d)],
                groups: invocations(rows * d),
                work: (2 * rows * k * d) as u64,
            })?;
        }
    }
    Ok(())
}

/// dtable\[r\] = Σ dyᵢⱼ·xᵢ over the places with idsᵢⱼ = r, in their order.
pub fn backward_table(of: Choice, dy: View, destinations: &Uploaded, dtable: ViewMut) -> Result<()> {
    let [n, d, k, v] = of.dims;
    let (x_part, table_part) = of.part_rows()?;
    for first in (0..v).step_by(table_part) {
        let count = table_part.min(v - first);
        // A sum over nothing is written too.
        for row in (0..n.max(1)).step_by(x_part) {
            let rows = x_part.min(n - row);
            of.x.gpu().launch(&Launch {
                shader: &SHADER,
                entry: "backward_table",
                defines: &[],
                params: &of.params(&Part { row, rows, first, count }, false),
                reads: &[
                    destinations.starts(),
                    destinations.positions(),
                    of.x.part(row * d, rows * d),
                    dy.part(row * k, rows * k),
                ],
                writes: &[dtable.part(first * d, count * d)],
                groups: invocations(count * d),
                work: (count * d + 2 * rows * k * d) as u64,
            })?;
        }
    }
    Ok(())
}

/// dbias\[r\] = Σ dyᵢⱼ over the places with idsᵢⱼ = r, in their order.
pub fn backward_bias(of: Choice, dy: View, destinations: &Uploaded, dbias: ViewMut) -> Result<()> {
    let [n, _, k, v] = of.dims;
    let (x_part, _) = of.part_rows()?;
    for row in (0..n.max(1)).step_by(x_part) {
        let rows = x_part.min(n - row);
        of.x.gpu().launch(&Launch {
            shader: &SHADER,
            entry: "backward_bias",
            defines: &[],
            params: &of.params(&Part { row, rows, first: 0, count: v }, false),
            reads: &[destinations.starts(), destinations.positions(), dy.part(row * k, rows * k)],
            writes: &[dbias.part(0, v)],
            groups: invocations(v),
            work: (v + rows * k) as u64,
        })?;
    }
    Ok(())
}
