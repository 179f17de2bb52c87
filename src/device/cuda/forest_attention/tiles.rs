//! An index as kernels on tensor cores see it, see `kernels/forest_attention_bf16.cu`.

use super::parts::Parts;
use crate::Result;
use crate::device::AttentionIndex;
use crate::device::cuda::{Buffer, Cuda};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How tiles number the keys that they share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numbers {
    /// As they stand among all keys.
    All,
    /// As they stand among those that any tiles share.
    Shared,
}

/// Tiles of an index for each number of rows that they were wanted of, and their numbers.
#[derive(Default)]
pub(super) struct ByRows(Mutex<Vec<(usize, Numbers, Arc<Tiles>)>>);

/// See the kernel for the layouts.
pub(super) struct Tiles {
    /// `[tiles, 12]`.
    pub tiles: Buffer,
    pub count: usize,
    /// `[rows, 4]`.
    pub rows: Buffer,
    /// The keys that tiles share, ascending; one at least where there are keys. With numbers among all keys, none.
    pub shared: Buffer,
    /// The same.
    listed: Vec<u32>,
    most: usize,
    parts: OnceLock<Parts>,
}

impl ByRows {
    /// Tiles of at most `most` rows.
    pub fn get(
        &self,
        index: &AttentionIndex,
        cuda: &Cuda,
        most: usize,
        numbers: Numbers,
    ) -> Result<Arc<Tiles>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., tiles)) = made.iter().find(|(of, by, _)| (*of, *by) == (most, numbers)) {
            return Ok(tiles.clone());
        }
        let tiles = Arc::new(Tiles::new(index, cuda, most, numbers)?);
        made.push((most, numbers, tiles.clone()));
        Ok(tiles)
    }
}

/// Consecutive query rows that all begin with the same key, and the keys that they share.
#[derive(Debug, PartialEq)]
struct Rows {
    rows: Range<usize>,
    shared: [Range<usize>; 3],
}

impl Rows {
    /// Whether its keys are the first of the other's, cut into ranges alike.
    fn begins(&self, other: &Rows) -> bool {
        let mut ended = false;
        self.shared.iter().zip(&other.shared).all(|(a, b)| {
            let fits = a.is_empty() || (!ended && a.start == b.start && a.end <= b.end);
            ended |= a.len() != b.len();
            fits
        })
    }
}

/// All rows in tiles of at most `most`. Chunks are counted from the first key of a tile, so its rows begin there; where they end they may
/// differ, so leaves of neighbouring steps of a short history share one.
fn cut(index: &AttentionIndex, most: usize) -> Vec<Rows> {
    let mut tiles: Vec<Rows> = Vec::new();
    for tile in index.tiles() {
        let mut first = tile.rows.start;
        for alike in index.ranges()[tile.rows.clone()].chunk_by(|a, b| tile.ahead(a) == tile.ahead(b)) {
            let from = tile.ahead(&alike[0]);
            let mut rest = alike;
            while !rest.is_empty() {
                let next = |count: usize| {
                    let seen = rest[..count].iter().map(|r| r.shared()).max().unwrap_or(0);
                    Rows { rows: first..first + count, shared: tile.cut(from, from + seen).shared }
                };
                let room = tiles.last().map_or(0, |last| most - last.rows.len());
                let fitting = next(room.min(rest.len()));
                match tiles.last_mut() {
                    Some(last) if room > 0 && last.begins(&fitting) => {
                        *last = Rows { rows: last.rows.start..fitting.rows.end, ..fitting };
                    }
                    _ => tiles.push(next(most.min(rest.len()))),
                }
                let end = tiles[tiles.len() - 1].rows.end;
                rest = &rest[end - first..];
                first = end;
            }
        }
    }
    tiles
}

/// The keys that tiles share, ascending; the first of all where they share none, since there are no tensor maps of nothing.
fn shared_keys(cut: &[Rows], keys: usize) -> Vec<u32> {
    let mut is_shared = vec![false; keys];
    for keys in cut.iter().flat_map(|tile| &tile.shared) {
        is_shared[keys.clone()].fill(true);
    }
    if !is_shared.contains(&true) {
        is_shared.iter_mut().take(1).for_each(|first| *first = true);
    }
    (0..keys).filter(|&key| is_shared[key]).map(|key| key as u32).collect()
}

