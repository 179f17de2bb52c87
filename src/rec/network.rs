//! One recommender network: item embedding, encoder, supervised head and Q head.

use super::config::RecConfig;
use super::encoder::Encoder;
use super::init::Init;
use super::layout::Layout;
use super::noise::Noise;
use crate::autograd::{Param, Var, apply};
use crate::device::{DType, Device};
use crate::ops::add::Add;
use crate::ops::retrieve::retrieve;
use crate::ops::standing::{Standing, standings};
use crate::ops::{Embedding, GatherDot, Linear, LinearCrossEntropy, Scale};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Standard deviation of initial embeddings and heads.
const DEVIATION: f64 = 0.02;

/// A recommender's parameters and how they are put together.
pub struct Network {
    config: RecConfig,
    items: usize,
    /// `[items, width]`
    embedding: Param,
    encoder: Box<dyn Encoder>,
    /// `[items, width]`; the embedding itself where the head is tied.
    head: Param,
    /// `[items]`
    head_bias: Param,
    q: Option<QHead>,
}

struct QHead {
    /// `[items, width]`
    weight: Param,
    /// `[items]`
    bias: Param,
    /// `[width, state_dim]`, where the LE's state is read.
    state: Option<Param>,
}

impl Network {
    /// A new network over `items` items, from `seed`. `state_dim` is the width of the LE's states, for a configuration
    /// that reads them.
    ///
    /// # Errors
    /// Senseless settings; the LE's state switched on, and no width of states.
    pub fn new(
        config: &RecConfig,
        items: usize,
        state_dim: usize,
        home: (&Device, DType),
        seed: u64,
    ) -> Result<Self> {
        Self::build(config, items, state_dim, &mut Init::random(home, seed))
    }

    /// As [`Network::new`], with parameters from `init`.
    pub(super) fn build(config: &RecConfig, items: usize, state_dim: usize, init: &mut Init) -> Result<Self> {
        config.validate()?;
        let table = [items, config.width];
        let embedding = init.normal("items.weight", &table, DEVIATION)?;
        let encoder = config.encoder(init)?;
        let head = match config.tied {
            true => embedding.clone(),
            false => init.normal("head.weight", &table, DEVIATION)?,
        };
        let head_bias = init.constant("head.bias", &[items], 0.0)?;
        let q = match config.framework.has_q() {
            true => Some(QHead::new(config, items, state_dim, init)?),
            false => None,
        };
        Ok(Network { config: config.clone(), items, embedding, encoder, head, head_bias, q })
    }

