//! An index as kernels on tensor cores see it, see `kernels/forest_attention_bf16.cu`.

use crate::Result;
use crate::device::AttentionIndex;
use crate::device::cuda::{Buffer, Cuda};
use std::sync::{Arc, Mutex, PoisonError};

/// Tiles of an index for each number of rows that they were wanted of.
#[derive(Default)]
pub(super) struct ByRows(Mutex<Vec<(usize, Arc<Tiles>)>>);

/// See the kernel for the layouts.
pub(super) struct Tiles {
    /// `[tiles, 8]`.
    pub tiles: Buffer,
    pub count: usize,
    /// `[rows, 4]`.
    pub rows: Buffer,
}

impl ByRows {
    /// Tiles of at most `most` rows.
    pub fn get(&self, index: &AttentionIndex, cuda: &Cuda, most: usize) -> Result<Arc<Tiles>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tiles)) = made.iter().find(|(other, _)| *other == most) {
            return Ok(tiles.clone());
        }
        let tiles = Arc::new(Tiles::new(index, cuda, most)?);
        made.push((most, tiles.clone()));
        Ok(tiles)
    }
}

impl Tiles {
    /// Tiles of at most `most` rows that all begin with the same key: chunks are counted from there.
    fn new(index: &AttentionIndex, cuda: &Cuda, most: usize) -> Result<Self> {
        let (mut tiles, mut of_rows): (Vec<u32>, Vec<u32>) = Default::default();
        for tile in index.tiles() {
            let ranges = &index.ranges()[tile.rows.clone()];
            of_rows.extend(ranges.iter().flat_map(|r| [r.shared() as u32, r.0[3].0, r.0[3].1, 0]));
            let mut first = tile.rows.start;
            for alike in ranges.chunk_by(|a, b| tile.ahead(a) == tile.ahead(b)) {
                for rows in alike.chunks(most) {
                    let seen = rows.iter().map(|r| r.shared()).max().unwrap_or(0);
                    let from = tile.ahead(&rows[0]);
                    let shared = tile.cut(from, from + seen).shared;
                    tiles.extend([first as u32, rows.len() as u32]);
                    tiles.extend(shared.iter().map(|keys| keys.start as u32));
                    tiles.extend(shared.iter().map(|keys| keys.len() as u32));
                    first += rows.len();
                }
            }
        }
        let count = tiles.len() / 8;
        Ok(Tiles { tiles: Buffer::copy_of(cuda, &tiles)?, count, rows: Buffer::copy_of(cuda, &of_rows)? })
    }
}
