//! GRU4Rec (Hidasi et al., arXiv 1511.06939): gated recurrent units over the items, state zero before the first.

use super::config::RecConfig;
use super::encoder::Encoder;
use super::init::Init;
use super::layout::Layout;
use super::noise::Noise;
use crate::Result;
use crate::autograd::{Param, Var, apply};
use crate::ops::{Gru, Linear};

/// The encoder.
pub struct Gru4Rec {
    layers: Vec<Layer>,
}

/// Gates in the order reset, update, new.
struct Layer {
    /// `[3·width, width]`
    input_weight: Param,
    /// `[3·width]`
    input_bias: Param,
    /// `[3·width, width]`
    hidden_weight: Param,
    /// `[3·width]`
    hidden_bias: Param,
}

impl Gru4Rec {
    /// A new encoder with `config`'s width and one layer a block.
    pub fn new(config: &RecConfig, init: &mut Init) -> Result<Self> {
        let width = config.width;
        let mut layer = |i: usize| -> Result<Layer> {
            let name = |part: &str| format!("encoder.layers.{i}.{part}");
            Ok(Layer {
                input_weight: init.uniform(&name("input.weight"), &[3 * width, width], width)?,
                input_bias: init.uniform(&name("input.bias"), &[3 * width], width)?,
                hidden_weight: init.uniform(&name("hidden.weight"), &[3 * width, width], width)?,
                hidden_bias: init.uniform(&name("hidden.bias"), &[3 * width], width)?,
            })
        };
        Ok(Gru4Rec { layers: (0..config.blocks).map(&mut layer).collect::<Result<_>>()? })
    }
}

impl Encoder for Gru4Rec {
    fn encode(&self, x: Var, layout: &Layout, noise: &Noise) -> Result<Var> {
        let mut x = noise.apply(x)?;
        for layer in &self.layers {
            let input = Linear { bias: true, residual: false };
            let gates = apply(input, &[&x, &layer.input_weight.var(), &layer.input_bias.var()])?;
            let hidden = [layer.hidden_weight.var(), layer.hidden_bias.var()];
            x = noise.apply(apply(Gru::new(layout.sequences()?), &[&gates, &hidden[0], &hidden[1]])?)?;
        }
        Ok(x)
    }

    fn params(&self) -> Vec<Param> {
        let of =
            |l: &Layer| [&l.input_weight, &l.input_bias, &l.hidden_weight, &l.hidden_bias].map(Param::clone);
        self.layers.iter().flat_map(of).collect()
    }
}
