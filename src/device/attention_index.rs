//! Which keys each query row of forest attention sees: the launch parameters of that kernel, built on the host so
//! that no device ever scans for boundaries.

use super::cuda::{self, Cuda};
use super::per_device::PerDevice;
use super::webgpu::{self, Gpu};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Key ranges of one query row, in the order root, trunk, stem, leaf; each may be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowRanges(pub [(u32, u32); 4]);

impl RowRanges {
    /// Range `i` as indices.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.0[i].0 as usize..self.0[i].1 as usize
    }

    /// Number of keys that the row sees.
    pub fn len(&self) -> usize {
        (0..4).map(|i| self.range(i).len()).sum()
    }

    /// Number of keys that the row sees besides its leaf.
    pub fn shared(&self) -> usize {
        (0..3).map(|i| self.range(i).len()).sum()
    }

    /// The ranges with all but the last `most` keys cut away.
    fn last(mut self, most: usize) -> Self {
        let mut surplus = self.len().saturating_sub(most) as u32;
        for (start, end) in &mut self.0 {
            let cut = surplus.min(end.saturating_sub(*start));
            surplus -= cut;
            (*start, *end) = if *start + cut < *end { (*start + cut, *end) } else { (0, 0) };
        }
        self
    }

    /// Whether it sees none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From the first to past the last key outside the root; `None` for a row that sees the root alone.
    fn span(&self) -> Option<(u32, u32)> {
        let own = self.0[1..].iter().filter(|r| r.0 < r.1);
        own.fold(None, |span: Option<(u32, u32)>, r| match span {
            None => Some(*r),
            Some(s) => Some((s.0.min(r.0), s.1.max(r.1))),
        })
    }

    /// Whether root, trunk and stem of two rows start alike, and where they end differently nothing shared follows, so that a
    /// key has one position in the list of both: then whether they end differently.
    fn ends_apart(&self, other: &RowRanges) -> Option<bool> {
        let mut ended = false;
        for i in 0..3 {
            let ((a, b), (c, d)) = (self.0[i], other.0[i]);
            if a >= b && c >= d {
                continue;
            }
            if ended || a != c || a >= b || c >= d {
                return None;
            }
            ended = b != d;
        }
        Some(ended)
    }
}

/// Consecutive query rows that share their root, trunk and stem keys up to where each ends, and, through a window, from
/// where each begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The query rows.
    pub rows: Range<usize>,
    /// Union of root, trunk and stem over the rows; a row sees a run of their concatenation, without a window a prefix.
    /// The runs of rows with a leaf all end with it.
    pub shared: [Range<usize>; 3],
}

impl Tile {
    /// Number of shared keys ahead of those that a row of the tile sees; all where it sees its leaf alone.
    pub fn ahead(&self, row: &RowRanges) -> usize {
        let mut ahead = 0;
        for (i, shared) in self.shared.iter().enumerate() {
            let own = row.range(i);
            if !own.is_empty() {
                return ahead + own.start - shared.start;
            }
            ahead += shared.len();
        }
        ahead
    }

    /// The tile of the same rows with its shared keys `from` to `to` alone.
    pub(in crate::device) fn cut(&self, from: usize, to: usize) -> Self {
        let mut before = 0;
        let shared = self.shared.clone().map(|keys| {
            let within = |position: usize| keys.start + position.clamp(before, before + keys.len()) - before;
            let cut = within(from)..within(to).max(within(from));
            before += keys.len();
            cut
        });
        Tile { rows: self.rows.clone(), shared }
    }
}

/// Consecutive query rows and the keys outside the root that only they see. Trees have no key in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Tiles of the tree, as indices.
    pub tiles: Range<usize>,
    /// Its query rows.
    pub rows: Range<usize>,
    /// The keys that gradients of its rows reach, besides the root.
    pub keys: Range<usize>,
}

/// Keys of every query row, cut into tiles and trees.
#[derive(Clone, Debug)]
pub struct AttentionIndex {
    ranges: Vec<RowRanges>,
    keys: usize,
    root: Range<usize>,
    tiles: Vec<Tile>,
    trees: Vec<Tree>,
    through_window: bool,
    on_webgpu: PerDevice<Gpu, webgpu::forest_attention::DeviceIndex>,
    on_cuda: PerDevice<Cuda, cuda::forest_attention::DeviceIndex>,
}

/// Most query rows of a tile.
const TILE_ROWS: usize = 64;

