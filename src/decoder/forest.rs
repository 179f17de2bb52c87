//! Forests: many prompts that share prefixes, as one flat list of token rows.
//!
//! ```text
//! root   rows shared by all trees              length P
//! trunk  x_1 … x_T of one tree                 length T
//! stem   rows after x_t, shared by its leaves  length S ≥ 0
//! leaf   rows of one branch end                length b ≥ 1
//! ```
//! Memory order: root, then per tree its trunk, stems, and leaves grouped by branch. A row sees its ancestors and
//! itself, and its position id is its depth. Tokens are rows of whatever tables the caller embeds them from.

use crate::device::{AttentionIndex, RowRanges};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// One tree: a trunk and what branches off it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Tokens of the trunk.
    pub trunk: Vec<u32>,
    /// Branches, in any order of `at`.
    pub branches: Vec<Branch>,
}

/// Leaves behind one trunk row.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    /// Trunk row that the branch follows.
    pub at: usize,
    /// Tokens of each leaf; may be none where leaves are streamed later.
    pub leaves: Vec<Vec<u32>>,
}

/// Token rows with what attention and rotary embedding need to know of them.
#[derive(Clone, Debug)]
pub struct Forest {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Depth of each row.
    pub positions: Vec<u32>,
    /// Keys that each row sees.
    pub index: Arc<AttentionIndex>,
    /// Trunk rows of each tree.
    pub trunks: Vec<Range<usize>>,
    /// Last row of every leaf, in the order of trees, branches and leaves.
    pub leaf_ends: Vec<u32>,
    branches: Vec<Seen>,
    context: usize,
}

/// What a leaf at one branch sees, and the depth of its first row.
#[derive(Clone, Copy, Debug)]
struct Seen {
    root: (u32, u32),
    trunk: (u32, u32),
    stem: (u32, u32),
    depth: u32,
}

/// Leaves streamed against a forest whose keys and values are resident: key rows are the forest's, then these.
#[derive(Clone, Debug)]
pub struct LeafRows {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Depth of each row.
    pub positions: Vec<u32>,
    /// Keys that each row sees, over `forest rows + own rows`.
    pub index: Arc<AttentionIndex>,
    /// Last row of every leaf.
    pub leaf_ends: Vec<u32>,
}

#[derive(Default)]
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    ranges: Vec<RowRanges>,
}

impl Rows {
    fn len(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Appends a run of rows that see `before`, then each other causally as range number `own`; returns the run.
    fn push_run(
        &mut self,
        tokens: &[u32],
        depth: u32,
        before: RowRanges,
        own: usize,
        key_base: u32,
    ) -> (u32, u32) {
        let start = key_base + self.len();
        for (i, &token) in tokens.iter().enumerate() {
            let mut ranges = before;
            ranges.0[own] = (start, start + i as u32 + 1);
            self.tokens.push(token);
            self.positions.push(depth + i as u32);
            self.ranges.push(ranges);
        }
        (start, start + tokens.len() as u32)
    }

    fn push_leaf(&mut self, tokens: &[u32], seen: &Seen, key_base: u32) -> Result<u32> {
        if tokens.is_empty() {
            return Err(Error::shape("forest", "a leaf has no token: the reward would be read nowhere"));
        }
        let before = RowRanges([seen.root, seen.trunk, seen.stem, (0, 0)]);
        self.push_run(tokens, seen.depth, before, 3, key_base);
        Ok(self.len() - 1)
    }
}

impl Forest {
    /// Lays out `trees` under `root`, every branch with the same `stem`. A row deeper than `context`, the decoder's
    /// limit, is an error.
    pub fn build(root: &[u32], stem: &[u32], trees: &[Tree], context: usize) -> Result<Self> {
        let mut rows = Rows::default();
        let none = RowRanges::default();
        let root_rows = rows.push_run(root, 0, none, 0, 0);
        let (mut trunks, mut leaf_ends, mut branches) = (Vec::new(), Vec::new(), Vec::new());
        for tree in trees {
            let first_branch = branches.len();
            let seen_root = RowRanges([root_rows, (0, 0), (0, 0), (0, 0)]);
            let trunk = rows.push_run(&tree.trunk, root.len() as u32, seen_root, 1, 0);
            trunks.push(trunk.0 as usize..trunk.1 as usize);
            for branch in &tree.branches {
                if branch.at >= tree.trunk.len() {
                    let problem =
                        format!("a branch at row {} of a trunk of {} rows", branch.at, tree.trunk.len());
                    return Err(Error::shape("forest", problem));
                }
                let seen_trunk = (trunk.0, trunk.0 + branch.at as u32 + 1);
                let depth = (root.len() + branch.at + 1) as u32;
                let before = RowRanges([root_rows, seen_trunk, (0, 0), (0, 0)]);
                let stem_rows = rows.push_run(stem, depth, before, 2, 0);
                let depth = depth + stem.len() as u32;
                // An empty stem still has a position in the order of rows; its range must be empty everywhere.
                let stem = if stem.is_empty() { (0, 0) } else { stem_rows };
                branches.push(Seen { root: root_rows, trunk: seen_trunk, stem, depth });
            }
            for (branch, seen) in tree.branches.iter().zip(&branches[first_branch..]) {
                for leaf in &branch.leaves {
                    leaf_ends.push(rows.push_leaf(leaf, seen, 0)?);
                }
            }
        }
        check_depth(&rows.positions, context)?;
        let keys = rows.ranges.len();
        let index = Arc::new(AttentionIndex::new(rows.ranges, keys)?);
        let Rows { tokens, positions, .. } = rows;
        Ok(Forest { tokens, positions, index, trunks, leaf_ends, branches, context })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Number of branches, counted over trees in order.
    pub fn branches(&self) -> usize {
        self.branches.len()
    }

    /// Lays out leaves, each `(branch, tokens)` with ascending branches, to run against this forest's resident keys.
    pub fn leaf_rows<'a>(&self, leaves: impl IntoIterator<Item = (usize, &'a [u32])>) -> Result<LeafRows> {
        let mut rows = Rows::default();
        let mut leaf_ends = Vec::new();
        for (branch, tokens) in leaves {
            let Some(seen) = self.branches.get(branch) else {
                return Err(Error::shape("forest", format!("branch {branch} of {}", self.branches.len())));
            };
            leaf_ends.push(rows.push_leaf(tokens, seen, self.rows() as u32)?);
        }
        check_depth(&rows.positions, self.context)?;
        let keys = self.rows() + rows.ranges.len();
        let index = Arc::new(AttentionIndex::new(rows.ranges, keys)?);
        Ok(LeafRows { tokens: rows.tokens, positions: rows.positions, index, leaf_ends })
    }
}

