//! Forests that attention is timed on.

use lea::Result;
use lea::ops::forest_attention::{AttentionIndex, RowRanges};

/// Users under a root, each with a trunk, a stem behind each of its steps and leaves behind that.
#[derive(Clone, Copy)]
pub struct Trees {
    pub users: u32,
    pub root: u32,
    pub trunk: u32,
    pub stem: u32,
    pub leaves: u32,
    pub leaf: u32,
}

/// A user's trunk and, of every step of it, one leaf a candidate.
pub const fn pass(trunk: u32, leaves: u32) -> Trees {
    Trees { users: 1, root: 0, trunk, stem: 0, leaves, leaf: 1 }
}

impl Trees {
    /// All as one pass.
    pub fn index(self) -> Result<AttentionIndex> {
        let root = (0, self.root);
        let mut rows: Vec<RowRanges> =
            (0..self.root).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
        for _ in 0..self.users {
            let start = rows.len() as u32;
            rows.extend((0..self.trunk).map(|t| RowRanges([root, (start, start + t + 1), (0, 0), (0, 0)])));
            for t in 0..self.trunk {
                let (trunk, stem) = ((start, start + t + 1), rows.len() as u32);
                rows.extend((0..self.stem).map(|i| RowRanges([root, trunk, (stem, stem + i + 1), (0, 0)])));
                for _ in 0..self.leaves {
                    let leaf = rows.len() as u32;
                    let own = |i| RowRanges([root, trunk, (stem, stem + self.stem), (leaf, leaf + i + 1)]);
                    rows.extend((0..self.leaf).map(own));
                }
            }
        }
        let keys = rows.len();
        AttentionIndex::new(rows, keys)
    }
}