impl AttentionIndex {
    /// Ranges of each query row over `keys` key rows. Root ranges must hold no key of another range; every row must
    /// see at least one key. Rows whose ranges start alike share tiles.
    pub fn new(ranges: Vec<RowRanges>, keys: usize) -> Result<Self> {
        let root = check(&ranges, keys)?;
        let tiles = cut_tiles(&ranges);
        let trees = cut_trees(&ranges, &tiles, keys);
        Ok(Self::of(ranges, keys, root, tiles, trees))
    }

    fn of(
        ranges: Vec<RowRanges>,
        keys: usize,
        root: Range<usize>,
        tiles: Vec<Tile>,
        trees: Vec<Tree>,
    ) -> Self {
        let (on_webgpu, on_cuda) = (PerDevice::default(), PerDevice::default());
        AttentionIndex { ranges, keys, root, tiles, trees, through_window: false, on_webgpu, on_cuda }
    }

    /// Packed causal sequences of the given lengths: queries and keys are the same rows. It is what [`AttentionIndex::new`]
    /// makes of their ranges, made at once: a recommender trains on another one in every step.
    ///
    /// # Errors
    /// More rows than 32 bits count.
    pub fn causal(lengths: &[usize]) -> Result<Self> {
        let keys: usize = lengths.iter().sum();
        if u32::try_from(keys).is_err() {
            return Err(Error::shape("attention_index", format!("{keys} rows are more than 32 bits count")));
        }
        let (mut ranges, mut tiles, mut trees) = (Vec::with_capacity(keys), Vec::new(), Vec::new());
        for &length in lengths.iter().filter(|&&length| length > 0) {
            let (first, first_tile) = (ranges.len(), tiles.len());
            let start = first as u32;
            ranges
                .extend((1..=length as u32).map(|t| RowRanges([(0, 0), (start, start + t), (0, 0), (0, 0)])));
            let rows = first..ranges.len();
            for from in rows.clone().step_by(TILE_ROWS) {
                let to = (from + TILE_ROWS).min(rows.end);
                tiles.push(Tile { rows: from..to, shared: [0..0, first..to, 0..0] });
            }
            trees.push(Tree { tiles: first_tile..tiles.len(), rows: rows.clone(), keys: rows });
        }
        Ok(Self::of(ranges, keys, 0..0, tiles, trees))
    }

    /// The index through a sliding window of `width` keys: of its ranges, which hold its ancestors in the order of
    /// their depth and then itself, a row sees the last `width` keys.
    pub fn windowed(&self, width: usize) -> Result<Self> {
        let ranges: Vec<RowRanges> = self.ranges.iter().map(|r| r.last(width)).collect();
        let root = check(&ranges, self.keys)?;
        // Rows that share a tile share it through the window too: of its keys, each sees a run.
        let tiles: Vec<Tile> = self.tiles.iter().map(|tile| through_window(tile, &ranges)).collect();
        let trees = cut_trees(&ranges, &tiles, self.keys);
        Ok(AttentionIndex {
            ranges,
            keys: self.keys,
            root,
            tiles,
            trees,
            through_window: true,
            on_webgpu: PerDevice::default(),
            on_cuda: PerDevice::default(),
        })
    }

    /// Whether it is seen through a window, where rows of a tile may begin at different keys. Kernels that cannot have
    /// that must leave all of such an index to others, rows of short histories too: a row's bits must not depend on
    /// what else its pack holds.
    pub fn through_window(&self) -> bool {
        self.through_window
    }

    /// Ranges of each query row.
    pub fn ranges(&self) -> &[RowRanges] {
        &self.ranges
    }

    /// The ranges as words, eight a row: where each begins and ends.
    pub(in crate::device) fn range_words(&self) -> Vec<u32> {
        let mut words = Vec::with_capacity(8 * self.ranges.len());
        for RowRanges([a, b, c, d]) in &self.ranges {
            words.extend_from_slice(&[a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1]);
        }
        words
    }

    /// Number of query rows.
    pub fn rows(&self) -> usize {
        self.ranges.len()
    }

    /// Number of key rows.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Keys of the root, shared by all trees.
    pub fn root(&self) -> Range<usize> {
        self.root.clone()
    }

    /// Tiles, in the order of their rows; together all rows.
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// Trees, in the order of their rows and of their keys; together all rows.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Itself on an adapter.
    pub(in crate::device) fn on_webgpu(&self, gpu: &Gpu) -> Arc<webgpu::forest_attention::DeviceIndex> {
        self.on_webgpu.on(gpu)
    }

    /// Itself on a CUDA device.
    pub(in crate::device) fn on_cuda(&self, cuda: &Cuda) -> Arc<cuda::forest_attention::DeviceIndex> {
        self.on_cuda.on(cuda)
    }

