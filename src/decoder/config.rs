//! Shape and constants of a decoder of the Llama family.

use super::RopeScaling;
use crate::device::{DType, Device};
use crate::{Error, Result};

/// No extent of a model is larger; a larger figure in a file is a defect of the file.
const LARGEST_EXTENT: u64 = 1 << 24;
/// No model has more layers.
const MOST_LAYERS: u64 = 1 << 12;
/// Nor more elements in one weight matrix.
const LARGEST_MATRIX: u64 = 1 << 36;

/// Architectures that are read. They differ in the tensors of a layer, in who sees whom, and in what a `config.json`
/// leaves unsaid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3, SmolLM.
    #[default]
    Llama,
    /// Mistral 7B: all layers may see through a sliding window.
    Mistral,
    /// Qwen2, Qwen2.5: a bias on queries, keys and values; some layers may see through a window.
    Qwen2,
    /// Qwen3: queries and keys are normed head by head; some layers may see through a window.
    Qwen3,
}

/// Shape and constants of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Architecture.
    pub family: Family,
    /// Width d of the hidden rows and of an item token.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Context length: position ids stay below it.
    pub max_position_embeddings: usize,
    /// ε of the RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How those frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// A row sees itself and the rows at most `sliding_window - 1` positions above it; `None`: all above it.
    pub sliding_window: Option<usize>,
    /// Layers, ascending, that see all in spite of the window.
    pub full_layers: Vec<usize>,
    /// The output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Query, key and value projections have a bias, and the output projection too unless the family is Qwen2.
    pub attention_bias: bool,
    /// The feed-forward projections have a bias.
    pub mlp_bias: bool,
    /// Token that opens a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
}

impl Default for DecoderConfig {
    /// The shape of Llama 2 7B, to be changed where a decoder is smaller.
    fn default() -> Self {
        DecoderConfig {
            family: Family::Llama,
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            head_dim: 128,
            vocab_size: 32_000,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            sliding_window: None,
            full_layers: Vec::new(),
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
        }
    }
}

