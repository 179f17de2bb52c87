//! One decoder layer: attention over a forest and a feed-forward block, each behind an RMS norm.

use super::rows::ReadRows;
use crate::Result;
use crate::autograd::{Param, Var, apply, is_recorded};
use crate::device::DType;
use crate::nn::Linear;
use crate::ops::forest_attention::AttentionIndex;
use crate::ops::rope::RopeTable;
use crate::ops::{
    AttentionInputs, ConcatRows, Embedding, FeedForward, ForestAttention, GatedLinear, Reshape, RmsNorm,
    Rope, SwiGlu,
};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Weights of one layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Norm before attention `[d]`.
    pub input_norm: Param,
    /// Query projection `[heads·head_dim, d]`.
    pub q: Linear,
    /// Key projection `[kv_heads·head_dim, d]`.
    pub k: Linear,
    /// Value projection `[kv_heads·head_dim, d]`.
    pub v: Linear,
    /// Output projection `[d, heads·head_dim]`.
    pub o: Linear,
    /// Norms of the query and key heads `[head_dim]`, where the family has them.
    pub head_norms: Option<HeadNorms>,
    /// Norm before the feed-forward block `[d]`.
    pub post_norm: Param,
    /// Gate projection `[f, d]`.
    pub gate: Linear,
    /// Up projection `[f, d]`.
    pub up: Linear,
    /// Down projection `[d, f]`.
    pub down: Linear,
}

/// Norms of single heads, ahead of their rotation (Qwen3).
#[derive(Clone, Debug)]
pub struct HeadNorms {
    /// Weight for every query head `[head_dim]`.
    pub q: Param,
    /// Weight for every key head `[head_dim]`.
    pub k: Param,
}

/// What all layers share.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub eps: f64,
    pub rope: Arc<RopeTable>,
}

/// One layer's share of a pass.
#[derive(Clone)]
pub(super) struct LayerPass {
    pub geometry: Geometry,
    pub positions: Tensor,
    pub index: Arc<AttentionIndex>,
    /// Rows that leave the layer, where not all do.
    pub read: Option<Arc<ReadRows>>,
    /// Keys and values of earlier rows, which stand before the pass's own.
    pub resident: Option<(Tensor, Tensor)>,
    /// Training step, for the adapters' dropout.
    pub dropout_step: Option<u64>,
}

pub(super) struct LayerOutput {
    /// `[rows or read rows, d]`.
    pub hidden: Var,
    /// Keys, rotated, and values of resident and own rows `[keys, kv_heads·head_dim]`.
    pub keys: Var,
    pub values: Var,
}

/// What attention reads, and the rows of x that leave the layer.
struct Inputs {
    x: Var,
    q: Var,
    keys: Var,
    values: Var,
    index: Arc<AttentionIndex>,
}

impl Layer {
    pub(super) fn forward(&self, x: &Var, pass: &LayerPass) -> Result<LayerOutput> {
        let Geometry { heads, kv_heads, head_dim, eps, .. } = &pass.geometry;
        let step = pass.dropout_step;
        let factors = self.factor_type(x);
        let Inputs { x, q, keys, values, index } = match self.inputs_in_one(x, pass, factors)? {
            Some(inputs) => inputs,
            None => self.inputs(x, pass, factors)?,
        };
        let scale = (*head_dim as f64).sqrt().recip();
        let attention = ForestAttention::new(index, *heads, *kv_heads, *head_dim, scale);
        // Where projections are rounded, rounding what they give costs nothing that was there.
        let attention = attention.products_in(self.q.weight.value().dtype()).giving(factors);
        let mixed = apply(attention, &[&q, &keys, &values])?;
        let x = self.o.run(&mixed, Some(&x), step)?;
        let norm = RmsNorm::new(*eps).giving(factors);
        let hidden = self.feed_forward(&x, (*eps, norm), step)?;
        Ok(LayerOutput { hidden, keys, values })
    }

    /// What attention reads by one op, where nothing stands between and no gradient is asked for.
    fn inputs_in_one(&self, x: &Var, pass: &LayerPass, factors: DType) -> Result<Option<Inputs>> {
        let (stays, Geometry { eps, rope, .. }) = (x.value().dtype(), &pass.geometry);
        if factors == stays || pass.read.is_some() || self.head_norms.is_some() {
            return Ok(None);
        }
        let value = |linear: &Linear| (linear.weight.value(), linear.bias.as_ref().map(Param::value));
        let [q, k, v] = [value(&self.q), value(&self.k), value(&self.v)];
        let norm = self.input_norm.value();
        let all = AttentionInputs {
            x: x.value(),
            norm: &norm,
            eps: *eps,
            projections: [(&q.0, q.1.as_ref()), (&k.0, k.1.as_ref()), (&v.0, v.1.as_ref())],
            positions: &pass.positions,
            rope,
        };
        if !all.are_taken() {
            return Ok(None);
        }
        let [q, k, v] = all.run()?.map(Var::constant);
        let (keys, values) = behind_resident(pass, k, v)?;
        Ok(Some(Inputs { x: x.clone(), q, keys, values, index: pass.index.clone() }))
    }

