//! What the kernels need of an attention index, made once for each device and kept with the index.

use super::ROWS;
use crate::Result;
use crate::device::AttentionIndex;
use crate::device::attention_index::RowRanges;
use crate::device::webgpu::{Buffer, Gpu};
use std::ops::Range;
use std::sync::OnceLock;

/// Query rows of a part of a block of keys: the parts of keys that all rows see run side by side.
const PART_ROWS: usize = 256;
/// Keys that at most so many rows from the first to the last see are taken one an invocation.
const OWN_ROWS: u32 = 16;

/// An index on a device.
#[derive(Default)]
pub struct DeviceIndex {
    queries: OnceLock<Queries>,
    keys: OnceLock<Keys>,
}

/// For kernels whose invocations are query rows: two elements a tile — (first row, rows, first root key, root keys),
/// (first trunk key, trunk keys, first stem key, stem keys) — and one a row: (shared keys, from leaf key, to leaf key, shared
/// keys of the tile ahead of the row's).
pub(super) struct Queries {
    pub index: Buffer,
    /// (query, key) pairs of each tile.
    pub pairs: Vec<u64>,
    /// Where the rows begin.
    pub rows_at: usize,
}

/// For kernels whose invocations are keys. Sections of elements of four words, in this order:
/// rows' ranges, two elements each; parts (first key, keys, first span, spans); spans (from row, to row);
/// blocks (first key, keys, first part, parts); blocks of own keys (first key, keys); the own rows of every key.
pub(super) struct Keys {
    pub index: Buffer,
    /// Blocks of keys that many rows see: their parts.
    pub blocks: Vec<Range<usize>>,
    /// Rows that each part visits.
    pub part_rows: Vec<u64>,
    /// (Key, row) turns of each block of own keys.
    pub own_rows: Vec<u64>,
    pub parts_at: usize,
    pub spans_at: usize,
    pub blocks_at: usize,
    pub own_at: usize,
    pub own_rows_at: usize,
}

impl DeviceIndex {
    /// What forward needs.
    pub(super) fn queries(&self, index: &AttentionIndex, gpu: &Gpu) -> Result<&Queries> {
        match self.queries.get() {
            Some(made) => Ok(made),
            None => {
                let made = Queries::new(index, gpu)?;
                Ok(self.queries.get_or_init(|| made))
            }
        }
    }

    /// What the gradients of keys need besides.
    pub(super) fn keys(&self, index: &AttentionIndex, gpu: &Gpu) -> Result<&Keys> {
        match self.keys.get() {
            Some(made) => Ok(made),
            None => {
                let made = Keys::new(index, gpu)?;
                Ok(self.keys.get_or_init(|| made))
            }
        }
    }
}

impl Queries {
    fn new(index: &AttentionIndex, gpu: &Gpu) -> Result<Self> {
        let (mut words, mut pairs) = (Vec::new(), Vec::new());
        for tile in index.tiles() {
            for first in tile.rows.clone().step_by(ROWS) {
                let rows = first..(first + ROWS).min(tile.rows.end);
                words.extend([rows.start as u32, rows.len() as u32]);
                words.extend(tile.shared.iter().flat_map(|keys| [keys.start as u32, keys.len() as u32]));
                pairs.push(index.ranges()[rows].iter().map(|r| r.len() as u64).sum());
            }
        }
        let rows_at = words.len() / 4;
        for ranges in index.ranges() {
            words.extend([ranges.shared() as u32, ranges.0[3].0, ranges.0[3].1, 0]);
        }
        for tile in index.tiles() {
            for row in tile.rows.clone() {
                words[4 * (rows_at + row) + 3] = tile.ahead(&index.ranges()[row]) as u32;
            }
        }
        Ok(Queries { index: Buffer::copy_of(gpu, &words)?, pairs, rows_at })
    }
}

/// Consecutive keys, at most `ROWS`.
struct Block {
    keys: Range<usize>,
    /// Rows that see one of them, ascending.
    spans: Vec<Range<usize>>,
}

impl Block {
    /// Adds a row, not below those added before.
    fn see(&mut self, row: usize) {
        match self.spans.last_mut() {
            Some(last) if last.end > row => {}
            Some(last) if last.end == row => last.end += 1,
            _ => self.spans.push(row..row + 1),
        }
    }

    /// The spans cut into parts of at most `PART_ROWS` rows.
    fn parts(&self) -> Vec<Vec<Range<usize>>> {
        let mut parts = vec![Vec::new()];
        let mut room = PART_ROWS;
        for span in &self.spans {
            let mut span = span.clone();
            while !span.is_empty() {
                if room == 0 {
                    parts.push(Vec::new());
                    room = PART_ROWS;
                }
                let taken = span.len().min(room);
                let part = parts.last_mut().expect("there is one");
                part.push(span.start..span.start + taken);
                span.start += taken;
                room -= taken;
            }
        }
        parts
    }
}

/// First and past the last row that see each key; (0, 0) for keys that none sees.
fn seers(index: &AttentionIndex) -> Vec<(u32, u32)> {
    let rows = || (0u32..index.rows() as u32).zip(index.ranges());
    let first = first_to_see(index.keys(), rows());
    let last = first_to_see(index.keys(), rows().rev());
    let seer =
        |(first, last): (Option<u32>, Option<u32>)| first.zip(last).map_or((0, 0), |(a, b)| (a, b + 1));
    first.into_iter().zip(last).map(seer).collect()
}