    /// Number of (query, key) pairs.
    pub fn pairs(&self) -> u64 {
        self.ranges.iter().map(|r| r.len() as u64).sum()
    }
}

/// Checks the ranges and returns the root's keys: those of all rows together.
fn check(ranges: &[RowRanges], keys: usize) -> Result<Range<usize>> {
    let fail = |row: usize, why: &str| {
        Err(Error::shape("forest_attention", format!("row {row} with ranges {:?}: {why}", ranges[row].0)))
    };
    let mut root = 0..0;
    for (row, r) in ranges.iter().enumerate() {
        if r.0.iter().any(|&(start, end)| start > end || end as usize > keys) {
            return fail(row, &format!("a range is reversed or past the {keys} keys"));
        }
        if r.is_empty() {
            return fail(row, "it sees no key");
        }
        let own = r.range(0);
        if own.is_empty() {
            continue;
        }
        root = if root.is_empty() { own } else { root.start.min(own.start)..root.end.max(own.end) };
    }
    for (row, r) in ranges.iter().enumerate() {
        let overlaps = |i| {
            let own = r.range(i);
            !own.is_empty() && own.start < root.end && own.end > root.start
        };
        if (1..4).any(overlaps) {
            return fail(row, &format!("trunk, stem or leaf overlap the root {root:?}"));
        }
    }
    Ok(root)
}

/// Rows whose shared keys start alike stand in one tile, [`TILE_ROWS`] at most; they may end differently where none of them
/// has a leaf, for its keys follow.
fn cut_tiles(ranges: &[RowRanges]) -> Vec<Tile> {
    let mut tiles: Vec<Tile> = Vec::new();
    // Of the last tile: whether rows of it end differently, and whether one has a leaf.
    let (mut apart, mut leafy) = (false, false);
    for (row, r) in ranges.iter().enumerate() {
        let has_leaf = r.0[3].0 < r.0[3].1;
        let joined = tiles.last().filter(|tile| tile.rows.len() < TILE_ROWS).and_then(|tile| {
            // Ends are compared with the first row's alone: where no row's differ from them, all are alike.
            let apart = apart | ranges[tile.rows.start].ends_apart(r)?;
            (!(apart && (leafy || has_leaf))).then_some(apart)
        });
        match (joined, tiles.last_mut()) {
            (Some(ends_apart), Some(tile)) => {
                apart = ends_apart;
                leafy |= has_leaf;
                tile.rows.end = row + 1;
                for (i, union) in tile.shared.iter_mut().enumerate() {
                    union.end = union.end.max(r.0[i].1 as usize);
                }
            }
            _ => {
                (apart, leafy) = (false, has_leaf);
                tiles.push(Tile { rows: row..row + 1, shared: [r.range(0), r.range(1), r.range(2)] });
            }
        }
    }
    tiles
}

/// The tile with those of its shared keys that rows with `ranges` see.
fn through_window(tile: &Tile, ranges: &[RowRanges]) -> Tile {
    let runs = ranges[tile.rows.clone()].iter().map(|row| {
        let from = tile.ahead(row);
        (from, from + row.shared())
    });
    let (from, to) = runs.fold((usize::MAX, 0), |(from, to), run| (from.min(run.0), to.max(run.1)));
    tile.cut(from, to)
}

/// Joins tiles whose keys meet. Where keys do not ascend with the rows, all become one tree.
fn cut_trees(ranges: &[RowRanges], tiles: &[Tile], keys: usize) -> Vec<Tree> {
    let mut trees: Vec<Tree> = Vec::new();
    for (i, tile) in tiles.iter().enumerate() {
        let spans = ranges[tile.rows.clone()].iter().filter_map(RowRanges::span);
        let span = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let last_key = trees.last().map_or(0, |t| t.keys.end);
        let span = span.map_or(last_key..last_key, |(start, end)| start as usize..end as usize);
        let joins =
            !span.is_empty() && trees.last().is_some_and(|t| !t.keys.is_empty() && span.start < t.keys.end);
        if joins && trees.last().is_some_and(|t| span.start < t.keys.start) {
            let all = Tree { tiles: 0..tiles.len(), rows: 0..ranges.len(), keys: 0..keys };
            return vec![all];
        }
        match trees.last_mut() {
            Some(tree) if joins => {
                tree.tiles.end = i + 1;
                tree.rows.end = tile.rows.end;
                tree.keys.end = tree.keys.end.max(span.end);
            }
            _ => trees.push(Tree { tiles: i..i + 1, rows: tile.rows.clone(), keys: span }),
        }
    }
    trees
}

#[cfg(test)]
mod tests;
