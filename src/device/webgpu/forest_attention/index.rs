//! What the kernels need of an attention index, made once for each device and kept with the index.

use super::ROWS;
use crate::Result;
use crate::device::AttentionIndex;
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
    let mut seers = vec![(0, 0); index.keys()];
    for (row, ranges) in (0u32..).zip(index.ranges()) {
        for key in (0..4).flat_map(|i| ranges.range(i)) {
            let (first, end): &mut (u32, u32) = &mut seers[key];
            if *end == 0 {
                *first = row;
            }
            *end = row + 1;
        }
    }
    seers
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
    let mut block_of = vec![usize::MAX; index.keys()];
    for (i, block) in shared.iter().enumerate() {
        block_of[block.keys.clone()].fill(i);
    }
    for (row, ranges) in index.ranges().iter().enumerate() {
        for key in (0..4).flat_map(|i| ranges.range(i)) {
            if let Some(block) = shared.get_mut(block_of[key]) {
                block.see(row);
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
        let mut words: Vec<u32> = index
            .ranges()
            .iter()
            .flat_map(|r| r.0.into_iter().flat_map(|(start, end)| [start, end]))
            .collect();
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
