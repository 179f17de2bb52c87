//! Forest attention and its gradients, and the forests that they are timed on.

use super::{Bench, Ceilings, HEAD_DIM};
use lea::Result;
use lea::device::{Cost, DType};
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use lea::ops::{ForestAttention, Op, Saved};
use std::sync::Arc;

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

impl Bench {
    pub fn attention(&mut self, ceilings: &Ceilings) -> Result<()> {
        self.attention_of(DType::F32, DType::F32, "", ceilings)?;
        self.attention_of(DType::BF16, DType::BF16, "", ceilings)?;
        self.attention_of(DType::BF16, DType::F32, " (f32 in and out)", ceilings)?;
        self.by_older_kernels(|bench| bench.attention_of(DType::BF16, DType::BF16, " (sm_80)", ceilings))?;
        self.gradients(ceilings)
    }

    /// Of attention from and into f32, with products in bf16 beside those in f32.
    fn gradients(&mut self, ceilings: &Ceilings) -> Result<()> {
        for &(name, (heads, kv_heads, width), trees) in self.extents.gradients {
            let index = Arc::new(trees.index()?);
            let random = |rows, heads, seed| self.random(DType::F32, &[rows, heads * width], seed);
            let [q, dout] = [random(index.rows(), heads, 1)?, random(index.rows(), heads, 4)?];
            let [k, v] = [random(index.keys(), kv_heads, 2)?, random(index.keys(), kv_heads, 3)?];
            let scale = (width as f64).sqrt().recip();
            let over = if heads == kv_heads { String::new() } else { format!(" over {kv_heads}") };
            for products in [DType::BF16, DType::F32] {
                let mut op =
                    ForestAttention::new(index.clone(), heads, kv_heads, width, scale).products_in(products);
                let out = op.forward(&[&q, &k, &v], true)?;
                let kept = [&q, &k, &v].map(|x| Some(x.clone()));
                let saved = Saved::new(&kept, Some(&out), &[true; 3]);
                let work = op.backward_cost(&saved, &dout);
                let seconds = self.median(|| {
                    let grads = op.backward(&saved, &dout)?;
                    Ok(grads.into_iter().flatten().next().expect("a gradient of q is asked for"))
                })?;
                let name = format!("forest gradients, {heads} heads{over} of {width}, {name}");
                self.row(&name, products, work, seconds, ceilings)?;
            }
        }
        Ok(())
    }

    /// Products in one type; q, k, v and the output `stored` in one.
    fn attention_of(
        &mut self,
        products: DType,
        stored: DType,
        kernels: &str,
        ceilings: &Ceilings,
    ) -> Result<()> {
        let extents = self.extents;
        for (heads, histories) in
            [(extents.heads, extents.histories), (extents.grouped, extents.grouped_histories)]
        {
            for &history in histories {
                for &candidates in extents.candidates {
                    let (work, seconds) = self.pass(heads, [history, candidates], products, stored)?;
                    let (heads, kv_heads) = heads;
                    let over = if heads == kv_heads { String::new() } else { format!(" over {kv_heads}") };
                    let name = format!(
                        "forest, {heads} heads{over}, history {history}, {candidates} candidates{kernels}"
                    );
                    self.row(&name, products, work, seconds, ceilings)?;
                }
            }
        }
        Ok(())
    }

    /// Work and seconds of attention over one user's forest.
    fn pass(
        &self,
        (heads, kv_heads): (usize, usize),
        [history, candidates]: [u32; 2],
        products: DType,
        stored: DType,
    ) -> Result<(Cost, f64)> {
        let index = Arc::new(pass(history, candidates).index()?);
        let q = self.random(stored, &[index.rows(), heads * HEAD_DIM], 1)?;
        let k = self.random(stored, &[index.keys(), kv_heads * HEAD_DIM], 2)?;
        let v = self.random(stored, &[index.keys(), kv_heads * HEAD_DIM], 3)?;
        let scale = (HEAD_DIM as f64).sqrt().recip();
        let mut op = ForestAttention::new(index, heads, kv_heads, HEAD_DIM, scale).products_in(products);
        let work = op.cost(&[&q, &k, &v]);
        Ok((work, self.median(|| op.forward(&[&q, &k, &v], false))?))
    }
}
