//! Products of matrices in f32, see `kernels/matmul.cu`.

use super::{Arg, Buffer, Launch, View, ViewMut};
use crate::device::DType;
use crate::{Error, Result};

const FILE: &str = "matmul";
/// Of k, what a stage of shared memory holds.
const SLICE: usize = 16;
/// Stages of shared memory.
const STAGES: usize = 3;
/// Of k, what is summed by itself; `PART` of the kernel.
const PART: usize = 512;
/// Most blocks in a grid's second direction, where parts of k lie.
const MOST_PARTS: usize = 65_535;

/// A block's tile of c.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tile {
    /// Kernels for a and b as stored, b alone transposed, a alone, both.
    kernels: [&'static str; 4],
    /// Rows.
    rows: usize,
    /// Columns.
    columns: usize,
    threads: u32,
    /// Elements per unit of time, beside the largest tile's: less is reused. Estimated, not measured.
    speed: f64,
}

/// The tiles that there are kernels for.
const TILES: [Tile; 4] = [
    Tile {
        kernels: ["lea_matmul_nn", "lea_matmul_nt", "lea_matmul_tn", "lea_matmul_tt"],
        rows: 64,
        columns: 64,
        threads: 128,
        speed: 0.85,
    },
    Tile {
        kernels: ["lea_matmul_large_nn", "lea_matmul_large_nt", "lea_matmul_large_tn", "lea_matmul_large_tt"],
        rows: 128,
        columns: 128,
        threads: 256,
        speed: 1.0,
    },
    Tile {
        kernels: ["lea_matmul_tall_nn", "lea_matmul_tall_nt", "lea_matmul_tall_tn", "lea_matmul_tall_tt"],
        rows: 128,
        columns: 32,
        threads: 128,
        speed: 0.8,
    },
    Tile {
        kernels: ["lea_matmul_wide_nn", "lea_matmul_wide_nt", "lea_matmul_wide_tn", "lea_matmul_wide_tt"],
        rows: 32,
        columns: 128,
        threads: 128,
        speed: 0.8,
    },
];

/// Terms that a processor adds to sums while one more kernel is launched: some 3 µs, 1.7 cycles a ns, 128 terms a cycle.
const SUM_LAUNCH: f64 = 650_000.0;
/// The same while one part of one element is written and read, at some 3 TB/s of the whole device.
const SUM_ELEMENT: f64 = 0.6;

impl Tile {
    fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.columns)
    }

    /// Time of an m×n×k product in terms of sums: that of the processor with the most tiles, or of the one with the most parts of
    /// tiles, after which all parts are added.
    fn time(&self, [m, n, k]: [usize; 3], in_parts: bool, processors: usize) -> f64 {
        let (tiles, parts) = (self.count(m, n), k.div_ceil(PART));
        let (blocks, depth) = if in_parts { (tiles * parts, PART.min(k)) } else { (tiles, k) };
        let rounds = blocks.div_ceil(processors.max(1));
        let product = (rounds * self.rows * self.columns * depth) as f64 / self.speed;
        let sums = SUM_LAUNCH + SUM_ELEMENT * (m * n * parts) as f64;
        if in_parts { product + sums } else { product }
    }
}

/// The tile of the least time, and whether each part of k is a block's.
fn fastest(extents: [usize; 3], processors: usize) -> (Tile, bool) {
    let parts = extents[2].div_ceil(PART);
    let ways = TILES.into_iter().flat_map(|tile| [(tile, false), (tile, true)]);
    let possible = ways.filter(|&(_, in_parts)| !in_parts || (2..=MOST_PARTS).contains(&parts));
    let time = |&(tile, in_parts): &(Tile, bool)| tile.time(extents, in_parts, processors);
    possible.min_by(|one, other| time(one).total_cmp(&time(other))).expect("there are tiles")
}

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
    /// A second pair of factors, whose product is added. Of products with a factor in bf16 alone, and not beside a gate.
    pub pair: Option<Pair<'a>>,
}

/// Two more factors of a product, both in bf16.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// `[m, depth]`.
    pub a: View<'a>,
    /// `[depth, n]`, stored as the product's own second factor is.
    pub b: View<'a>,
    /// A multiple of [`CHUNK`](super::matmul_bf16::CHUNK).
    pub depth: usize,
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

/// c = a·b plus the epilogue; `a: [m, k]`, `b: [k, n]`, `c: [m, n]`. Every tile gives the same bits, in parts of k or not: an element
/// depends on its row of a and its column of b alone.
pub fn matmul(a: Matrix, b: Matrix, c: ViewMut, extents: [usize; 3], epilogue: Epilogue) -> Result<()> {
    let [m, n, k] = extents;
    assert!(epilogue.gate.is_none() && epilogue.pair.is_none(), "a gate or a pair beside a product in f32");
    // The kernel counts what is left of k in an int, and tiles in 32 bits.
    if k > i32::MAX as usize || m.max(n) > i32::MAX as usize {
        return Err(Error::shape(FILE, format!("[{m}, {n}, {k}] is more than a product takes")));
    }
    let (tile, in_parts) = fastest(extents, c.cuda().description().processors as usize);
    if in_parts {
        return matmul_in_parts(tile, a, b, c, extents, epilogue);
    }
    launch(tile, 1, a, b, &c, extents, epilogue)
}