impl Tiles {
    /// What the gradients of keys need besides, of tiles with numbers among shared keys.
    pub fn parts(&self, index: &AttentionIndex, cuda: &Cuda) -> Result<&Parts> {
        match self.parts.get() {
            Some(made) => Ok(made),
            None => {
                let made = Parts::new(index, cuda, &self.listed, self.most)?;
                Ok(self.parts.get_or_init(|| made))
            }
        }
    }

    fn new(index: &AttentionIndex, cuda: &Cuda, most: usize, numbers: Numbers) -> Result<Self> {
        let cut = cut(index, most);
        let shared = match numbers {
            Numbers::All => Vec::new(),
            Numbers::Shared => shared_keys(&cut, index.keys()),
        };
        // Ranges stay in one piece.
        let place = |key: usize| match numbers {
            Numbers::All => key,
            Numbers::Shared => shared.partition_point(|&other| (other as usize) < key),
        };
        let words_of = |tile: &Rows| {
            let keys = &tile.shared;
            let leaves = index.ranges()[tile.rows.clone()].iter().map(|r| r.range(3));
            let leaves = leaves.filter(|leaf| !leaf.is_empty());
            let first = leaves.clone().map(|leaf| leaf.start).min().unwrap_or(0);
            let end = leaves.map(|leaf| leaf.end).max().unwrap_or(0);
            let words = [
                &[tile.rows.start, tile.rows.len()],
                &keys.each_ref().map(|keys| place(keys.start))[..],
                &keys.each_ref().map(|keys| keys.len()),
                &[first, end - first, 0, 0],
            ];
            words.concat().into_iter().map(|word| word as u32).collect::<Vec<_>>()
        };
        let tiles: Vec<u32> = cut.iter().flat_map(words_of).collect();
        let rows: Vec<u32> =
            index.ranges().iter().flat_map(|r| [r.shared() as u32, r.0[3].0, r.0[3].1, 0]).collect();
        Ok(Tiles {
            tiles: Buffer::copy_of(cuda, &tiles)?,
            count: cut.len(),
            rows: Buffer::copy_of(cuda, &rows)?,
            shared: Buffer::copy_of(cuda, &shared)?,
            listed: shared,
            most,
            parts: OnceLock::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::RowRanges;

    #[test]
    fn leaves_of_neighbouring_steps_share_tiles_unless_a_stem_parts_them() {
        // A root of 2, a trunk of 5, then 20 leaves of each step, behind a stem of 1 or none.
        let of = |stem: u32| {
            let mut rows: Vec<RowRanges> =
                (0..2).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
            rows.extend((0..5).map(|t| RowRanges([(0, 2), (2, 3 + t), (0, 0), (0, 0)])));
            for t in 0..5 {
                let (seen, first) = ((2, 3 + t), rows.len() as u32);
                rows.extend((0..stem).map(|_| RowRanges([(0, 2), seen, (first, first + 1), (0, 0)])));
                for leaf in (first + stem..).take(20) {
                    rows.push(RowRanges([(0, 2), seen, (first, first + stem), (leaf, leaf + 1)]));
                }
            }
            let keys = rows.len();
            AttentionIndex::new(rows, keys).unwrap()
        };
        let rows =
            |index: &AttentionIndex, most| cut(index, most).into_iter().map(|t| t.rows).collect::<Vec<_>>();
        assert_eq!(rows(&of(0), 64), [0..7, 7..71, 71..107]);
        assert_eq!(rows(&of(0), 128), [0..7, 7..107]);
        assert_eq!(cut(&of(0), 128)[1].shared.each_ref().map(|keys| keys.len()), [2, 5, 0]);
        assert_eq!(rows(&of(1), 64), [0..7, 7..28, 28..49, 49..70, 70..91, 91..112]);
        // Through a window rows of different steps begin with different keys.
        assert_eq!(rows(&of(0).windowed(3).unwrap(), 64).len(), 10);
    }
}
