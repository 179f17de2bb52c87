//! SASRec (Kang and McAuley, arXiv 1808.09781): causal self-attention over the items with learned positions, in
//! pre-norm blocks of attention and a point-wise feed-forward layer.

use super::config::RecConfig;
use super::encoder::Encoder;
use super::init::Init;
use super::layers::{Norm, linear};
use super::layout::{Layout, Read};
use super::noise::Noise;
use crate::Result;
use crate::autograd::{Param, Var, apply};
use crate::nn::Linear;
use crate::ops::add::Add;
use crate::ops::{Activation, Embedding, ForestAttention};

/// The encoder.
pub struct SasRec {
    /// `[history, width]`.
    positions: Param,
    blocks: Vec<Block>,
    norm: Norm,
}

struct Block {
    heads: usize,
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    inner_norm: Norm,
    inner: Linear,
    outer: Linear,
}

impl SasRec {
    /// A new encoder with `config`'s width, blocks, heads and history.
    pub fn new(config: &RecConfig, init: &mut Init) -> Result<Self> {
        let positions = init.normal("encoder.positions", &[config.history, config.width], 0.02)?;
        let block = |i| Block::new(config, init, &format!("encoder.blocks.{i}"));
        let blocks = (0..config.blocks).map(block).collect::<Result<_>>()?;
        Ok(SasRec { positions, blocks, norm: Norm::new(init, "encoder.norm", config.width)? })
    }
}

impl Encoder for SasRec {
    fn encode(&self, x: Var, layout: &Layout, noise: &Noise) -> Result<Var> {
        let positions = apply(Embedding::new(layout.positions().clone()), &[&self.positions.var()])?;
        let mut x = noise.apply(apply(Add, &[&x, &positions])?)?;
        for (i, block) in self.blocks.iter().enumerate() {
            // Behind the last block's keys and values nobody needs the rows that are not read.
            let read = layout.read().filter(|_| i + 1 == self.blocks.len());
            x = block.forward(x, layout, read, noise)?;
        }
        self.norm.forward(&x)
    }

    fn params(&self) -> Vec<Param> {
        let blocks = self.blocks.iter().flat_map(Block::params);
        [self.positions.clone()]
            .into_iter()
            .chain(blocks)
            .chain(self.norm.params().map(Param::clone))
            .collect()
    }
}

impl Block {
    fn new(config: &RecConfig, init: &mut Init, name: &str) -> Result<Self> {
        let width = config.width;
        let mut square = |part: &str| linear(init, &format!("{name}.{part}"), width, width);
        let [query, key, value, output] = ["query", "key", "value", "output"].map(&mut square);
        let [inner, outer] = ["inner", "outer"].map(square);
        Ok(Block {
            heads: config.heads,
            attention_norm: Norm::new(init, &format!("{name}.attention_norm"), width)?,
            query: query?,
            key: key?,
            value: value?,
            output: output?,
            inner_norm: Norm::new(init, &format!("{name}.inner_norm"), width)?,
            inner: inner?,
            outer: outer?,
        })
    }

    fn forward(&self, x: Var, layout: &Layout, read: Option<&Read>, noise: &Noise) -> Result<Var> {
        let y = self.attention_norm.forward(&x)?;
        let [k, v] = [&self.key, &self.value].map(|linear| linear.forward(&y));
        let (x, y, index) = match read {
            Some(read) => {
                let pick = |all: &Var| apply(Embedding::new(read.rows.clone()), &[all]);
                (pick(&x)?, pick(&y)?, layout.attention_of_read(read)?)
            }
            None => (x, y, layout.attention()?),
        };
        let q = self.query.forward(&y);
        let head_dim = y.value().shape()[1] / self.heads;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let attention = ForestAttention::new(index, self.heads, self.heads, head_dim, scale);
        let seen = apply(attention, &[&q?, &k?, &v?])?;
        let x = apply(Add, &[&x, &noise.apply(self.output.forward(&seen)?)?])?;
        let y = self.inner.forward(&self.inner_norm.forward(&x)?)?;
        let y = noise.apply(apply(Activation::Relu, &[&y])?)?;
        apply(Add, &[&x, &noise.apply(self.outer.forward(&y)?)?])
    }

    fn params(&self) -> Vec<Param> {
        let linear = [&self.query, &self.key, &self.value, &self.output, &self.inner, &self.outer];
        let norms = self.attention_norm.params().into_iter().chain(self.inner_norm.params());
        linear.into_iter().flat_map(Linear::params).chain(norms).cloned().collect()
    }
}