fn check_depth(positions: &[u32], context: usize) -> Result<()> {
    match positions.iter().max() {
        Some(&deepest) if deepest as usize >= context => Err(Error::setting(
            format!("a prompt of {} tokens is longer than the decoder's context of {context}", deepest + 1),
            "shorten the root, stem or closing text, or lower the history length",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let leaf = |tokens: &[u32]| tokens.to_vec();
        let branches = vec![
            Branch { at: 0, leaves: vec![leaf(&[50]), leaf(&[51, 9])] },
            Branch { at: 2, leaves: vec![leaf(&[52])] },
        ];
        Tree { trunk: vec![10, 11, 12], branches }
    }

    #[test]
    fn a_leaf_sees_its_ancestors_and_itself() {
        let forest = Forest::build(&[1, 2], &[7], &[tree(), tree()], 100).unwrap();
        // Root 0..2; trunk 2..5; stems 5, 6; leaves 7, 8..10, 10; then the second tree.
        assert_eq!(forest.tokens[..11], [1, 2, 10, 11, 12, 7, 7, 50, 51, 9, 52]);
        assert_eq!(forest.positions[..11], [0, 1, 2, 3, 4, 3, 5, 4, 4, 5, 6]);
        assert_eq!(forest.leaf_ends, [7, 9, 10, 16, 18, 19]);
        assert_eq!(forest.index.ranges()[9].0, [(0, 2), (2, 3), (5, 6), (8, 10)]);
        assert_eq!(forest.index.ranges()[19].0, [(0, 2), (11, 14), (15, 16), (19, 20)]);
        assert_eq!(forest.trunks, [2..5, 11..14]);
    }

    #[test]
    fn streamed_leaves_see_what_resident_ones_see() {
        let whole = Forest::build(&[1], &[], &[tree()], 100).unwrap();
        let mut bare = tree();
        bare.branches.iter_mut().for_each(|b| b.leaves.clear());
        let resident = Forest::build(&[1], &[], &[bare], 100).unwrap();
        let leaves = resident.leaf_rows([(0, &[50][..]), (0, &[51, 9]), (1, &[52])]).unwrap();
        assert_eq!(resident.rows(), 4);
        assert_eq!(leaves.tokens, whole.tokens[4..]);
        assert_eq!(leaves.positions, whole.positions[4..]);
        assert_eq!(leaves.index.ranges(), &whole.index.ranges()[4..]);
    }

    #[test]
    fn what_does_not_fit_the_context_is_an_error() {
        let error = Forest::build(&[1, 2], &[7], &[tree()], 6).unwrap_err().to_string();
        assert!(error.contains("7 tokens") && error.contains("context of 6"), "{error}");
        assert!(Forest::build(&[1, 2], &[7], &[tree()], 7).is_ok());
        let empty_leaf = Tree { trunk: vec![1], branches: vec![Branch { at: 0, leaves: vec![vec![]] }] };
        assert!(Forest::build(&[], &[], &[empty_leaf], 6).is_err());
    }
}