/// The same, each part of k a block's, whose sums another kernel adds.
fn matmul_in_parts(
    tile: Tile,
    a: Matrix,
    b: Matrix,
    c: ViewMut,
    [m, n, k]: [usize; 3],
    epilogue: Epilogue,
) -> Result<()> {
    let (cuda, parts, len) = (c.cuda(), k.div_ceil(PART), m * n);
    if len == 0 {
        return Ok(());
    }
    let sums = Buffer::scratch(cuda, DType::F32, parts * len)?;
    let all = sums.view(0, parts * len);
    launch(tile, parts, a, b, &ViewMut(all), [m, n, k], Epilogue::default())?;
    sum_parts(all, parts, &c, [m, n], epilogue)
}

/// c `[m, n]` = the sum of `sums: [parts, m, n]` plus the epilogue.
pub(super) fn sum_parts(
    sums: View,
    parts: usize,
    c: &ViewMut,
    [m, n]: [usize; 2],
    epilogue: Epilogue,
) -> Result<()> {
    const THREADS: usize = 256;
    let len = m * n;
    c.cuda().launch(&Launch {
        file: FILE,
        kernel: "lea_matmul_sum_parts",
        grid: [len.div_ceil(THREADS), 1, 1],
        threads: THREADS as u32,
        shared: 0,
        args: &[
            len.into(),
            n.into(),
            parts.into(),
            epilogue.mode().into(),
            sums.into(),
            optional(epilogue.bias),
            optional(epilogue.residual),
            c.into(),
        ],
    })
}

/// Blocks of a tile each, or of a tile and one of several parts of k.
fn launch(
    tile: Tile,
    parts: usize,
    a: Matrix,
    b: Matrix,
    c: &ViewMut,
    [m, n, k]: [usize; 3],
    epilogue: Epilogue,
) -> Result<()> {
    c.cuda().launch(&Launch {
        file: FILE,
        kernel: tile.kernels[usize::from(a.transposed) * 2 + usize::from(b.transposed)],
        grid: [tile.count(m, n), parts, 1],
        threads: tile.threads,
        shared: (STAGES * SLICE * (tile.rows + tile.columns) * DType::F32.size()) as u32,
        args: &[
            m.into(),
            n.into(),
            k.into(),
            epilogue.mode().into(),
            a.data.into(),
            b.data.into(),
            optional(epilogue.bias),
            optional(epilogue.residual),
            c.into(),
        ],
    })
}

/// A tensor, or none.
pub(super) fn optional(view: Option<View>) -> Arg {
    view.map_or(Arg::Long(0), Arg::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_and_parts_suit_the_product() {
        let of = |extents, processors| {
            let (tile, in_parts) = fastest(extents, processors);
            ([tile.rows, tile.columns], in_parts)
        };
        // Of an H100: large products, gradients of weights over many rows, adapters of rank 8.
        assert_eq!(of([8192, 8192, 8192], 132), ([128, 128], false));
        assert_eq!(of([12_800, 3000, 64], 132), ([128, 128], false));
        assert_eq!(of([64, 64, 12_800], 132), ([64, 64], true));
        assert_eq!(of([8192, 8, 2048], 132), ([128, 32], true));
        assert_eq!(of([8, 2048, 8192], 132), ([32, 128], true));
        assert_eq!(of([64, 2048, 8192], 132), ([64, 64], true));
        // What a test on such a GPU counts on.
        assert_eq!(
            [[2048, 2048, 40], [2043, 2045, 1030]].map(|of_gpu| of(of_gpu, 132)),
            [([128, 128], false); 2]
        );
        // What tests on two processors count on to see everything.
        assert_eq!(of([132, 140, 40], 2), ([64, 64], false));
        assert_eq!(of([255, 127, 33], 2), ([128, 128], false));
        assert_eq!(of([199, 19, 50], 2), ([128, 32], false));
        assert_eq!(of([19, 199, 50], 2), ([32, 128], false));
        assert_eq!(of([127, 250, 1030], 2), ([128, 128], false));
        assert_eq!(of([5, 7, 2051], 2), ([64, 64], true));
        // Rows of one product in different tiles, and in parts of k or not.
        let rows = |m| of([m, 72, 2060], 2);
        assert_eq!(
            [rows(1), rows(37), rows(256)],
            [([32, 128], true), ([64, 64], false), ([128, 32], false)]
        );
    }
}
