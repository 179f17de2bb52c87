//! `config.json` of a Hugging Face model folder: the Llama family.

use crate::{Error, Result, files};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// No extent of a model is larger; a larger figure in a file is a defect of the file.
const LARGEST_EXTENT: u64 = 1 << 24;
/// No model has more layers.
const MOST_LAYERS: u64 = 1 << 12;
/// Nor more elements in one weight matrix.
const LARGEST_MATRIX: u64 = 1 << 36;

/// Shape and constants of a Llama-family decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
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
    /// The output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// The attention projections have a bias.
    pub attention_bias: bool,
    /// The feed-forward projections have a bias.
    pub mlp_bias: bool,
    /// Token that opens a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
}

/// The file as written; only what bears on the forward pass is read.
#[derive(Deserialize)]
struct File {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    vocab_size: u64,
    #[serde(default = "default_positions")]
    max_position_embeddings: u64,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

// What `transformers` assumes for a Llama configuration that leaves the key out.
fn default_positions() -> u64 {
    2048
}
fn default_eps() -> f64 {
    1e-6
}
const DEFAULT_THETA: f64 = 10_000.0;

impl Default for DecoderConfig {
    /// The shape of Llama 2 7B, to be changed where a decoder is smaller.
    fn default() -> Self {
        DecoderConfig {
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            head_dim: 128,
            vocab_size: 32_000,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-5,
            rope_theta: DEFAULT_THETA,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
        }
    }
}

impl DecoderConfig {
    /// Reads and checks `dir/config.json`.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = files::read_text(&path)?;
        Self::parse(&text, &path)
    }

    /// Reads and checks the text of a `config.json`; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let broken = |e: serde_json::Error| {
            let remedy = "take config.json from the model's publisher again";
            Error::invalid(path, "config", e.to_string(), remedy)
        };
        let value: Value = serde_json::from_str(text).map_err(broken)?;
        let model_type = value.get("model_type").and_then(Value::as_str);
        if model_type != Some("llama") {
            let found = model_type.map_or("is missing".into(), |t| format!("is {t:?}"));
            return Err(Error::invalid(
                path,
                "model_type",
                format!("the model type {found}, supported is \"llama\""),
                "choose a decoder of the Llama family",
            ));
        }
        let file: File = serde_json::from_str(text).map_err(broken)?;
        let config = file.into_config(path)?;
        config.check().map_err(|(key, problem)| {
            Error::invalid(path, key, problem, "correct the value or take config.json from the publisher")
        })?;
        Ok(config)
    }

    /// Checks a configuration that was put together in code.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|(key, problem)| {
            Error::setting(format!("decoder configuration: {key}: {problem}"), format!("change {key}"))
        })
    }

    /// (key, problem) of the first value that cannot be.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let extents = [
            ("hidden_size", self.hidden_size, LARGEST_EXTENT),
            ("intermediate_size", self.intermediate_size, LARGEST_EXTENT),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, LARGEST_EXTENT),
            ("num_key_value_heads", self.num_key_value_heads, LARGEST_EXTENT),
            ("head_dim", self.head_dim, LARGEST_EXTENT),
            ("vocab_size", self.vocab_size, LARGEST_EXTENT),
            ("max_position_embeddings", self.max_position_embeddings, LARGEST_EXTENT),
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
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(("rms_norm_eps", format!("{} is not between 0 and 1", self.rms_norm_eps)));
        }
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return Err(("rope_theta", format!("{} is not positive", self.rope_theta)));
        }
        let ids = self.bos_token_id.iter().map(|id| ("bos_token_id", id));
        for (key, &id) in ids.chain(self.eos_token_ids.iter().map(|id| ("eos_token_id", id))) {
            if id as usize >= self.vocab_size {
                return Err((key, format!("{id} is not below vocab_size, {}", self.vocab_size)));
            }
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

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        let (d, f, q, k) = (self.hidden_size, self.intermediate_size, self.query_width(), self.key_width());
        let attention = 2 * d * q + 2 * d * k + if self.attention_bias { q + 2 * k + d } else { 0 };
        let feed_forward = 3 * d * f + if self.mlp_bias { 2 * f + d } else { 0 };
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        tables * self.vocab_size * d + self.num_hidden_layers * (attention + feed_forward + 2 * d) + d
    }

    /// The text of a `config.json` that Hugging Face's libraries read.
    pub fn to_json(&self) -> String {
        let eos = match self.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            _ => json!(self.eos_token_ids),
        };
        let value = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "torch_dtype": "float32",
        });
        format!("{value:#}\n")
    }
}