/// The first of `rows` that sees each key. Keys that have one are passed over at a stroke: a row of a long history sees little
/// that is new.
fn first_to_see<'a>(keys: usize, rows: impl Iterator<Item = (u32, &'a RowRanges)>) -> Vec<Option<u32>> {
    let mut first = vec![None; keys];
    // The nearest key from each on that has none yet, or one on the way there.
    let mut next: Vec<usize> = (0..=keys).collect();
    let mut free_from = |mut key: usize, taken: Option<usize>| {
        if let Some(taken) = taken {
            next[taken] = taken + 1;
        }
        while next[key] != key {
            next[key] = next[next[key]];
            key = next[key];
        }
        key
    };
    for (row, ranges) in rows {
        for range in (0..4).map(|i| ranges.range(i)).filter(|range| !range.is_empty()) {
            let mut key = free_from(range.start, None);
            while key < range.end {
                first[key] = Some(row);
                key = free_from(key + 1, Some(key));
            }
        }
    }
    first
}

/// Runs of keys of one kind cut into blocks: those that many rows see, and those that few see. A block holds keys of one
/// tree or of the root, so that the order of the sums of a tree's keys does not depend on the trees beside it.
fn blocks(index: &AttentionIndex, seers: &[(u32, u32)]) -> (Vec<Block>, Vec<Range<usize>>) {
    let is_own = |key: usize| seers[key].1 - seers[key].0 <= OWN_ROWS;
    let mut begins = vec![false; index.keys() + 1];
    for start in
        index.trees().iter().map(|tree| tree.keys.start).chain([index.root().start, index.root().end])
    {
        begins[start] = true;
    }
    let (mut shared, mut own) = (Vec::<Block>::new(), Vec::<Range<usize>>::new());
    let mut start = 0;
    while start < index.keys() {
        let fits = |&key: &usize| {
            is_own(key) == is_own(start) && key - start < ROWS && (key == start || !begins[key])
        };
        let end = (start..index.keys()).take_while(fits).last().map_or(start, |last| last) + 1;
        match is_own(start) {
            true => own.push(start..end),
            false => shared.push(Block { keys: start..end, spans: Vec::new() }),
        }
        start = end;
    }
    // The block of each key, of those that many rows see, and where it or the block of own keys ends.
    let mut block_of = vec![(usize::MAX, 0); index.keys()];
    for (i, block) in shared.iter().enumerate() {
        block_of[block.keys.clone()].fill((i, block.keys.end));
    }
    for keys in &own {
        block_of[keys.clone()].fill((usize::MAX, keys.end));
    }
    for (row, ranges) in index.ranges().iter().enumerate() {
        for range in (0..4).map(|i| ranges.range(i)) {
            let mut key = range.start;
            while key < range.end {
                let (block, end) = block_of[key];
                if let Some(block) = shared.get_mut(block) {
                    block.see(row);
                }
                key = end;
            }
        }
    }
    (shared, own)
}

/// Turns of a block of own keys: all its invocations take as many turns as the one that needs the most.
fn visited(seers: &[(u32, u32)]) -> u64 {
    let most = seers.iter().map(|(first, end)| u64::from(end - first)).max().unwrap_or(0);
    ROWS as u64 * most
}

impl Keys {
    fn new(index: &AttentionIndex, gpu: &Gpu) -> Result<Self> {
        let seers = seers(index);
        let (shared, own) = blocks(index, &seers);
        let (mut parts, mut spans, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        let (mut block_parts, mut part_rows) = (Vec::new(), Vec::new());
        for block in &shared {
            let first_part = part_rows.len();
            let [key, count] = [block.keys.start as u32, block.keys.len() as u32];
            for part in block.parts() {
                parts.extend([key, count, spans.len() as u32 / 4, part.len() as u32]);
                spans.extend(part.iter().flat_map(|span| [span.start as u32, span.end as u32, 0, 0]));
                part_rows.push(part.iter().map(|span| span.len() as u64).sum());
            }
            heads.extend([key, count, first_part as u32, (part_rows.len() - first_part) as u32]);
            block_parts.push(first_part..part_rows.len());
        }
        let mut words = index.range_words();
        let mut add = |section: Vec<u32>| {
            let at = words.len() / 4;
            words.extend(section);
            at
        };
        let (parts_at, spans_at, blocks_at) = (add(parts), add(spans), add(heads));
        let own_at = add(own.iter().flat_map(|keys| [keys.start as u32, keys.len() as u32, 0, 0]).collect());
        let own_rows_at = add(seers.iter().flat_map(|&(first, end)| [first, end, 0, 0]).collect());
        Ok(Keys {
            index: Buffer::copy_of(gpu, &words)?,
            blocks: block_parts,
            part_rows,
            own_rows: own.iter().map(|keys| visited(&seers[keys.clone()])).collect(),
            parts_at,
            spans_at,
            blocks_at,
            own_at,
            own_rows_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_row_that_see_a_key_are_those_of_all_pairs() {
        let row = |r| RowRanges(r);
        let mut rows: Vec<RowRanges> = (0..40)
            .map(|t: u32| row([(0, 2.min(t + 1)), (2, 2.max(t + 1)), (0, 0), (40, 40 + t % 3)]))
            .collect();
        rows.extend((0..9).map(|t| row([(0, 2), (50 - t, 55 - t / 2), (30 + t / 4, 33), (60 + t, 61 + t)])));
        let index = AttentionIndex::new(rows, 75).unwrap();
        for index in [index.windowed(7).unwrap(), index] {
            let mut want = vec![(0, 0); index.keys()];
            for (row, ranges) in (0u32..).zip(index.ranges()) {
                for key in (0..4).flat_map(|i| ranges.range(i)) {
                    let first = if want[key].1 == 0 { row } else { want[key].0 };
                    want[key] = (first, row + 1);
                }
            }
            assert_eq!(seers(&index), want);
        }
    }
}
