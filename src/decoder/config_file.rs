//! `config.json` of a Hugging Face model folder, read and written.

use super::config::{Family, Problem};
use super::{DecoderConfig, RopeScaling, config_keys};
use crate::{Error, Result, files};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The file as written: what bears on the forward pass, and the rest.
#[derive(Deserialize)]
struct File {
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
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<u64>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u64>,
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::<u64>::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
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

const EPS: f64 = 1e-6;
const THETA: f64 = 10_000.0;

impl Family {
    const ALL: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3];

    /// `model_type` of the family.
    pub fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }

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

impl DecoderConfig {
    /// Reads and checks `dir/config.json`.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        Self::parse(&files::read_text(&path)?, &path)
    }

    /// Reads and checks the text of a `config.json`; `path` is named in errors. What changes the result and is not
    /// supported is an error that names the key.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let broken = |e: serde_json::Error| {
            let remedy = "take config.json from the model's publisher again";
            Error::invalid(path, "config", e.to_string(), remedy)
        };
        let value: Value = serde_json::from_str(text).map_err(broken)?;
        let model_type = value.get("model_type").and_then(Value::as_str);
        let Some(family) = Family::ALL.into_iter().find(|f| Some(f.name()) == model_type) else {
            let found = model_type.map_or("is missing".into(), |t| format!("is {t:?}"));
            let known = Family::ALL.map(|f| format!("{:?}", f.name())).join(", ");
            let problem = format!("the model type {found}, supported are {known}");
            return Err(Error::invalid(path, "model_type", problem, "choose a decoder of the Llama family"));
        };
        let mut file: File = serde_json::from_str(text).map_err(broken)?;
        file.rest.remove("model_type");
        config_keys::check(&file.rest).map_err(|(key, problem)| {
            let remedy = "choose another decoder, or remove the key if you know that it has no effect";
            Error::invalid(path, key, problem, remedy)
        })?;
        let config = file.into_config(family).and_then(|config| config.check().map(|()| config));
        config.map_err(|(key, problem)| {
            let remedy = "choose another decoder, or correct the value as the publisher has it";
            Error::invalid(path, key, problem, remedy)
        })
    }

    /// The text of a `config.json` that Hugging Face's libraries read.
    pub fn to_json(&self) -> String {
        let eos = match self.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            _ => json!(self.eos_token_ids),
        };
        let mut value = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.name(),
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
            "rope_scaling": self.rope_scaling.to_json(),
            "hidden_act": "silu",
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "torch_dtype": "float32",
        });
        match self.family {
            Family::Llama => {
                value["attention_bias"] = json!(self.attention_bias);
                value["mlp_bias"] = json!(self.mlp_bias);
            }
            Family::Mistral => value["sliding_window"] = json!(self.sliding_window),
            Family::Qwen2 | Family::Qwen3 => {
                let kind = |layer| match self.window(layer) {
                    Some(_) => "sliding_attention",
                    None => "full_attention",
                };
                value["use_sliding_window"] = json!(self.sliding_window.is_some());
                value["sliding_window"] = json!(self.sliding_window);
                value["layer_types"] = (0..self.num_hidden_layers).map(kind).collect();
                if self.family == Family::Qwen3 {
                    value["attention_bias"] = json!(self.attention_bias);
                }
            }
        }
        format!("{value:#}\n")
    }
}

impl File {
    fn into_config(self, family: Family) -> Result<DecoderConfig, Problem> {
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
            eos_token_ids: match self.eos_token_id {
                None => Vec::new(),
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
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
            if self.layer_types.is_some() {
                return Err(("layer_types", format!("they are not supported for {}", family.name())));
            }
            return Ok((width, Vec::new()));
        }
        let width = width.filter(|_| self.use_sliding_window == Some(true));
        let first = self.max_window_layers.unwrap_or(unsaid.first_windowed);
        // More layers than any decoder has are refused later; here they must only not be counted one by one.
        let layers = self.num_hidden_layers.min(1 << 13);
        let full: Vec<usize> = match &self.layer_types {
            None => (0..layers.min(first)).map(extent).collect(),
            Some(types) => {
                if types.len() as u64 != self.num_hidden_layers {
                    let problem = format!("{} for {} layers", types.len(), self.num_hidden_layers);
                    return Err(("layer_types", problem));
                }
                let known = ["full_attention", "sliding_attention"];
                if let Some(other) = types.iter().find(|kind| !known.contains(&&kind[..])) {
                    return Err(("layer_types", format!("{other:?} is not supported")));
                }
                if width.is_none() && types.iter().any(|kind| kind == known[1]) {
                    let problem = "sliding_attention where use_sliding_window gives no window";
                    return Err(("layer_types", problem.into()));
                }
                types.iter().enumerate().filter(|(_, kind)| *kind == known[0]).map(|(i, _)| i).collect()
            }
        };
        match width {
            Some(width) if (full.len() as u64) < layers => Ok((Some(width), full)),
            _ => Ok((None, Vec::new())),
        }
    }
}

