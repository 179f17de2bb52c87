//! An index as the gradients of keys and values on tensor cores see it, see `kernels/forest_attention_bf16_backward.cu`.

use crate::Result;
use crate::device::AttentionIndex;
use crate::device::cuda::{Buffer, Cuda};

/// Shared keys of a block; `BACK_TILE` of the file.
pub(super) const BLOCK: usize = 64;
/// Least tiles of a part, where rows are so many.
const LEAST: usize = 4;
/// Most parts of a block of as many keys, and more of one of fewer: the sums of a part are written and read again.
const MOST: usize = 8;

/// Rows in lists, cut into parts. See the kernel for the layouts.
pub(super) struct Parts {
    /// `[parts, 4]`.
    pub parts: Buffer,
    pub count: usize,
    /// `[listed, 4]`.
    pub seen: Buffer,
    /// `[keys, 4]`.
    pub of_keys: Buffer,
    /// Rows that see each key as a leaf key, ascending.
    pub leaf_rows: Buffer,
}

/// Shared keys that stand together, and the rows that see one of them.
#[derive(Debug, PartialEq)]
struct Block {
    /// Place of its first key among the shared ones.
    first: usize,
    keys: usize,
    /// Rows, ascending, with the bits of the keys that they see.
    seen: Vec<(u32, u64)>,
}

impl Block {
    /// Rows of a part. It follows from the block alone, as do its keys and rows from their tree, so the sums do too. `tile_rows`: those of
    /// a tile; times heads of the group they are alike in all layouts of heads.
    fn part_rows(&self, tile_rows: usize) -> usize {
        self.seen.len().div_ceil(MOST * BLOCK / self.keys).max(LEAST * tile_rows)
    }
}

/// The blocks of the keys `shared`, ascending ones: of one tree each, or of the root.
fn blocks(index: &AttentionIndex, shared: &[u32]) -> Vec<Block> {
    let trees = index.trees();
    let tree_of = |key: u32| match index.root().contains(&(key as usize)) {
        true => usize::MAX,
        false => trees.partition_point(|tree| tree.keys.end <= key as usize),
    };
    let mut blocks: Vec<Block> = Vec::new();
    let mut last = None;
    let mut block_of = Vec::with_capacity(shared.len());
    for (place, &key) in shared.iter().enumerate() {
        let tree = Some(tree_of(key));
        match blocks.last_mut() {
            Some(block) if tree == last && block.keys < BLOCK => block.keys += 1,
            _ => blocks.push(Block { first: place, keys: 1, seen: Vec::new() }),
        }
        last = tree;
        block_of.push(blocks.len() - 1);
    }
    for (row, ranges) in (0u32..).zip(index.ranges()) {
        for range in (0..3).map(|i| ranges.range(i)).filter(|range| !range.is_empty()) {
            // Keys of a range stand one after the other among the shared ones too.
            let from = shared.partition_point(|&key| (key as usize) < range.start);
            let to = from + range.len();
            for block in &mut blocks[block_of[from]..=block_of[to - 1]] {
                let within = |place: usize| place.clamp(block.first, block.first + block.keys) - block.first;
                let (from, to) = (within(from), within(to));
                let bits = (u64::MAX >> (BLOCK - (to - from))) << from;
                match block.seen.last_mut() {
                    Some((last, seen)) if *last == row => *seen |= bits,
                    _ => block.seen.push((row, bits)),
                }
            }
        }
    }
    blocks
}

/// Of each key where its rows begin and end in a list of those that see it as a leaf key, and the list.
fn leaf_rows(index: &AttentionIndex) -> (Vec<u32>, Vec<u32>) {
    let mut from = vec![0u32; index.keys() + 1];
    let leaves = || (0u32..).zip(index.ranges()).map(|(row, ranges)| (row, ranges.range(3)));
    for key in leaves().flat_map(|(_, leaf)| leaf) {
        from[key + 1] += 1;
    }
    for key in 0..index.keys() {
        from[key + 1] += from[key];
    }
    let mut next = from.clone();
    let mut rows = vec![0u32; from[index.keys()] as usize];
    for (row, leaf) in leaves() {
        for key in leaf {
            rows[next[key] as usize] = row;
            next[key] += 1;
        }
    }
    (from, rows)
}

