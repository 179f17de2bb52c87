//! Rows of tables by id and the transpose, see `shaders/embedding.wgsl`.

use super::destinations::Uploaded;
use super::shader::{LANES, Part, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("embedding", include_str!("../../../shaders/embedding.wgsl"))
    .with(&[Part::Places])
    .defining(&[LANES]);

/// yᵢ = row idᵢ of the tables laid one after another; `ids: [n]`, `tables: [v, d]` each, `y: [n, d]`. An id beyond them,
/// which only another kernel can have made, gives NaN.
pub fn gather(ids: View, tables: &[View], d: usize, y: ViewMut) -> Result<()> {
    let (gpu, n) = (ids.gpu(), ids.len());
    let total = tables.iter().map(View::len).sum::<usize>() / d.max(1);
    let part = gpu.rows_per_part(n, d)?;
    for offset in (0..n).step_by(part) {
        let n = part.min(n - offset);
        let mut before = 0;
        for table in tables {
            let v = table.len() / d.max(1);
            let table_part = gpu.table_rows_per_part(v, d)?;
            for first in (0..v).step_by(table_part) {
                let count = table_part.min(v - first);
                let [n32, d32, first32, count32, total32] =
                    [n, d, before + first, count, total].map(|x| x as u32);
                gpu.launch(&Launch {
                    shader: &SHADER,
                    entry: "gather",
                    defines: &[],
                    params: &[n32, d32, first32, count32, 0, total32, f32::NAN.to_bits()],
                    reads: &[ids.part(offset, n), table.part(first * d, count * d)],
                    writes: &[y.part(offset * d, n * d)],
                    groups: grid((n * d).div_ceil(LANES.1 as usize)),
                    work: (n * d) as u64,
                })?;
            }
            before += v;
        }
    }
    Ok(())
}

/// Row r of `dtable: [v, d]` = Σ of those rows of `dy: [n, d]` whose id is `first` + r, in row order.
pub fn scatter_add(destinations: &Uploaded, first: usize, dy: View, d: usize, dtable: ViewMut) -> Result<()> {
    let gpu = dy.gpu();
    let (n, v) = (dy.len() / d.max(1), dtable.len() / d.max(1));
    let (dy_part, table_part) = (gpu.places_per_part(n, d, [1, d])?, gpu.rows_per_part(v, d)?);
    for row in (0..v).step_by(table_part) {
        let count = table_part.min(v - row);
        // A sum over nothing is written too.
        for offset in (0..n.max(1)).step_by(dy_part) {
            let here = dy_part.min(n - offset);
            gpu.launch(&Launch {
                shader: &SHADER,
                entry: "scatter",
                defines: &[],
                params: &[n, d, first + row, count, offset, here, 0].map(|x| x as u32),
                reads: &[destinations.starts(), destinations.positions(), dy.part(offset * d, here * d)],
                writes: &[dtable.part(row * d, count * d)],
                groups: grid((count * d).div_ceil(LANES.1 as usize)),
                work: ((count + here) * d) as u64,
            })?;
        }
    }
    Ok(())
}
