//! What the keys of a `config.json` mean, and what they leave unsaid.

use super::config::{Family, Problem};
use super::config_fields::Keys;
use super::{DecoderConfig, RopeScaling};
use crate::Result;
use serde_json::{Map, Value};

/// The file as written: what bears on the forward pass, and the rest.
pub(super) struct File {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    vocab_size: u64,
    max_position_embeddings: Option<u64>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    /// `None` where the key is absent; the inner one is `null`.
    sliding_window: Option<Option<u64>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u64>,
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    bos_token_id: Option<u32>,
    eos_token_ids: Vec<u32>,
    /// Keys that are none of the above.
    pub(super) rest: Map<String, Value>,
}

impl File {
    /// Takes the values out of `keys`.
    pub(super) fn read(mut keys: Keys) -> Result<Self, Problem> {
        Ok(File {
            hidden_size: keys.need("hidden_size")?,
            intermediate_size: keys.need("intermediate_size")?,
            num_hidden_layers: keys.need("num_hidden_layers")?,
            num_attention_heads: keys.need("num_attention_heads")?,
            num_key_value_heads: keys.take("num_key_value_heads")?,
            head_dim: keys.take("head_dim")?,
            vocab_size: keys.need("vocab_size")?,
            max_position_embeddings: keys.take("max_position_embeddings")?,
            rms_norm_eps: keys.take("rms_norm_eps")?,
            rope_theta: keys.take("rope_theta")?,
            rope_scaling: keys.take("rope_scaling")?,
            rope_parameters: keys.take("rope_parameters")?,
            sliding_window: keys.take_nullable("sliding_window")?,
            use_sliding_window: keys.take("use_sliding_window")?,
            max_window_layers: keys.take("max_window_layers")?,
            layer_types: keys.take("layer_types")?,
            tie_word_embeddings: keys.take("tie_word_embeddings")?,
            attention_bias: keys.take("attention_bias")?,
            mlp_bias: keys.take("mlp_bias")?,
            hidden_act: keys.take("hidden_act")?,
            bos_token_id: keys.take("bos_token_id")?,
            eos_token_ids: keys.take("eos_token_id")?.unwrap_or_default(),
            rest: keys.0,
        })
    }
}

/// What `transformers` assumes where a configuration leaves a key out.
struct Unsaid {
    context: u64,
    kv_heads: Option<u64>,
    head_dim: Option<u64>,
    window: Option<u64>,
    /// First layer with a window, where one is used.
    first_windowed: u64,
    attention_bias: bool,
}

/// Kinds of layers, as `layer_types` names them.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
const EPS: f64 = 1e-6;
const THETA: f64 = 10_000.0;

impl Family {
    fn unsaid(self) -> Unsaid {
        let llama = Unsaid {
            context: 2048,
            kv_heads: None,
            head_dim: None,
            window: None,
            first_windowed: 0,
            attention_bias: false,
        };
        let qwen =
            Unsaid { context: 32_768, kv_heads: Some(32), window: Some(4096), first_windowed: 28, ..llama };
        match self {
            Family::Llama => llama,
            Family::Mistral => Unsaid { context: 131_072, kv_heads: Some(8), window: Some(4096), ..llama },
            Family::Qwen2 => Unsaid { attention_bias: true, ..qwen },
            Family::Qwen3 => Unsaid { head_dim: Some(128), ..qwen },
        }
    }
}

impl File {
    /// The decoder that the file describes, unchecked but for what cannot be said in a [`DecoderConfig`].
    pub(super) fn into_config(self, family: Family) -> Result<DecoderConfig, Problem> {
        let unsaid = family.unsaid();
        if let Some(act) = self.hidden_act.as_deref().filter(|&act| act != "silu" && act != "swish") {
            return Err(("hidden_act", format!("the activation {act:?} is not supported, only \"silu\" is")));
        }
        let context = self.max_position_embeddings.unwrap_or(unsaid.context);
        let (rope_scaling, rope_theta) = self.rope(context)?;
        let (sliding_window, full_layers) = self.windows(family, &unsaid)?;
        let head_dim = self.head_width(&unsaid)?;
        let kv_heads = self.num_key_value_heads.or(unsaid.kv_heads).unwrap_or(self.num_attention_heads);
        Ok(DecoderConfig {
            family,
            hidden_size: extent(self.hidden_size),
            intermediate_size: extent(self.intermediate_size),
            num_hidden_layers: extent(self.num_hidden_layers),
            num_attention_heads: extent(self.num_attention_heads),
            num_key_value_heads: extent(kv_heads),
            head_dim: extent(head_dim),
            vocab_size: extent(self.vocab_size),
            max_position_embeddings: extent(context),
            rms_norm_eps: self.rms_norm_eps.unwrap_or(EPS),
            rope_theta,
            rope_scaling,
            sliding_window,
            full_layers,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            attention_bias: self.attention_bias.unwrap_or(unsaid.attention_bias),
            mlp_bias: self.mlp_bias.unwrap_or(false),
            bos_token_id: self.bos_token_id,
            eos_token_ids: self.eos_token_ids,
        })
    }