    /// The settings it was made with.
    pub fn config(&self) -> &RecConfig {
        &self.config
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Width of the LE's states that the Q head reads; 0 where it reads none.
    pub fn state_dim(&self) -> usize {
        let state = self.q.as_ref().and_then(|q| q.state.as_ref());
        state.map_or(0, |weight| weight.value().shape()[1])
    }

    /// All parameters, in a fixed order, each once.
    pub fn params(&self) -> Vec<Param> {
        let mut params = vec![self.embedding.clone()];
        params.extend(self.encoder.params());
        if !self.config.tied {
            params.push(self.head.clone());
        }
        params.push(self.head_bias.clone());
        if let Some(q) = &self.q {
            params.extend([q.weight.clone(), q.bias.clone()]);
            params.extend(q.state.clone());
        }
        params
    }

    /// Type and place of the parameters.
    pub fn home(&self) -> (Device, DType) {
        let weight = self.embedding.value();
        (weight.device().clone(), weight.dtype())
    }

    /// Hidden vectors h `[rows, width]` of the items `ids: [rows]`, u32, or of the rows that `layout` lets leave. The
    /// encoder reads embeddings times √width: they start small for the sake of the tied head, too small beside positions or
    /// in gates.
    pub fn hidden(&self, ids: &Tensor, layout: &Layout, noise: &Noise) -> Result<Var> {
        let x = apply(Embedding::new(ids.clone()), &[&self.embedding.var()])?;
        let x = apply(Scale((self.config.width as f64).sqrt()), &[&x])?;
        self.encoder.encode(x, layout, noise)
    }

    /// Scores of all items for the supervised ranking: `h: [n, width]` → `[n, items]`.
    pub fn logits(&self, h: &Var) -> Result<Var> {
        let inputs = [h, &self.head.var(), &self.head_bias.var()];
        apply(Linear { bias: true, ..Linear::default() }, &inputs)
    }

    /// How `targets`, u32 `[n]`, stand among those scores.
    pub fn standings(&self, h: &Tensor, targets: &Tensor) -> Result<Vec<Standing>> {
        standings(h, &self.head.value(), &self.head_bias.value(), targets)
    }

    /// Cross-entropy of those scores against `targets`, u32 `[n]`: `[n]`. `weights: [n]` are those that the losses will be
    /// added with.
    pub fn losses(&self, h: &Var, targets: Tensor, weights: Tensor) -> Result<Var> {
        let op = LinearCrossEntropy::new(targets).expecting(weights);
        apply(op, &[h, &self.head.var(), &self.head_bias.var()])
    }

    /// The scores of chosen items only: `ids: [n, k]` → `[n, k]`.
    pub fn logits_of(&self, h: &Var, ids: Tensor) -> Result<Var> {
        apply(GatherDot::new(ids), &[h, &self.head.var(), &self.head_bias.var()])
    }

    /// What the Q head reads: h, plus a projection of the LE's `states: [n, state_dim]` where it reads them.
    pub fn q_features(&self, h: &Var, states: Option<&Tensor>) -> Result<Var> {
        match (&self.q_head()?.state, states) {
            (None, _) => Ok(h.clone()),
            (Some(weight), Some(states)) => {
                let projected = apply(Linear::default(), &[&Var::constant(states.clone()), &weight.var()])?;
                apply(Add, &[h, &projected])
            }
            (Some(_), None) => {
                Err(Error::shape("q_features", "the Q head reads the LE's states, and none were given"))
            }
        }
    }

    /// Q-values of chosen actions: `features: [n, width]`, `ids: [n, k]` → `[n, k]`.
    pub fn q_of(&self, features: &Var, ids: Tensor) -> Result<Var> {
        let q = self.q_head()?;
        apply(GatherDot::new(ids), &[features, &q.weight.var(), &q.bias.var()])
    }

    /// The action of the highest Q-value for every row of `features: [n, width]`: u32 `[n, 1]`.
    ///
    /// # Errors
    /// A row without any Q-value that is a number, where the host knows the actions. On a device such a row has `u32::MAX`,
    /// whose Q-value is NaN.
    pub fn best_actions(&self, features: &Tensor) -> Result<Tensor> {
        let q = self.q_head()?;
        let (_, best) = retrieve(features, &q.weight.value(), Some(&q.bias.value()), 1, &[])?;
        if best.known_ids().is_some_and(|ids| ids.contains(&u32::MAX)) {
            let problem = "training diverged: a state has no Q-value that is a number";
            return Err(Error::setting(problem, "lower the learning rate, or set clip_norm"));
        }
        Ok(best)
    }

    fn q_head(&self) -> Result<&QHead> {
        self.q.as_ref().ok_or_else(|| {
            Error::setting("a supervised recommender has no Q head", "choose sqn, snqn or sa2c")
        })
    }
}

impl QHead {
    fn new(config: &RecConfig, items: usize, state_dim: usize, init: &mut Init) -> Result<Self> {
        let state = match (config.state, state_dim) {
            (false, _) => None,
            (true, 0) => {
                let problem = "state is on, and the labels hold no states";
                return Err(Error::setting(problem, "label again with states, or switch state off"));
            }
            (true, dim) => Some(init.uniform("q.state.weight", &[config.width, dim], dim)?),
        };
        Ok(QHead {
            weight: init.normal("q.weight", &[items, config.width], DEVIATION)?,
            bias: init.constant("q.bias", &[items], 0.0)?,
            state,
        })
    }
}