/// Larger than any limit that is checked later, so that the cast loses nothing that matters.
fn extent(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
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
        let of = |family: &str| parse(&GOOD.replace("llama", family)).unwrap();
        assert_eq!(
            (of("mistral").sliding_window, of("mistral").max_position_embeddings),
            (Some(4096), 131_072)
        );
        assert!(of("qwen2").attention_bias && !of("qwen2").output_bias());
        assert_eq!((of("qwen3").head_dim, of("qwen3").sliding_window), (128, None));
        assert!(of("qwen3").head_norms());
    }

    #[test]
    fn windows_are_read_as_each_family_writes_them() {
        let of = |family: &str, more: &str| {
            let text =
                GOOD.replace("llama", family).replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
            parse(&text.replace("[2, 3]", &format!("[2, 3], {more}")))
                .map(|c| (c.sliding_window, c.full_layers))
        };
        assert_eq!(of("mistral", r#""sliding_window": null"#).unwrap(), (None, vec![]));
        assert_eq!(of("mistral", r#""sliding_window": 7"#).unwrap(), (Some(7), vec![]));
        assert_eq!(of("qwen2", r#""sliding_window": 7, "max_window_layers": 1"#).unwrap(), (None, vec![]));
        let used = r#""use_sliding_window": true, "sliding_window": 7"#;
        let from = |layer: u32| of("qwen2", &format!("{used}, \"max_window_layers\": {layer}"));
        assert_eq!(from(1).unwrap(), (Some(7), vec![0]));
        assert_eq!(from(3).unwrap(), (None, vec![]));
        let types = |kinds: &str| format!("{used}, \"layer_types\": [{kinds}]");
        let (full, sliding) = ("\"full_attention\"", "\"sliding_attention\"");
        let mixed = of("qwen3", &types(&format!("{full}, {sliding}, {full}"))).unwrap();
        assert_eq!(mixed, (Some(7), vec![0, 2]));
        for (family, more, message) in [
            ("qwen3", types(full), "layer_types: 1 for 3 layers"),
            ("qwen3", types("\"chunked\", \"x\", \"y\""), "layer_types: \"chunked\" is not supported"),
            ("qwen2", format!("\"layer_types\": [{full}, {full}, {sliding}]"), "gives no window"),
            ("llama", "\"sliding_window\": 4".into(), "sliding_window: a window is not possible for llama"),
            ("mistral", types(full), "use_sliding_window: true is not supported for mistral"),
            ("mistral", "\"sliding_window\": 0".into(), "sliding_window: 0 is outside"),
        ] {
            let error = of(family, &more).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_written_config_reads_back_equal() {
        let config = parse(GOOD).unwrap();
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 1024.0 };
        let windowed = DecoderConfig { sliding_window: Some(5), ..config.clone() };
        let qwen = DecoderConfig { full_layers: vec![1], head_dim: 6, ..windowed.clone() };
        for config in [
            config.clone(),
            DecoderConfig { rope_scaling: scaling, mlp_bias: true, attention_bias: true, ..config.clone() },
            DecoderConfig { family: Family::Mistral, ..config.clone() },
            DecoderConfig { family: Family::Mistral, rope_scaling: RopeScaling::Linear(2.0), ..windowed },
            DecoderConfig { family: Family::Qwen2, attention_bias: true, ..config.clone() },
            DecoderConfig { family: Family::Qwen2, attention_bias: true, ..qwen.clone() },
            DecoderConfig { family: Family::Qwen3, ..qwen },
        ] {
            config.validate().unwrap();
            assert_eq!(parse(&config.to_json()).unwrap(), config);
        }
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
            ("[2, 3]", "2, \"logit_scale\": 0.5", "logit_scale: 0.5 is not supported"),
            ("[2, 3]", "2, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}", "rope_scaling: it says"),
        ];
        for (from, to, message) in cases {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(message) && error.starts_with("config.json"), "{to}: {error}");
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