    fn head_width(&self, unsaid: &Unsaid) -> Result<u64, Problem> {
        let heads = self.num_attention_heads;
        match self.head_dim.or(unsaid.head_dim) {
            Some(given) => Ok(given),
            None if heads > 0 && self.hidden_size.is_multiple_of(heads) => Ok(self.hidden_size / heads),
            None => {
                let problem = format!("{heads} does not divide hidden_size, {}", self.hidden_size);
                Err(("num_attention_heads", problem + ", and head_dim is not given"))
            }
        }
    }

    /// Scaling and θ; the θ beside a scaling's other values stands over the one outside.
    fn rope(&self, context: u64) -> Result<(RopeScaling, f64), Problem> {
        let mut found: Option<(RopeScaling, Option<f64>)> = None;
        for (key, value) in [("rope_parameters", &self.rope_parameters), ("rope_scaling", &self.rope_scaling)]
        {
            let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
            let (scaling, theta) =
                RopeScaling::parse(value, context).map_err(|(_, problem)| (key, problem))?;
            match &mut found {
                Some((first, _)) if *first != scaling => {
                    return Err((key, "it says something else than rope_parameters".into()));
                }
                Some((_, first)) => *first = first.or(theta),
                None => found = Some((scaling, theta)),
            }
        }
        let (scaling, inner) = found.unwrap_or_default();
        Ok((scaling, inner.or(self.rope_theta).unwrap_or(THETA)))
    }

    /// Width of the window, and the layers that see all in spite of it.
    fn windows(&self, family: Family, unsaid: &Unsaid) -> Result<(Option<usize>, Vec<usize>), Problem> {
        let width = self.sliding_window.unwrap_or(unsaid.window).map(extent);
        let qwen = matches!(family, Family::Qwen2 | Family::Qwen3);
        if !qwen {
            if self.use_sliding_window == Some(true) {
                return Err(("use_sliding_window", format!("true is not supported for {}", family.name())));
            }
            self.check_layers_are_alike(if width.is_some() { SLIDING } else { FULL })?;
            return Ok((width, Vec::new()));
        }
        let width = width.filter(|_| self.use_sliding_window == Some(true));
        let first = self.max_window_layers.unwrap_or(unsaid.first_windowed);
        // More layers than any decoder has are refused later; here they must only not be counted one by one.
        let layers = self.num_hidden_layers.min(1 << 13);
        let full: Vec<usize> = match &self.layer_types {
            None => (0..layers.min(first)).map(extent).collect(),
            Some(types) => {
                self.check_types(types, &[FULL, SLIDING])?;
                if width.is_none() && types.iter().any(|kind| kind == SLIDING) {
                    let problem = "sliding_attention where use_sliding_window gives no window";
                    return Err(("layer_types", problem.into()));
                }
                types.iter().enumerate().filter(|(_, kind)| *kind == FULL).map(|(i, _)| i).collect()
            }
        };
        match width {
            Some(width) if (full.len() as u64) < layers => Ok((Some(width), full)),
            _ => Ok((None, Vec::new())),
        }
    }
}

impl File {
    /// Refuses `layer_types` of a family whose layers are alike, unless they say of each that it is `kind`.
    fn check_layers_are_alike(&self, kind: &str) -> Result<(), Problem> {
        self.layer_types.as_ref().map_or(Ok(()), |types| self.check_types(types, &[kind]))
    }

    /// Refuses another number of `types` than of layers, and all but the `known` ones.
    fn check_types(&self, types: &[String], known: &[&str]) -> Result<(), Problem> {
        if types.len() as u64 != self.num_hidden_layers {
            let problem = format!("{} for {} layers", types.len(), self.num_hidden_layers);
            return Err(("layer_types", problem));
        }
        match types.iter().find(|kind| !known.contains(&&kind[..])) {
            Some(other) => Err(("layer_types", format!("{other:?} is not supported, {known:?} is"))),
            None => Ok(()),
        }
    }
}

/// Larger than any limit that is checked later, so that the cast loses nothing that matters.
fn extent(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