impl Parts {
    /// Parts of the keys `shared`, ascending, for tiles of at most `tile_rows` rows.
    pub fn new(index: &AttentionIndex, cuda: &Cuda, shared: &[u32], tile_rows: usize) -> Result<Self> {
        let (mut parts, mut seen): (Vec<u32>, Vec<u32>) = Default::default();
        let (leaf_from, leaf_rows) = leaf_rows(index);
        let mut of_keys: Vec<[u32; 4]> = leaf_from.windows(2).map(|leaf| [0, 0, leaf[0], leaf[1]]).collect();
        for block in blocks(index, shared) {
            let (first_part, listed) = (parts.len() / 4, seen.len() / 4);
            let part_rows = block.part_rows(tile_rows);
            for from in (0..block.seen.len()).step_by(part_rows) {
                let to = (from + part_rows).min(block.seen.len());
                parts.extend([block.first, block.keys, listed + from, listed + to].map(|word| word as u32));
            }
            let count = parts.len() / 4 - first_part;
            for (i, &key) in shared[block.first..][..block.keys].iter().enumerate() {
                let [first, parts, ..] = &mut of_keys[key as usize];
                (*first, *parts) = ((first_part * BLOCK + i) as u32, count as u32);
            }
            seen.extend(
                block.seen.iter().flat_map(|&(row, bits)| [row, bits as u32, (bits >> 32) as u32, 0]),
            );
        }
        Ok(Parts {
            count: parts.len() / 4,
            parts: Buffer::copy_of(cuda, &parts)?,
            seen: Buffer::copy_of(cuda, &seen)?,
            of_keys: Buffer::copy_of(cuda, of_keys.as_flattened())?,
            leaf_rows: Buffer::copy_of(cuda, &leaf_rows)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::RowRanges;

    /// A root of two, then trunks with a leaf of two rows behind the first step of each.
    fn forest(trunks: &[u32]) -> AttentionIndex {
        let mut rows: Vec<RowRanges> =
            (0..2).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
        for &trunk in trunks {
            let start = rows.len() as u32;
            rows.extend((0..trunk).map(|t| RowRanges([(0, 2), (start, start + t + 1), (0, 0), (0, 0)])));
            let leaf = start + trunk;
            rows.extend(
                (0..2).map(|i| RowRanges([(0, 2), (start, start + 1), (0, 0), (leaf, leaf + i + 1)])),
            );
        }
        let keys = rows.len();
        AttentionIndex::new(rows, keys).unwrap()
    }

    fn shared(index: &AttentionIndex) -> Vec<u32> {
        let sees = |key: &usize| index.ranges().iter().any(|r| (0..3).any(|i| r.range(i).contains(key)));
        (0..index.keys()).filter(sees).map(|key| key as u32).collect()
    }

    #[test]
    fn blocks_end_where_trees_do() {
        let index = forest(&[70, 3]);
        let blocks = blocks(&index, &shared(&index));
        let extents: Vec<_> = blocks.iter().map(|b| (b.first, b.keys, b.seen.len())).collect();
        // The root is seen by all, a step by those behind it; its leaves see the first step alone.
        assert_eq!(extents, [(0, 2, 79), (2, 64, 72), (66, 6, 6), (72, 3, 5)]);
        assert_eq!(blocks[0].seen[..3], [(0, 1), (1, 3), (2, 3)]);
        assert_eq!(blocks[1].seen[63..66], [(65, u64::MAX), (66, u64::MAX), (67, u64::MAX)]);
        assert_eq!(blocks[1].seen[70..], [(72, 1), (73, 1)]);
        assert_eq!(blocks[3].seen, [(74, 1), (75, 3), (76, 7), (77, 1), (78, 1)]);
    }

    #[test]
    fn parts_of_a_tree_follow_from_it_alone() {
        let [both, alone] = [forest(&[300, 600]), forest(&[600])];
        let of = |index: &AttentionIndex| {
            let mut blocks = blocks(index, &shared(index));
            blocks.remove(0);
            blocks.iter().map(|b| (b.keys, b.seen.len(), b.part_rows(16))).collect::<Vec<_>>()
        };
        let (both, alone) = (of(&both), of(&alone));
        assert_eq!(both[both.len() - alone.len()..], alone);
        assert_eq!(alone[0], (64, 602, 76));
        assert_eq!(alone.last().unwrap(), &(24, 24, 64));
        let root = |index: &AttentionIndex| blocks(index, &shared(index))[0].part_rows(16);
        // Of two keys 256 parts are no more sums than eight of 64 keys.
        assert_eq!(root(&forest(&[9_000, 11_000])), 20_006usize.div_ceil(256));
    }

    #[test]
    fn rows_of_a_leaf_stand_in_order() {
        let (from, rows) = leaf_rows(&forest(&[1, 2]));
        assert_eq!(from, [0, 0, 0, 0, 2, 3, 3, 3, 5, 6]);
        assert_eq!(rows, [3, 4, 4, 7, 8, 8]);
    }
}
