//! `config.json` of a Hugging Face model folder, read and written.

use super::config::{Family, Problem};
use super::config_fields::{Keys, shown};
use super::config_values::File;
use super::{DecoderConfig, config_keys};
use crate::{Error, Result, files};
use serde_json::{Value, json};
use std::path::Path;

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
        let mut keys: Keys = serde_json::from_str(text).map_err(broken)?;
        let model_type = keys.0.remove("model_type");
        let named = model_type.as_ref().and_then(Value::as_str);
        let Some(family) = Family::ALL.into_iter().find(|f| Some(f.name()) == named) else {
            let found = model_type.map_or("is missing".into(), |found| format!("is {}", shown(&found)));
            let known = Family::ALL.map(|f| format!("{:?}", f.name())).join(", ");
            let problem = format!("the model type {found}, supported are {known}");
            return Err(Error::invalid(path, "model_type", problem, "choose a decoder of the Llama family"));
        };
        let wrong = |(key, problem): Problem| {
            let remedy = "choose another decoder, or correct the value as the publisher has it";
            Error::invalid(path, key, problem, remedy)
        };
        let file = File::read(keys).map_err(wrong)?;
        config_keys::check(&file.rest).map_err(|(key, problem)| {
            let remedy = "choose another decoder, or remove the key if you know that it has no effect";
            Error::invalid(path, key, problem, remedy)
        })?;
        file.into_config(family).and_then(|config| config.check().map(|()| config)).map_err(wrong)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::RopeScaling;
    use serde_json::Map;

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
        // Of families whose layers are alike: what says so of each of them.
        let all = |kind: &str| format!("\"layer_types\": [{kind}, {kind}, {kind}]");
        assert_eq!(of("llama", &all(full)).unwrap(), (None, vec![]));
        assert_eq!(
            of("mistral", &format!("\"sliding_window\": null, {}", all(full))).unwrap(),
            (None, vec![])
        );
        assert_eq!(of("mistral", &format!("\"sliding_window\": 7, {}", all(sliding))).unwrap().0, Some(7));
        for (family, more, message) in [
            ("qwen3", types(full), "layer_types: 1 for 3 layers"),
            ("llama", all(sliding), "layer_types: \"sliding_attention\" is not supported"),
            ("llama", format!("\"layer_types\": [{full}]"), "layer_types: 1 for 3 layers"),
            ("mistral", all(full), "layer_types: \"full_attention\" is not supported"),
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
            ("\"hidden_size\": 48, ", "", "hidden_size: the key is missing"),
            ("\"hidden_size\": 48", "\"hidden_size\": 0", "hidden_size: 0 is outside"),
            ("\"hidden_size\": 48", "\"hidden_size\": -1", "hidden_size: -1 where a whole number"),
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
    fn a_value_of_another_kind_is_told_with_its_key_and_what_stands_there() {
        // Of each key, what no decoder can have.
        let extent = ["-1", "4.5", "\"48\"", "true", "[48]", "{}", "1e30", "36893488147419103232"];
        let number = ["\"1e-6\"", "false", "[1]", "{\"a\": 1}"];
        let switch = ["1", "0", "\"true\"", "[true]"];
        let token = ["-1", "4294967296", "\"2\"", "2.5", "{}"];
        let scaling = ["\"linear\"", "2", "[2]", "true"];
        let cases: &[(&str, &[&str])] = &[
            ("hidden_size", &extent),
            ("intermediate_size", &extent),
            ("num_hidden_layers", &extent),
            ("num_attention_heads", &extent),
            ("num_key_value_heads", &extent),
            ("head_dim", &extent),
            ("vocab_size", &extent),
            ("max_position_embeddings", &extent),
            ("sliding_window", &extent),
            ("max_window_layers", &extent),
            ("rms_norm_eps", &number),
            ("rope_theta", &number),
            ("use_sliding_window", &switch),
            ("tie_word_embeddings", &switch),
            ("attention_bias", &switch),
            ("mlp_bias", &switch),
            ("bos_token_id", &token),
            ("bos_token_id", &["[2]"]),
            ("eos_token_id", &token),
            ("eos_token_id", &["[2,-1]", "[\"2\"]", "[null]", "[[2]]"]),
            ("rope_scaling", &scaling),
            ("rope_parameters", &scaling),
            ("hidden_act", &["1", "true", "[\"silu\"]"]),
            ("layer_types", &["\"full_attention\"", "[1]", "{}"]),
            ("model_type", &["1", "true", "[\"llama\"]", "null"]),
        ];
        let good: Map<String, Value> = serde_json::from_str(GOOD).unwrap();
        for (key, values) in cases {
            for text in *values {
                let value: Value = serde_json::from_str(text).unwrap();
                let mut keys = good.clone();
                keys.insert((*key).into(), value.clone());
                let error = parse(&Value::from(keys).to_string()).unwrap_err().to_string();
                let place = format!("config.json: {key}: ");
                assert!(error.starts_with(&place) && error.contains(&value.to_string()), "{text}: {error}");
                assert!(error.contains("is expected") || *key == "model_type", "{error}");
            }
        }
        for key in
            ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
        {
            let mut keys = good.clone();
            keys.insert(key.into(), Value::Null);
            let error = parse(&Value::from(keys).to_string()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: {key}: null where")), "{error}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let error = parse(&GOOD.replacen("[2, 3]", "2, \"hidden_size\": 52", 1)).unwrap_err().to_string();
        assert!(error.contains("the key \"hidden_size\" stands twice at line"), "{error}");
    }

    #[test]
    fn broken_json_is_an_error_with_its_line() {
        for text in ["", "{", "[]", "null", "{\"model_type\": \"llama\",\n \"hidden_size\": }"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("line") || error.contains("model_type"), "{error}");
        }
    }
}
