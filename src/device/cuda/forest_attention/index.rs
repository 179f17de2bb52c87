//! What the kernels need of an attention index, made once for each device and kept with the index.

use super::tiles::ByRows;
use super::{KEYS, ROWS};
use crate::Result;
use crate::device::AttentionIndex;
use crate::device::cuda::{Buffer, Cuda};
use std::sync::OnceLock;

/// An index on a device.
#[derive(Default)]
pub struct DeviceIndex {
    queries: OnceLock<Queries>,
    keys: OnceLock<Keys>,
    pub(super) tiles: ByRows,
}

/// For kernels whose blocks are tiles of query rows; see `kernels/forest_attention.cu` for the layouts.
pub(super) struct Queries {
    /// `[tiles, 12]`.
    pub tiles: Buffer,
    /// Number of tiles.
    pub count: usize,
    /// `[rows, 4]`.
    pub rows: Buffer,
}

/// For the kernel whose blocks are blocks of keys.
pub(super) struct Keys {
    /// `[rows, 8]`.
    pub ranges: Buffer,
    /// `[blocks + 1]`.
    pub seen_from: Buffer,
    /// Rows that see a key of each block, ascending.
    pub seen: Buffer,
}

impl DeviceIndex {
    /// What forward and the gradient of q need.
    pub(super) fn queries(&self, index: &AttentionIndex, cuda: &Cuda) -> Result<&Queries> {
        match self.queries.get() {
            Some(made) => Ok(made),
            None => {
                let made = Queries::new(index, cuda)?;
                Ok(self.queries.get_or_init(|| made))
            }
        }
    }

    /// What the gradients of keys need besides.
    pub(super) fn keys(&self, index: &AttentionIndex, cuda: &Cuda) -> Result<&Keys> {
        match self.keys.get() {
            Some(made) => Ok(made),
            None => {
                let made = Keys::new(index, cuda)?;
                Ok(self.keys.get_or_init(|| made))
            }
        }
    }
}

impl Queries {
    fn new(index: &AttentionIndex, cuda: &Cuda) -> Result<Self> {
        let (mut tiles, mut of_rows): (Vec<u32>, Vec<u32>) = Default::default();
        for tile in index.tiles() {
            for first in tile.rows.clone().step_by(ROWS) {
                let rows = first..(first + ROWS).min(tile.rows.end);
                let ranges = &index.ranges()[rows.clone()];
                let leaf = ranges.iter().map(|r| r.range(3).len()).max().unwrap_or(0);
                let seeing = || ranges.iter().filter(|r| r.shared() > 0);
                let from = seeing().map(|r| tile.ahead(r)).min().unwrap_or(0) / KEYS * KEYS;
                let to = seeing().map(|r| tile.ahead(r) + r.shared()).max().unwrap_or(0);
                of_rows.extend(
                    ranges.iter().flat_map(|r| [r.shared() as u32, r.0[3].0, r.0[3].1, tile.ahead(r) as u32]),
                );
                tiles.extend([rows.start as u32, rows.len() as u32]);
                tiles.extend(tile.shared.iter().map(|keys| keys.start as u32));
                tiles.extend(tile.shared.iter().map(|keys| keys.len() as u32));
                tiles.extend([leaf, from, to, 0].map(|word| word as u32));
            }
        }
        let count = tiles.len() / 12;
        Ok(Queries { tiles: Buffer::copy_of(cuda, &tiles)?, count, rows: Buffer::copy_of(cuda, &of_rows)? })
    }
}

impl Keys {
    fn new(index: &AttentionIndex, cuda: &Cuda) -> Result<Self> {
        let ranges: Vec<u32> =
            index.ranges().iter().flat_map(|r| r.0.into_iter().flat_map(|(from, to)| [from, to])).collect();
        let mut blocks: Vec<Vec<u32>> = vec![Vec::new(); index.keys().div_ceil(ROWS)];
        for (row, ranges) in index.ranges().iter().enumerate() {
            for range in (0..4).map(|i| ranges.range(i)).filter(|range| !range.is_empty()) {
                for block in &mut blocks[range.start / ROWS..=(range.end - 1) / ROWS] {
                    if block.last() != Some(&(row as u32)) {
                        block.push(row as u32);
                    }
                }
            }
        }
        let mut seen_from = vec![0u32];
        for block in &blocks {
            seen_from.push(seen_from[seen_from.len() - 1] + block.len() as u32);
        }
        Ok(Keys {
            ranges: Buffer::copy_of(cuda, &ranges)?,
            seen_from: Buffer::copy_of(cuda, &seen_from)?,
            seen: Buffer::copy_of(cuda, &blocks.concat())?,
        })
    }
}
