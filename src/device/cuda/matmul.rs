//! Products of matrices in f32, see `kernels/matmul.cu`.

use super::{Arg, Launch, View, ViewMut};
use crate::Result;

/// Threads of a block.
const THREADS: u32 = 256;

/// What is added to the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// What the output holds.
    pub accumulate: bool,
    /// A bias `[n]`.
    pub bias: Option<View<'a>>,
    /// A residual `[m, n]`.
    pub residual: Option<View<'a>>,
    /// In place of a residual and of what the output holds, the gate `[m, n]` of a SwiGLU: c = silu(gate)·sum. Of products with a
    /// factor in bf16 alone.
    pub gate: Option<View<'a>>,
}

impl Epilogue<'_> {
    /// The same as bits, as kernels take it.
    pub(super) fn mode(&self) -> u32 {
        u32::from(self.accumulate)
            | u32::from(self.bias.is_some()) << 1
            | u32::from(self.residual.is_some()) << 2
            | u32::from(self.gate.is_some()) << 3
    }
}

/// A matrix as it is stored: `[rows, columns]`, or the transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Its elements.
    pub data: View<'a>,
    /// Whether it is stored transposed.
    pub transposed: bool,
}

/// c = a·b plus the epilogue; `a: [m, k]`, `b: [k, n]`, `c: [m, n]`.
pub fn matmul(a: Matrix, b: Matrix, c: ViewMut, [m, n, k]: [usize; 3], epilogue: Epilogue) -> Result<()> {
    assert!(epilogue.gate.is_none(), "a gate beside a product in f32");
    let cuda = c.cuda();
    let tiles = |side: usize| m.div_ceil(side) * n.div_ceil(side);
    // Large tiles read less, small ones fill the device sooner. The bits are the same.
    let large = tiles(128) >= cuda.description().processors as usize;
    let kernel = match (large, a.transposed, b.transposed) {
        (false, false, false) => "lea_matmul_nn",
        (false, false, true) => "lea_matmul_nt",
        (false, true, false) => "lea_matmul_tn",
        (false, true, true) => "lea_matmul_tt",
        (true, false, false) => "lea_matmul_large_nn",
        (true, false, true) => "lea_matmul_large_nt",
        (true, true, false) => "lea_matmul_large_tn",
        (true, true, true) => "lea_matmul_large_tt",
    };
    let tile = if large { 128 } else { 64 };
    let mode = epilogue.mode();
    let optional = |view: Option<View>| view.map_or(Arg::Long(0), Arg::from);
    // The grid has few rows of blocks in its second direction: rows beyond them go into further launches.
    let most = 65_535 * tile;
    for first in (0..m).step_by(most) {
        let rows = most.min(m - first);
        // A transposed a cannot be cut along m without its stride; it has far fewer columns than that.
        assert!(rows == m || !a.transposed, "{m} rows of a transposed matrix");
        let left = if rows == m { a.data } else { a.data.part(first * k, rows * k) };
        let residual = epilogue.residual.map(|view| view.part(first * n, rows * n));
        let out = c.part(first * n, rows * n);
        let tensors =
            [left.into(), b.data.into(), optional(epilogue.bias), optional(residual), (&out).into()];
        cuda.launch(&Launch {
            file: "matmul",
            kernel,
            grid: [n.div_ceil(tile), rows.div_ceil(tile), 1],
            threads: THREADS,
            shared: 0,
            args: &[&[rows.into(), n.into(), k.into(), mode.into()], &tensors[..]].concat(),
        })?;
    }
    Ok(())
}