impl File {
    fn into_config(self, path: &Path) -> Result<DecoderConfig> {
        if let Some(act) = self.hidden_act.as_deref().filter(|&act| act != "silu") {
            let problem = format!("the activation {act:?} is not supported, only \"silu\" is");
            return Err(Error::invalid(path, "hidden_act", problem, "choose another decoder"));
        }
        let mut theta = self.rope_theta;
        for (key, rope) in [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)]
        {
            let Some(rope) = rope.as_ref().filter(|v| !v.is_null()) else { continue };
            let kind = rope.get("rope_type").or_else(|| rope.get("type"));
            let kind =
                kind.map_or("default".to_string(), |k| k.as_str().map_or(k.to_string(), str::to_string));
            if kind != "default" {
                let problem =
                    format!("rotary scaling of type {kind:?} is not supported, only \"default\" is");
                return Err(Error::invalid(path, key, problem, "choose a decoder without rotary scaling"));
            }
            theta = theta.or_else(|| rope.get("rope_theta").and_then(Value::as_f64));
        }
        // Larger than any limit that `check` sets, so that the cast loses nothing that matters.
        let extent = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let heads = self.num_attention_heads;
        let head_dim = match self.head_dim {
            Some(given) => given,
            None if heads > 0 && self.hidden_size.is_multiple_of(heads) => self.hidden_size / heads,
            None => {
                let problem = format!("{heads} does not divide hidden_size, {}", self.hidden_size);
                return Err(Error::invalid(
                    path,
                    "num_attention_heads",
                    problem,
                    "correct it or add head_dim",
                ));
            }
        };
        Ok(DecoderConfig {
            hidden_size: extent(self.hidden_size),
            intermediate_size: extent(self.intermediate_size),
            num_hidden_layers: extent(self.num_hidden_layers),
            num_attention_heads: extent(heads),
            num_key_value_heads: extent(self.num_key_value_heads.unwrap_or(heads)),
            head_dim: extent(head_dim),
            vocab_size: extent(self.vocab_size),
            max_position_embeddings: extent(self.max_position_embeddings),
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: theta.unwrap_or(DEFAULT_THETA),
            tie_word_embeddings: self.tie_word_embeddings,
            attention_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
            bos_token_id: self.bos_token_id,
            eos_token_ids: match self.eos_token_id {
                None => Vec::new(),
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"model_type": "llama", "hidden_size": 48, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97,
        "eos_token_id": [2, 3], "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}"#;

    fn parse(text: &str) -> Result<DecoderConfig> {
        DecoderConfig::parse(text, Path::new("config.json"))
    }

    #[test]
    fn omitted_keys_take_the_family_defaults() {
        let config = parse(GOOD).unwrap();
        assert_eq!((config.head_dim, config.max_position_embeddings), (12, 2048));
        assert_eq!((config.rope_theta, config.rms_norm_eps), (5000.0, 1e-6));
        assert_eq!(config.eos_token_ids, [2, 3]);
        assert!(!config.tie_word_embeddings && config.bos_token_id.is_none());
    }

    #[test]
    fn a_written_config_reads_back_equal() {
        let config = parse(GOOD).unwrap();
        assert_eq!(parse(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn values_that_cannot_be_are_errors_that_name_the_key() {
        let cases = [
            ("\"llama\"", "\"gpt2\"", "model_type: the model type is \"gpt2\""),
            ("\"hidden_size\": 48, ", "", "missing field `hidden_size`"),
            ("\"hidden_size\": 48", "\"hidden_size\": 0", "hidden_size: 0 is outside"),
            ("\"hidden_size\": 48", "\"hidden_size\": -1", "invalid value: integer `-1`"),
            ("\"hidden_size\": 48", "\"hidden_size\": 50", "num_attention_heads: 4 does not divide"),
            ("\"vocab_size\": 97", "\"vocab_size\": 18446744073709551615", "vocab_size"),
            ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads: 3 does not"),
            ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "num_attention_heads"),
            ("\"num_attention_heads\": 4", "\"num_attention_heads\": 16", "head_dim: 3 is odd"),
            ("[2, 3]", "97", "eos_token_id: 97 is not below"),
            ("\"default\"", "\"yarn\"", "rope_parameters: rotary scaling of type \"yarn\""),
            ("[2, 3]", "2, \"hidden_act\": \"gelu\"", "hidden_act: the activation \"gelu\""),
            ("[2, 3]", "2, \"rms_norm_eps\": -1.0", "rms_norm_eps: -1"),
        ];
        for (from, to, message) in cases {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(message), "{to}: {error}");
        }
    }

    #[test]
    fn broken_json_is_an_error_with_its_line() {
        for text in ["", "{", "[]", "null", "{\"model_type\": \"llama\",\n \"hidden_size\": }"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("line") || error.contains("model_type"), "{error}");
        }
    }
}
