//! The same products as [`super::matmul_bf16`] by Hopper's own instructions, see `kernels/matmul_bf16_sm90.cu`.

use super::matmul::{Epilogue, optional};
use super::matmul_bf16::{Factors, mode};
use super::tensor_map::{self, BOX_COLUMNS, TensorMap};
use super::{Cuda, Launch, View, ViewMut};
use crate::device::DType;
use crate::{Error, Result};

const FILE: &str = "matmul_bf16_sm90";
/// The compute capability that the kernels are for.
const CAPABILITY: (u32, u32) = (9, 0);
/// Rows of a tile.
const ROWS: usize = 128;
/// Of k, what a stage of shared memory holds.
const SLICE: usize = BOX_COLUMNS;
/// One warpgroup that loads, two that multiply.
const THREADS: u32 = 384;
/// What the start of shared memory may lie off the multiple that swizzled slices need.
const ALIGNMENT: usize = 1024;

/// A block's tile of c, of [`ROWS`] rows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tile {
    /// Kernels for b as stored `[k, n]`, and for `[n, k]`.
    kernels: [&'static str; 2],
    columns: usize,
    /// Blocks that run together, each with a tile below the other's, and share what they read of b.
    blocks: usize,
    /// Stages of shared memory.
    stages: usize,
    /// Elements per unit of time, beside the larger tile's: less is reused. Estimated, not measured.
    speed: f64,
}

/// The tiles that there are kernels for, the smaller one first.
const TILES: [Tile; 2] = [
    Tile {
        kernels: ["lea_matmul_bf16_sm90_nn", "lea_matmul_bf16_sm90_nt"],
        columns: 128,
        blocks: 1,
        stages: 6,
        speed: 0.8,
    },
    Tile {
        kernels: ["lea_matmul_bf16_sm90_large_nn", "lea_matmul_bf16_sm90_large_nt"],
        columns: 256,
        blocks: 2,
        stages: 4,
        speed: 1.0,
    },
];

/// The tile of two gated products: 128 columns of each. Its kernel is for weights as layers have them, `[n, k]`.
const GATED: Tile = Tile { kernels: ["", "lea_matmul_bf16_sm90_gated_nt"], ..TILES[1] };

impl Tile {
    /// Tiles, or groups of as many as there are blocks that run together.
    fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.blocks * ROWS) * n.div_ceil(self.columns)
    }

    /// How many of these are made at a time.
    fn at_once(&self, processors: usize) -> usize {
        (processors / self.blocks).max(1)
    }

    /// Time of an m×n product of a given k: that of the processor with the most tiles.
    fn time(&self, m: usize, n: usize, processors: usize) -> f64 {
        (self.count(m, n).div_ceil(self.at_once(processors)) * self.columns) as f64 / self.speed
    }

    /// Bytes of shared memory: the stages, and two barriers each.
    fn shared(&self) -> usize {
        self.stages * (SLICE * (ROWS + self.columns) * DType::BF16.size() + 2 * size_of::<u64>()) + ALIGNMENT
    }
}

/// The tile of the least time.
fn fastest(m: usize, n: usize, processors: usize) -> Tile {
    let [small, large] = TILES;
    if small.time(m, n, processors) < large.time(m, n, processors) { small } else { large }
}

/// Whether the device multiplies b `[k, n]`, stored transposed or not, by these kernels. Never by how many rows a has: a row's
/// bits must not depend on that, and those of the other kernels may differ.
pub(super) fn takes(cuda: &Cuda, [n, k]: [usize; 2], transposed: bool) -> bool {
    let [rows, columns] = if transposed { [n, k] } else { [k, n] };
    cuda.description().capability == CAPABILITY && tensor_map::takes(rows, columns)
}

