//! The layers of the encoders, made from an [`Init`].

use super::init::Init;
use crate::Result;
use crate::autograd::{Param, Var, apply};
use crate::nn::Linear;
use crate::ops::LayerNorm;

/// y = x·Wᵀ + b from `inputs` to `outputs` elements, `name.weight` and `name.bias`.
pub(super) fn linear(init: &mut Init, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
    let weight = init.uniform(&format!("{name}.weight"), &[outputs, inputs], inputs)?;
    Ok(Linear::new(weight, Some(init.constant(&format!("{name}.bias"), &[outputs], 0.0)?)))
}

/// Layer norm with weight and bias.
pub(super) struct Norm {
    weight: Param,
    bias: Param,
}

impl Norm {
    /// Over `width` columns; parameters are named `name.weight` and `name.bias`.
    pub fn new(init: &mut Init, name: &str, width: usize) -> Result<Self> {
        let weight = init.constant(&format!("{name}.weight"), &[width], 1.0)?;
        Ok(Norm { weight, bias: init.constant(&format!("{name}.bias"), &[width], 0.0)? })
    }

    /// `x: [rows, width]`.
    pub fn forward(&self, x: &Var) -> Result<Var> {
        apply(LayerNorm::new(1e-8), &[x, &self.weight.var(), &self.bias.var()])
    }

    pub fn params(&self) -> [&Param; 2] {
        [&self.weight, &self.bias]
    }
}
