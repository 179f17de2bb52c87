//! Pieces that forward and backward share: transposed keys, scores of a block of rows, weighted sums of rows.

use super::Float;
use crate::device::cpu::simd::{self, LANES};
use crate::device::{AttentionIndex, Tile};
use std::ops::Range;

/// Query rows made together.
pub(super) const BLOCK: usize = 4;

/// The shared keys (or values) of a tile for one head, transposed: `[head_dim, padded]`, zeros behind `len`.
pub(super) struct Transposed<T> {
    data: Vec<T>,
    padded: usize,
}

impl<T: Float> Transposed<T> {
    pub(super) fn new() -> Self {
        Transposed { data: Vec::new(), padded: 0 }
    }

    /// Loads head `head` of the rows that `tile` shares from `rows: [keys, width]`.
    #[inline(always)]
    pub(super) fn load(&mut self, tile: &Tile, rows: &[T], width: usize, head: usize, head_dim: usize) {
        let len: usize = tile.shared.iter().map(Range::len).sum();
        self.padded = len.next_multiple_of(LANES);
        self.data.clear();
        self.data.resize(head_dim * self.padded, T::ZERO);
        for (j, key) in tile.shared.iter().cloned().flatten().enumerate() {
            let row = &rows[key * width + head * head_dim..][..head_dim];
            for (d, &x) in row.iter().enumerate() {
                self.data[d * self.padded + j] = x;
            }
        }
    }

    /// products[r][j] = Σ_d x[r][d]·row_j[d] for the shared rows j that one of the block sees; `products: [BLOCK, stride]`.
    #[inline(always)]
    pub(super) fn products<const FMA: bool>(
        &self,
        x: [&[T]; BLOCK],
        keys: &[RowKeys; BLOCK],
        products: &mut [T],
        stride: usize,
    ) {
        let run = shared_run(keys);
        for j in (run.start / LANES * LANES..run.end).step_by(LANES) {
            let mut sums = [[T::ZERO; LANES]; BLOCK];
            for (d, keys) in self.data[j..].chunks(self.padded).enumerate() {
                let keys: &[T; LANES] = keys[..LANES].try_into().expect("sixteen keys");
                for r in 0..BLOCK {
                    let q = x[r][d];
                    for l in 0..LANES {
                        sums[r][l] = q.mul_add::<FMA>(keys[l], sums[r][l]);
                    }
                }
            }
            for r in 0..BLOCK {
                products[r * stride + j..][..LANES].copy_from_slice(&sums[r]);
            }
        }
    }
}

/// Keys of one row in the order of their positions: a run of the tile's shared keys, then its own leaf.
pub(super) struct RowKeys {
    /// Shared keys of the tile ahead of those that the row sees.
    pub(super) ahead: usize,
    /// Shared keys that the row sees.
    pub(super) shared: usize,
    /// Its leaf keys.
    pub(super) leaf: Range<usize>,
}

impl RowKeys {
    #[inline(always)]
    pub(super) fn of(index: &AttentionIndex, tile: &Tile, row: usize) -> Self {
        let ranges = index.ranges()[row];
        RowKeys { ahead: tile.ahead(&ranges), shared: ranges.shared(), leaf: ranges.range(3) }
    }

    /// Past the last of its shared keys, in the tile's list of them.
    pub(super) fn shared_end(&self) -> usize {
        self.ahead + self.shared
    }

    /// Number of positions.
    pub(super) fn len(&self) -> usize {
        self.shared + self.leaf.len()
    }
}

/// The shared keys of a tile from the first to past the last that a row of the block sees.
#[inline(always)]
fn shared_run(keys: &[RowKeys; BLOCK]) -> Range<usize> {
    let start = keys.iter().map(|k| k.ahead).min().unwrap_or(0);
    start..keys.iter().map(RowKeys::shared_end).max().unwrap_or(0)
}