/// Key and problem of a value that cannot be.
pub(super) type Problem = (&'static str, String);

impl DecoderConfig {
    /// Checks a configuration that was put together in code.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|(key, problem)| {
            Error::setting(format!("decoder configuration: {key}: {problem}"), format!("change {key}"))
        })
    }

    /// The first value that cannot be.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.check_extents()?;
        self.check_family()?;
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(("rms_norm_eps", format!("{} is not between 0 and 1", self.rms_norm_eps)));
        }
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return Err(("rope_theta", format!("{} is not positive", self.rope_theta)));
        }
        self.rope_scaling.check()?;
        let ids = self.bos_token_id.iter().map(|id| ("bos_token_id", id));
        for (key, &id) in ids.chain(self.eos_token_ids.iter().map(|id| ("eos_token_id", id))) {
            if id as usize >= self.vocab_size {
                return Err((key, format!("{id} is not below vocab_size, {}", self.vocab_size)));
            }
        }
        Ok(())
    }

    fn check_extents(&self) -> Result<(), Problem> {
        let extents = [
            ("hidden_size", self.hidden_size, LARGEST_EXTENT),
            ("intermediate_size", self.intermediate_size, LARGEST_EXTENT),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, LARGEST_EXTENT),
            ("num_key_value_heads", self.num_key_value_heads, LARGEST_EXTENT),
            ("head_dim", self.head_dim, LARGEST_EXTENT),
            ("vocab_size", self.vocab_size, LARGEST_EXTENT),
            ("max_position_embeddings", self.max_position_embeddings, LARGEST_EXTENT),
            ("sliding_window", self.sliding_window.unwrap_or(1), LARGEST_EXTENT),
        ];
        for (key, value, most) in extents {
            if value == 0 || value as u64 > most {
                return Err((key, format!("{value} is outside 1..={most}")));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("{kv_heads} does not divide the number of attention heads, {heads}");
            return Err(("num_key_value_heads", problem));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(("head_dim", format!("{} is odd; rotary positions need pairs", self.head_dim)));
        }
        let widest = self.intermediate_size.max(self.vocab_size).max(heads.saturating_mul(self.head_dim));
        if widest.saturating_mul(self.hidden_size) as u64 > LARGEST_MATRIX {
            return Err(("hidden_size", format!("a matrix of {widest} × {} is absurd", self.hidden_size)));
        }
        Ok(())
    }

    /// What a family has no place for in its `config.json`, it cannot have.
    fn check_family(&self) -> Result<(), Problem> {
        let family = self.family.name();
        let bias = match self.family {
            Family::Mistral => Some(false),
            Family::Qwen2 => Some(true),
            _ => None,
        };
        if bias.is_some_and(|bias| bias != self.attention_bias) {
            return Err(("attention_bias", format!("{} is not possible for {family}", self.attention_bias)));
        }
        if self.mlp_bias && self.family != Family::Llama {
            return Err(("mlp_bias", format!("true is not possible for {family}")));
        }
        if self.sliding_window.is_some() && self.family == Family::Llama {
            return Err(("sliding_window", format!("a window is not possible for {family}")));
        }
        let ascending = self.full_layers.windows(2).all(|pair| pair[0] < pair[1]);
        let fewer = self.full_layers.len() < self.num_hidden_layers;
        let inside = self.full_layers.iter().all(|&layer| layer < self.num_hidden_layers);
        let windowed = self.sliding_window.is_some() && self.family != Family::Mistral;
        let possible = windowed && ascending && inside && fewer;
        if !self.full_layers.is_empty() && !possible {
            let problem = format!("{:?} are not some layers of a {family} with a window", self.full_layers);
            return Err(("full_layers", problem));
        }
        Ok(())
    }

    /// Width of the query rows: heads × head_dim.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of the key and value rows: key-value heads × head_dim.
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// The window that layer `layer` sees through, in rows, itself counted; `None` where it sees all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| !self.full_layers.contains(&layer))
    }

    /// Whether queries and keys are normed head by head ahead of their rotation.
    pub fn head_norms(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// Whether the output projection of attention has a bias.
    pub fn output_bias(&self) -> bool {
        self.attention_bias && self.family != Family::Qwen2
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        let (d, f, q, k) = (self.hidden_size, self.intermediate_size, self.query_width(), self.key_width());
        let bias = if self.attention_bias { q + 2 * k } else { 0 } + if self.output_bias() { d } else { 0 };
        let norms = 2 * d + if self.head_norms() { 2 * self.head_dim } else { 0 };
        let feed_forward = 3 * d * f + if self.mlp_bias { 2 * f + d } else { 0 };
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let layer = 2 * d * q + 2 * d * k + bias + norms + feed_forward;
        tables * self.vocab_size * d + self.num_hidden_layers * layer + d
    }

    /// Bytes of the weights on `device`, loaded for computing in `dtype`: projections as it stores frozen ones.
    pub fn bytes_on(&self, device: &Device, dtype: DType) -> u64 {
        let (d, f, q, k) = (self.hidden_size, self.intermediate_size, self.query_width(), self.key_width());
        // A layer's projections by the width of what they read: q, k, v, gate and up; o; down.
        let saved = [(d, q + 2 * k + 2 * f), (q, d), (f, d)].map(|(input, output)| {
            let stored = if dtype == DType::F32 { device.frozen_type_of(input) } else { dtype };
            input * output * (dtype.size() - stored.size())
        });
        let saved = self.num_hidden_layers * saved.iter().sum::<usize>();
        (self.parameters() * dtype.size() - saved) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_family_cannot_have_is_refused() {
        let of = |family| DecoderConfig { family, ..DecoderConfig::default() };
        let refused = |config: DecoderConfig| config.validate().unwrap_err().to_string();
        assert!(refused(of(Family::Qwen2)).contains("attention_bias: false is not possible for qwen2"));
        let window = DecoderConfig { sliding_window: Some(4), ..DecoderConfig::default() };
        assert!(refused(window).contains("sliding_window: a window is not possible for llama"));
        let mistral = DecoderConfig { sliding_window: Some(4), ..of(Family::Mistral) };
        mistral.validate().unwrap();
        assert!(refused(DecoderConfig { full_layers: vec![1], ..mistral }).contains("full_layers: [1]"));
        let qwen = DecoderConfig { sliding_window: Some(4), full_layers: vec![0, 3], ..of(Family::Qwen3) };
        qwen.validate().unwrap();
        assert_eq!((qwen.window(3), qwen.window(4)), (None, Some(4)));
        for wrong in [vec![3, 0], vec![32], (0..32).collect()] {
            assert!(refused(DecoderConfig { full_layers: wrong, ..qwen.clone() }).contains("full_layers"));
        }
    }
}
