//! Decoders of known shapes with random weights, and environments on them.

use crate::autograd::Param;
use crate::decoder::{Decoder, DecoderConfig};
use crate::device::{DType, Device};
use crate::le::{Environment, Prompt};
use crate::nn::init;
use crate::{Error, Result};
use clap::{Args, ValueEnum};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Items of the catalogue.
pub const CATALOGUE: usize = 1000;
const VOCABULARY: usize = 512;

/// Decoder shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Hidden 288, 6 layers, 6 heads, FFN 768
    Tiny,
    /// Hidden 576, 30 layers, 9 heads over 3, FFN 1536
    Small,
    /// That of Llama 3.2 1B: hidden 2048, 16 layers, 32 heads over 8, FFN 8192
    #[value(name = "llama-1b")]
    Llama1b,
    /// That of Llama 2 7B: hidden 4096, 32 layers, 32 heads, FFN 11008
    #[value(name = "llama-7b")]
    Llama7b,
}

/// The decoder and the prompt.
#[derive(Clone, Debug, Args)]
pub struct EnvironmentArgs {
    /// Decoder shape
    #[arg(long, value_enum, default_value = "tiny")]
    pub shape: Shape,
    /// Its layers, where fewer than the shape's are to run
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// Items of every history
    #[arg(long, default_value_t = 50)]
    pub history: usize,
    /// Tokens of the prompt ahead of the history
    #[arg(long, default_value_t = 8)]
    pub prompt: usize,
    /// Tokens of the separator between history and action
    #[arg(long, default_value_t = 4)]
    pub separator: usize,
    /// Tokens of the text after an action
    #[arg(long, default_value_t = 1)]
    pub closing: usize,
}

impl EnvironmentArgs {
    /// # Errors
    /// A history of nothing, and no layer.
    pub fn check(&self) -> Result<()> {
        if self.history == 0 || self.layers == Some(0) {
            return Err(Error::setting(
                format!("history {}, layers {}", self.history, self.layers.unwrap_or_default()),
                "choose at least 1 of each",
            ));
        }
        Ok(())
    }

    /// The settings as a record tells them, with those of the bench itself.
    pub fn settings(&self, own: Value) -> Value {
        let mut all = json!({
            "shape": self.shape.to_possible_value().map(|value| value.get_name().to_string()),
            "layers": self.layers(), "history": self.history, "prompt": self.prompt,
            "separator": self.separator, "closing": self.closing,
        });
        if let (Some(all), Value::Object(own)) = (all.as_object_mut(), own) {
            all.extend(own);
        }
        all
    }

    fn layers(&self) -> usize {
        self.layers.unwrap_or(match self.shape {
            Shape::Tiny => 6,
            Shape::Small => 30,
            Shape::Llama1b => 16,
            Shape::Llama7b => 32,
        })
    }

    fn config(&self) -> DecoderConfig {
        let (hidden_size, heads, kv_heads, intermediate_size) = match self.shape {
            Shape::Tiny => (288, 6, 6, 768),
            Shape::Small => (576, 9, 3, 1536),
            Shape::Llama1b => (2048, 32, 8, 8192),
            Shape::Llama7b => (4096, 32, 32, 11_008),
        };
        DecoderConfig {
            hidden_size,
            num_hidden_layers: self.layers(),
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim: hidden_size / heads,
            intermediate_size,
            vocab_size: VOCABULARY,
            max_position_embeddings: self.prompt + self.history + self.separator + self.closing + 1,
            ..DecoderConfig::default()
        }
    }

    /// A decoder as one that was loaded, item tokens and a score head, all random; head and item tokens to be trained
    /// where `trainable`.
    pub fn environment(&self, device: &Device, trainable: bool) -> Result<Environment> {
        let config = self.config();
        let (width, dtype) = (config.hidden_size, DType::F32);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut param = |name: &str, shape: &[usize]| {
            let value = init::normal(&mut rng, 0.02, shape, device, dtype)?;
            Ok::<_, Error>(if trainable { Param::trainable(name, value) } else { Param::frozen(name, value) })
        };
        let text = |len: usize| (0..len).map(|i| (i % VOCABULARY) as u32).collect();
        Ok(Environment {
            items: param("item_tokens", &[CATALOGUE, width])?,
            head: param("score.weight", &[width])?,
            decoder: Decoder::random_as_loaded(config, 7, device)?,
            prompt: Prompt {
                root: text(self.prompt),
                stem: text(self.separator),
                closing: text(self.closing),
            },
            history: self.history,
        })
    }
}
