//! The labelling pass, and the prefill of a prompt, by a decoder of random weights.

use crate::counter::number;
use crate::values::{Case, Home, Result};
use lea::autograd::{Param, no_grad};
use lea::decoder::{Decoder, DecoderConfig, Rows};
use lea::le::score::rewards;
use lea::le::trunk::Trunks;
use lea::le::{Environment, Prompt, Work};
use lea::tensor::Tensor;

const CATALOGUE: usize = 1000;
const VOCABULARY: usize = 512;
/// Tokens before the history, between history and action, after the action.
const TEXT: [usize; 3] = [8, 4, 1];

/// The decoder of a shape's name, whose weights are streams of their names.
fn decoder(home: &Home, shape: &str, context: usize) -> Result<Decoder> {
    let (hidden_size, layers, heads, kv_heads, ffn) = match shape {
        "tiny" => (288, 6, 6, 6, 768),
        "small" => (576, 30, 9, 3, 1536),
        _ => return Err(format!("no shape {shape}").into()),
    };
    let config = DecoderConfig {
        hidden_size,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim: hidden_size / heads,
        intermediate_size: ffn,
        vocab_size: VOCABULARY,
        max_position_embeddings: context,
        ..DecoderConfig::default()
    };
    let decoder = Decoder::random(config, 0, &home.device, home.dtype, false)?;
    for param in decoder.params() {
        // The deviation of a fresh decoder; projections that add to the residual stream are smaller.
        let size = 0.02 * 3f64.sqrt();
        let adds = param.name().ends_with("o_proj.weight") || param.name().ends_with("down_proj.weight");
        let size = if adds { size / (2.0 * layers as f64).sqrt() } else { size };
        let norm = param.name().ends_with("norm.weight");
        let map = |x: f64| if norm { 1.0 + 0.125 * x } else { size * x };
        param.set(home.tensor(param.name(), param.value().shape(), map)?);
    }
    Ok(decoder.as_loaded()?)
}

fn text(name: &str, length: usize) -> Vec<u32> {
    (0..length).map(|i| number(name, i, VOCABULARY)).collect()
}

/// Rewards of `actions` actions at every step of one history.
pub struct Labelling {
    env: Environment,
    work: Work,
    /// Of all steps: (row of the history, action).
    actions: Vec<(usize, u32)>,
}

impl Labelling {
    pub fn new(home: &Home, shape: &str, history: usize, actions: usize) -> Result<Self> {
        let decoder = decoder(home, shape, TEXT.iter().sum::<usize>() + history + 1)?;
        let width = decoder.config.hidden_size;
        let size = 0.02 * 3f64.sqrt();
        let items = home.tensor("item_tokens", &[CATALOGUE, width], |x| size * x)?;
        let head = home.tensor("score.weight", &[width], |x| size * x)?;
        let [root, stem, closing] = TEXT;
        let env = Environment {
            decoder,
            items: Param::frozen("item_tokens", items),
            head: Param::frozen("score.weight", head),
            prompt: Prompt {
                root: text("root", root),
                stem: text("stem", stem),
                closing: text("closing", closing),
            },
            history,
        };
        let items: Vec<u32> = (0..history).map(|t| number("history", t, CATALOGUE)).collect();
        let work = Work { user: 0, owned: 0..history, first_step: 0, actions: items.clone(), history: items };
        let action = |i| (i / actions, number("actions", i, CATALOGUE));
        Ok(Labelling { env, work, actions: (0..history * actions).map(action).collect() })
    }
}

/// Forest rows a pass, as `lea label` has them.
const PACK_TOKENS: usize = 8192;

impl Case for Labelling {
    fn run(&mut self) -> Result<Tensor> {
        let trunks = Trunks::run(&self.env, std::slice::from_ref(&self.work))?;
        let scores = rewards(&self.env, &trunks, &self.actions, PACK_TOKENS)?;
        Ok(Tensor::from_slice(&self.env.device(), &scores, &[scores.len()])?)
    }
}

/// The logits after the last token of a causal text.
pub struct Prefill {
    decoder: Decoder,
    tokens: Vec<u32>,
    rows: Rows,
}

impl Prefill {
    pub fn new(home: &Home, shape: &str, tokens: usize) -> Result<Self> {
        let decoder = decoder(home, shape, tokens)?;
        let rows = Rows::causal(&home.device, &[tokens])?.reading(&[tokens as u32 - 1])?;
        Ok(Prefill { decoder, tokens: text("prompt", tokens), rows })
    }
}

impl Case for Prefill {
    fn run(&mut self) -> Result<Tensor> {
        let logits = no_grad(|| {
            let x = self.decoder.embed_tokens(&self.tokens)?;
            let hidden = self.decoder.forward(&x, &self.rows)?;
            self.decoder.logits(&self.decoder.final_norm(&hidden)?)
        })?;
        Ok(logits.into_value())
    }
}