    /// The same by an op for each step.
    fn inputs(&self, x: &Var, pass: &LayerPass, factors: DType) -> Result<Inputs> {
        let Geometry { heads, kv_heads, eps, rope, .. } = &pass.geometry;
        let step = pass.dropout_step;
        let norm = RmsNorm::new(*eps).giving(factors);
        let normed = apply(norm, &[x, &self.input_norm.var()])?;
        let k = self.k.run(&normed, None, step)?;
        let k = head_norm(&k, self.head_norms.as_ref().map(|n| &n.k), *eps)?;
        let k = apply(Rope::new(pass.positions.clone(), rope.clone(), *kv_heads).giving(factors), &[&k])?;
        let v = self.v.run_giving(Some(factors), &normed, None, step)?;
        let (keys, values) = behind_resident(pass, k, v)?;
        // Rows that nobody reads end here: they were needed for their keys and values alone.
        let (x, normed, positions, index) = match &pass.read {
            Some(read) => {
                let pick = |all: &Var| apply(Embedding::new(read.rows.clone()), &[all]);
                (pick(x)?, pick(&normed)?, &read.positions, &read.index)
            }
            None => (x.clone(), normed, &pass.positions, &pass.index),
        };
        let q = self.q.run(&normed, None, step)?;
        let q = head_norm(&q, self.head_norms.as_ref().map(|n| &n.q), *eps)?;
        let q = apply(Rope::new(positions.clone(), rope.clone(), *heads).giving(factors), &[&q])?;
        Ok(Inputs { x, q, keys, values, index: index.clone() })
    }

    /// The type of what only the projections read.
    fn factor_type(&self, x: &Var) -> DType {
        let projections = [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down];
        let alike = |linear: &&Linear| {
            let weight = linear.weight.value();
            linear.lora.is_none() && weight.dtype() == self.q.weight.value().dtype()
        };
        let vars: Vec<Var> = projections
            .iter()
            .flat_map(|linear| linear.params())
            .chain([&self.input_norm, &self.post_norm])
            .map(Param::var)
            .chain([x.clone()])
            .collect();
        let stays = x.value().dtype();
        if is_recorded(&vars.iter().collect::<Vec<_>>()) || !projections.iter().all(alike) {
            return stays;
        }
        match self.q.weight.value().dtype() {
            // What is computed in another type than f32 is not rounded.
            weight if stays == DType::F32 => x.value().device().factor_type(weight),
            _ => stays,
        }
    }

    fn feed_forward(&self, x: &Var, (eps, norm): (f64, RmsNorm), step: Option<u64>) -> Result<Var> {
        // A gate with a bias or an adapter is an op of its own, in f32.
        let plain = |linear: &Linear| linear.bias.is_none() && linear.lora.is_none();
        let [gate, up, down] = [&self.gate, &self.up, &self.down].map(|linear| linear.weight.var());
        let block = [x, &self.post_norm.var(), &gate, &up, &down];
        let all_plain = [&self.gate, &self.up, &self.down].into_iter().all(plain);
        if all_plain && !is_recorded(&block) && FeedForward::takes(block.map(Var::value)) {
            return apply(FeedForward::new(eps), &block);
        }
        let normed = apply(norm, &[x, &self.post_norm.var()])?;
        let factors = [&normed, &gate, &up];
        // One op where it can be, unless a gradient is asked for: that reads gate and up.
        let gated = if plain(&self.gate) && plain(&self.up) && !is_recorded(&factors) {
            apply(GatedLinear, &factors)?
        } else {
            let gate = self.gate.run(&normed, None, step)?;
            let up = self.up.run(&normed, None, step)?;
            apply(SwiGlu, &[&gate, &up])?
        };
        self.down.run(&gated, Some(x), step)
    }

    /// The projections, in the order of their names in [`PROJECTIONS`](super::lora::PROJECTIONS).
    pub(super) fn projections(&mut self) -> [&mut Linear; 7] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
    }

    /// The layer with each projection replaced by `f` of it and the norms frozen.
    pub(super) fn map(&self, f: impl Fn(&Linear) -> Result<Linear>) -> Result<Self> {
        Ok(Layer {
            input_norm: self.input_norm.to_frozen(),
            q: f(&self.q)?,
            k: f(&self.k)?,
            v: f(&self.v)?,
            o: f(&self.o)?,
            head_norms: self.head_norms.as_ref().map(HeadNorms::to_frozen),
            post_norm: self.post_norm.to_frozen(),
            gate: f(&self.gate)?,
            up: f(&self.up)?,
            down: f(&self.down)?,
        })
    }
}

impl HeadNorms {
    fn to_frozen(&self) -> Self {
        HeadNorms { q: self.q.to_frozen(), k: self.k.to_frozen() }
    }
}

/// Each head of `x: [rows, heads·head_dim]` normed by itself, where there is a weight.
fn head_norm(x: &Var, weight: Option<&Param>, eps: f64) -> Result<Var> {
    let Some(weight) = weight else { return Ok(x.clone()) };
    let (weight, shape) = (weight.var(), x.value().shape().to_vec());
    let head_dim = weight.value().len();
    let heads = apply(Reshape::new(&[x.value().len() / head_dim, head_dim]), &[x])?;
    apply(Reshape::new(&shape), &[&apply(RmsNorm::new(eps), &[&heads, &weight])?])
}

/// Keys and values of resident rows, then the pass's own.
fn behind_resident(pass: &LayerPass, k: Var, v: Var) -> Result<(Var, Var)> {
    Ok(match &pass.resident {
        Some((keys, values)) => (below(keys, &k)?, below(values, &v)?),
        None => (k, v),
    })
}

fn below(resident: &Tensor, own: &Var) -> Result<Var> {
    apply(ConcatRows::new(), &[&Var::constant(resident.clone()), own])
}
