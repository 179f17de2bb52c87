//! Products of matrices, see `shaders/matmul.wgsl`.

use super::shader::Shader;
use super::{Gpu, Launch, View, ViewMut};
use crate::Result;

pub(super) static SHADER: Shader = Shader::new("matmul", include_str!("../../../shaders/matmul.wgsl"))
    .defining(&[("TRANSPOSE_A", 0), ("TRANSPOSE_B", 0)]);

/// Most floating-point operations of one dispatch: some tenths of a second on the slowest adapters.
const MOST_WORK: usize = 1 << 31;

/// What is added to the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// What the output holds.
    pub accumulate: bool,
    /// A bias `[n]`.
    pub bias: Option<View<'a>>,
    /// A residual `[m, n]`.
    pub residual: Option<View<'a>>,
}

/// A matrix as it is stored: `[rows, columns]`, or the transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Its elements.
    pub data: View<'a>,
    /// Whether it is stored transposed.
    pub transposed: bool,
}

/// c = a·b plus the epilogue; `a: [m, k]`, `b: [k, n]`, `c: [m, n]`. Large products take several dispatches, and matrices
/// beyond a binding are given in parts of rows.
pub fn matmul(a: Matrix, b: Matrix, c: ViewMut, [m, n, k]: [usize; 3], epilogue: Epilogue) -> Result<()> {
    let gpu = c.gpu();
    // A transposed a and an untransposed b cannot be cut along m and n: they must fit.
    let rows = gpu.rows_per_part(m, if a.transposed { n } else { n.max(k) })?;
    let columns = if b.transposed { gpu.rows_per_part(n, k)? } else { n };
    let part = |view: View<'_>, first, len, whole| if len < whole { (first, len) } else { (0, view.len()) };
    for first_row in (0..m).step_by(rows.max(1)) {
        let height = rows.min(m - first_row);
        let c_rows = c.part(first_row * n, height * n);
        let (at, len) = match a.transposed {
            true => (0, a.data.len()),
            false => part(a.data, first_row * k, height * k, m * k),
        };
        let left = Matrix { data: a.data.part(at, len), ..a };
        let residual = epilogue.residual.map(|r| r.part(first_row * n, height * n));
        for first_column in (0..n).step_by(columns.max(1)) {
            let width = columns.min(n - first_column);
            let (at, len) = match b.transposed {
                true => part(b.data, first_column * k, width * k, n * k),
                false => (0, b.data.len()),
            };
            let right = Matrix { data: b.data.part(at, len), ..b };
            let epilogue = Epilogue { residual, ..epilogue };
            let extents = [height, width, k];
            launch(gpu, [left, right], c_rows.part(0, c_rows.len()), extents, (n, first_column), epilogue)?;
        }
    }
    Ok(())
}

/// One product whose matrices fit their bindings; rows of c are `stride` long and begin at column `first`.
fn launch(
    gpu: &Gpu,
    [a, b]: [Matrix; 2],
    c: ViewMut,
    [m, n, k]: [usize; 3],
    (stride, first): (usize, usize),
    epilogue: Epilogue,
) -> Result<()> {
    let direct = gpu.description().is_software();
    let (entry, tile) = if direct { ("direct", [32, 64]) } else { ("tiled", [64, 64]) };
    let mode = u32::from(epilogue.accumulate)
        | u32::from(epilogue.bias.is_some()) << 1
        | u32::from(epilogue.residual.is_some()) << 2;
    let defines = [("TRANSPOSE_A", u32::from(a.transposed)), ("TRANSPOSE_B", u32::from(b.transposed))];
    // What is not added is not read: any view will do in its place.
    let reads = [a.data, b.data, epilogue.bias.unwrap_or(a.data), epilogue.residual.unwrap_or(a.data)];
    let across = n.div_ceil(tile[1]);
    let groups = m.div_ceil(tile[0]);
    let at_once = (MOST_WORK / (2 * tile[0] * n * k).max(1)).clamp(1, 65_535);
    for group in (0..groups).step_by(at_once) {
        let down = at_once.min(groups - group);
        let words = [m, n, k, mode as usize, stride, first, group].map(|word| word as u32);
        gpu.launch(&Launch {
            shader: &SHADER,
            entry,
            defines: &defines,
            params: &words,
            reads: &reads,
            writes: &[c.part(0, c.len())],
            groups: [across as u32, down as u32, 1],
            work: 2 * (down * tile[0] * n * k) as u64,
        })?;
    }
    Ok(())
}
