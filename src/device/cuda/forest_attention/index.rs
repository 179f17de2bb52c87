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
        let blocks = index.keys().div_ceil(ROWS);
        let mut seen_from = vec![0u32; blocks + 1];
        each_seen(index, blocks, |block, _| seen_from[block + 1] += 1);
        for block in 0..blocks {
            seen_from[block + 1] += seen_from[block];
        }
        let mut next = seen_from.clone();
        let mut seen = vec![0u32; seen_from[blocks] as usize];
        each_seen(index, blocks, |block, row| {
            seen[next[block] as usize] = row;
            next[block] += 1;
        });
        Ok(Keys {
            ranges: Buffer::copy_of(cuda, &index.range_words())?,
            seen_from: Buffer::copy_of(cuda, &seen_from)?,
            seen: Buffer::copy_of(cuda, &seen)?,
        })
    }
}

/// Tells of every block of keys and every row that sees a key of it, once; of a block in the order of the rows.
fn each_seen(index: &AttentionIndex, blocks: usize, mut tell: impl FnMut(usize, u32)) {
    let mut last = vec![u32::MAX; blocks];
    for (row, ranges) in (0u32..).zip(index.ranges()) {
        for range in (0..4).map(|i| ranges.range(i)).filter(|range| !range.is_empty()) {
            let first = range.start / ROWS;
            for (block, last) in (first..).zip(&mut last[first..=(range.end - 1) / ROWS]) {
                if std::mem::replace(last, row) != row {
                    tell(block, row);
                }
            }
        }
    }
}