/// c = a·b plus the epilogue, for what [`takes`] takes.
pub(super) fn matmul(factors: &Factors, c: ViewMut, [m, n, k]: [usize; 3], epilogue: Epilogue) -> Result<()> {
    let tile = fastest(m, n, c.cuda().description().processors as usize);
    if m == 0 {
        return Ok(());
    }
    let tiles = tile.count(m, n);
    expect_taken([m, n, k], factors.padded, tiles)?;
    let transposed = factors.b.transposed;
    let maps = |a, b, k: usize, padded: usize| -> Result<[TensorMap; 2]> {
        let (shape, box_rows) =
            if transposed { ([n, k], tile.columns / tile.blocks) } else { ([k, n], SLICE) };
        Ok([TensorMap::of_rows(a, [m, padded], ROWS)?, TensorMap::of_rows(b, shape, box_rows)?])
    };
    let [a, b] = maps(factors.a, factors.b.data, k, factors.padded)?;
    let (depth, [a2, b2]) = match epilogue.pair {
        Some(pair) => (pair.depth, maps(pair.a, pair.b, pair.depth, pair.depth)?),
        None => (0, [a, b]),
    };
    launch(
        tile,
        transposed,
        tiles,
        &c,
        [m, n, k],
        &epilogue,
        &Maps { first: [a, b], second: [a2, b2], depth },
    )
}

/// c = silu(a·gateᵀ)·(a·upᵀ): a `[m, padded]` in bf16, both weights `[n, k]`, which [`takes`] takes.
pub(super) fn gated(
    (a, padded): (View, usize),
    weights: [View; 2],
    c: ViewMut,
    [m, n, k]: [usize; 3],
) -> Result<()> {
    if m == 0 {
        return Ok(());
    }
    let tiles = GATED.count(m, 2 * n);
    expect_taken([m, n, k], padded, tiles)?;
    let a = TensorMap::of_rows(a, [m, padded], ROWS)?;
    let of_weight = |w| TensorMap::of_rows(w, [n, k], GATED.columns / GATED.blocks);
    let [gate, up] = [of_weight(weights[0])?, of_weight(weights[1])?];
    let maps = Maps { first: [a, gate], second: [a, up], depth: 0 };
    launch(GATED, true, tiles, &c, [m, n, k], &Epilogue::default(), &maps)
}

/// The kernel counts tiles in 32 bits, and the copy engine rows.
fn expect_taken([m, n, k]: [usize; 3], padded: usize, tiles: usize) -> Result<()> {
    if tensor_map::takes(m, padded) && tiles <= i32::MAX as usize {
        return Ok(());
    }
    Err(Error::shape(FILE, format!("[{m}, {n}, {k}] is more than a product takes")))
}

/// Factors as the copy engine sees them.
struct Maps {
    first: [TensorMap; 2],
    /// Those of a pair, or in its second place the other weight of a gated block; not looked at where there is neither.
    second: [TensorMap; 2],
    /// A pair's inner extent, or 0.
    depth: usize,
}

/// Blocks for `tiles` tiles, or pairs of them.
fn launch(
    tile: Tile,
    transposed: bool,
    tiles: usize,
    c: &ViewMut,
    [m, n, k]: [usize; 3],
    epilogue: &Epilogue,
    Maps { first: [a, b], second: [a2, b2], depth }: &Maps,
) -> Result<()> {
    let at_once = tile.at_once(c.cuda().description().processors as usize);
    c.cuda().launch(&Launch {
        file: FILE,
        kernel: tile.kernels[usize::from(transposed)],
        grid: [tiles.min(at_once) * tile.blocks, 1, 1],
        threads: THREADS,
        shared: tile.shared() as u32,
        args: &[
            m.into(),
            n.into(),
            k.into(),
            mode(epilogue, c).into(),
            (*a).into(),
            (*b).into(),
            optional(epilogue.bias),
            optional(epilogue.residual.or(epilogue.gate)),
            c.into(),
            (*depth).into(),
            (*a2).into(),
            (*b2).into(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_grow_with_the_product() {
        let columns = |m, n, processors| fastest(m, n, processors).columns;
        assert_eq!([(1, 2048), (64, 8192), (1024, 2048)].map(|(m, n)| columns(m, n, 132)), [128; 3]);
        assert_eq!([(16_384, 2048), (4096, 8192)].map(|(m, n)| columns(m, n, 132)), [256; 2]);
        // What tests on two processors count on to see both.
        assert_eq!([(128, 256), (256, 256)].map(|(m, n)| columns(m, n, 2)), [128, 256]);
    }
}