/// Positions of a tile's shared keys and of the longest leaf behind them, padded to full lanes with one lane to spare for
/// padded shared keys.
pub(super) fn stride(index: &AttentionIndex, tile: &Tile) -> usize {
    let positions = |row| {
        let keys = RowKeys::of(index, tile, row);
        keys.ahead + keys.len()
    };
    let longest = tile.rows.clone().map(positions).max().unwrap_or(0);
    let shared: usize = tile.shared.iter().map(Range::len).sum();
    longest.max(shared).next_multiple_of(LANES) + LANES
}

/// Head `head` of row `row`.
#[inline(always)]
pub(super) fn head_of<T>(rows: &[T], row: usize, width: usize, head: usize, head_dim: usize) -> &[T] {
    &rows[row * width + head * head_dim..][..head_dim]
}

/// The rows of the block that starts at `first`, and how many they are: past the tile's end the last one repeats.
#[inline(always)]
pub(super) fn block_rows(tile: &Tile, first: usize) -> ([usize; BLOCK], usize) {
    let count = (tile.rows.end - first).min(BLOCK);
    let mut rows = [first; BLOCK];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = first + i.min(count - 1);
    }
    (rows, count)
}

/// Products of a row with its leaf rows, from position `first` on; everything after is filled with `fill`.
#[inline(always)]
pub(super) fn leaf_products<T: Float, const FMA: bool>(
    x: &[T],
    keys: &RowKeys,
    rows: &[T],
    (width, head): (usize, usize),
    (products, first): (&mut [T], usize),
    fill: T,
) {
    let leaf = keys.leaf.clone().map(|key| simd::dot::<T, FMA>(x, head_of(rows, key, width, head, x.len())));
    for (product, value) in products[first..].iter_mut().zip(leaf) {
        *product = value;
    }
    products[first + keys.leaf.len()..].fill(fill);
}

/// out[r] = Σ_j weights[r][j]·row_j over shared and leaf rows, in the order of positions; `out: [BLOCK, head_dim]`. Weights
/// stand at the tile's positions, zeros at those of shared keys that the row does not see, leaves behind the shared keys.
#[inline(always)]
pub(super) fn weighted_sum<T: Float, const FMA: bool>(
    tile: &Tile,
    keys: &[RowKeys; BLOCK],
    weights: &[T],
    stride: usize,
    (rows, width, head): (&[T], usize, usize),
    out: &mut [T],
) {
    let head_dim = out.len() / BLOCK;
    let run = shared_run(keys);
    let shared = || (run.start..run.end).zip(tile.shared.iter().cloned().flatten().skip(run.start));
    let mut d = 0;
    while d + LANES <= head_dim {
        let mut sums = [[T::ZERO; LANES]; BLOCK];
        for (j, key) in shared() {
            let row: &[T; LANES] =
                rows[key * width + head * head_dim + d..][..LANES].try_into().expect("lanes");
            for r in 0..BLOCK {
                let w = weights[r * stride + j];
                for l in 0..LANES {
                    sums[r][l] = w.mul_add::<FMA>(row[l], sums[r][l]);
                }
            }
        }
        for r in 0..BLOCK {
            out[r * head_dim + d..][..LANES].copy_from_slice(&sums[r]);
        }
        d += LANES;
    }
    if d < head_dim {
        for r in 0..BLOCK {
            out[r * head_dim + d..(r + 1) * head_dim].fill(T::ZERO);
            for (j, key) in shared() {
                let row = &head_of(rows, key, width, head, head_dim)[d..];
                simd::axpy::<T, FMA>(
                    weights[r * stride + j],
                    row,
                    &mut out[r * head_dim + d..(r + 1) * head_dim],
                );
            }
        }
    }
    for (r, keys) in keys.iter().enumerate() {
        // The shared keys of rows with a leaf all end where the tile's do (`Tile`), so no position of the loops above was
        // one of a leaf.
        for (j, key) in keys.leaf.clone().enumerate() {
            let row = head_of(rows, key, width, head, head_dim);
            let w = weights[r * stride + keys.shared_end() + j];
            simd::axpy::<T, FMA>(w, row, &mut out[r * head_dim..(r + 1) * head_dim]);
        }
    }
}
