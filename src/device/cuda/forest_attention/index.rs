//! What the kernels need of an attention index, made once for each device and kept with the index.

use super::ROWS;
use crate::Result;
use crate::device::AttentionIndex;
use crate::device::cuda::{Buffer, Cuda};
use std::sync::OnceLock;

/// An index on a device.
#[derive(Default)]
pub struct DeviceIndex {
    queries: OnceLock<Queries>,
    keys: OnceLock<Keys>,
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
        let mut tiles: Vec<u32> = Vec::new();
        for tile in index.tiles() {
            for first in tile.rows.clone().step_by(ROWS) {
                let rows = first..(first + ROWS).min(tile.rows.end);
                let leaf = index.ranges()[rows.clone()].iter().map(|r| r.range(3).len()).max().unwrap_or(0);
                tiles.extend([rows.start as u32, rows.len() as u32]);
                tiles.extend(tile.shared.iter().map(|keys| keys.start as u32));
                tiles.extend(tile.shared.iter().map(|keys| keys.len() as u32));
                tiles.extend([leaf as u32, 0, 0, 0]);
            }
        }
        let of_row = |ranges: &crate::device::RowRanges| {
            let shared: usize = (0..3).map(|i| ranges.range(i).len()).sum();
            [shared as u32, ranges.0[3].0, ranges.0[3].1, 0]
        };
        let rows: Vec<u32> = index.ranges().iter().flat_map(of_row).collect();
        let count = tiles.len() / 12;
        Ok(Queries { tiles: Buffer::copy_of(cuda, &tiles)?, count, rows: Buffer::copy_of(cuda, &rows)? })
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
