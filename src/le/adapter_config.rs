//! `adapter_config.json`: LoRA adapters and a score head as PEFT describes them.

use crate::decoder::LoraConfig;
use crate::{Error, Result, files};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Name of the file.
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The module that is saved whole beside the adapters.
const HEAD: &str = "score";
/// Keys that would change what the adapters do; each must be absent, null, false or empty.
const UNSUPPORTED: [&str; 11] = [
    "fan_in_fan_out",
    "use_dora",
    "use_qalora",
    "lora_bias",
    "layers_to_transform",
    "layer_replication",
    "rank_pattern",
    "alpha_pattern",
    "exclude_modules",
    "target_parameters",
    "trainable_token_indices",
];

#[derive(Deserialize)]
struct File {
    peft_type: String,
    task_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    bias: Option<String>,
    target_modules: Value,
    modules_to_save: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What PEFT says of an adapter.
#[derive(Debug, PartialEq)]
pub(super) struct AdapterConfig {
    pub lora: LoraConfig,
    /// The decoder's folder or name.
    pub base_model: String,
}

impl AdapterConfig {
    /// Writes `dir/adapter_config.json`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let lora = &self.lora;
        // PEFT takes α for an integer wherever it is one.
        let whole = lora.alpha.fract() == 0.0 && lora.alpha.abs() < 1e15;
        let alpha = if whole { json!(lora.alpha as i64) } else { json!(lora.alpha) };
        let value = json!({
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": alpha,
            "lora_dropout": lora.dropout,
            "modules_to_save": [HEAD],
            "peft_type": "LORA",
            "r": lora.rank,
            "target_modules": lora.targets,
            "task_type": "SEQ_CLS",
            "use_rslora": lora.use_rslora,
        });
        files::write_atomic(&dir.join(ADAPTER_CONFIG), |out| writeln!(out, "{value:#}"))
    }

    /// Reads `dir/adapter_config.json`.
    ///
    /// # Errors
    /// What is no LoRA adapter with a score head, and every setting whose effect would be lost.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(ADAPTER_CONFIG);
        let remedy = "fit the LE again, or save the adapter without this";
        let file: File = serde_json::from_str(&files::read_text(&path)?)
            .map_err(|e| Error::invalid(&path, format!("line {}", e.line()), e.to_string(), remedy))?;
        file.into_config().map_err(|(key, problem)| Error::invalid(&path, key, problem, remedy))
    }
}

impl File {
    fn into_config(self) -> Result<AdapterConfig, (&'static str, String)> {
        let only = |key, found: &str, expected: &str| match found == expected {
            true => Ok(()),
            false => Err((key, format!("{found:?}, supported is {expected:?}"))),
        };
        only("peft_type", &self.peft_type, "LORA")?;
        only("task_type", self.task_type.as_deref().unwrap_or("SEQ_CLS"), "SEQ_CLS")?;
        only("bias", self.bias.as_deref().unwrap_or("none"), "none")?;
        for key in UNSUPPORTED {
            if let Some(value) = self.rest.get(key).filter(|value| !says_nothing(value)) {
                return Err((key, format!("{value} is not supported")));
            }
        }
        let saved = self.modules_to_save.unwrap_or_default();
        // PEFT adds the other usual name of a head on its own; no Llama has a module of that name.
        if !saved.iter().any(|m| m == HEAD) || saved.iter().any(|m| m != HEAD && m != "classifier") {
            return Err(("modules_to_save", format!("{saved:?}, expected [\"{HEAD}\"]")));
        }
        let Ok(targets) = serde_json::from_value::<Vec<String>>(self.target_modules.clone()) else {
            return Err(("target_modules", format!("{} is no list of module names", self.target_modules)));
        };
        let lora = LoraConfig {
            targets,
            rank: self.r,
            alpha: self.lora_alpha,
            dropout: self.lora_dropout,
            use_rslora: self.use_rslora,
        };
        Ok(AdapterConfig { lora, base_model: self.base_model_name_or_path.unwrap_or_default() })
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The decoder folder that the adapter in `dir` names: where it lay when the LE was fitted.
pub fn decoder_folder(dir: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from(AdapterConfig::load(dir)?.base_model))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PEFT writes it.
    const PEFT: &str = r#"{"alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "some/llama",
        "bias": "none", "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false,
        "inference_mode": true, "init_lora_weights": true, "layer_replication": null, "layers_pattern": null,
        "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 16, "lora_bias": false,
        "lora_dropout": 0.05, "megatron_config": null, "megatron_core": "megatron.core",
        "modules_to_save": ["classifier", "score"], "peft_type": "LORA", "r": 4, "rank_pattern": {},
        "revision": null, "target_modules": ["v_proj", "q_proj"], "task_type": "SEQ_CLS", "use_dora": false,
        "use_rslora": true}"#;

    fn load(text: &str) -> Result<AdapterConfig> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(ADAPTER_CONFIG), text).unwrap();
        AdapterConfig::load(dir.path())
    }

    #[test]
    fn what_peft_writes_is_read_and_what_is_written_reads_back() {
        let config = load(PEFT).unwrap();
        let targets = vec!["v_proj".into(), "q_proj".into()];
        let lora = LoraConfig { targets, rank: 4, alpha: 16.0, dropout: 0.05, use_rslora: true };
        assert_eq!(config, AdapterConfig { lora, base_model: "some/llama".into() });
        let dir = tempfile::tempdir().unwrap();
        config.save(dir.path()).unwrap();
        assert_eq!(AdapterConfig::load(dir.path()).unwrap(), config);
        assert_eq!(decoder_folder(dir.path()).unwrap(), Path::new("some/llama"));
    }

    #[test]
    fn settings_whose_effect_would_be_lost_are_refused_by_name() {
        for (from, to, message) in [
            ("\"LORA\"", "\"IA3\"", "peft_type: \"IA3\", supported is \"LORA\""),
            ("\"SEQ_CLS\"", "\"CAUSAL_LM\"", "task_type: \"CAUSAL_LM\""),
            ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias: \"all\""),
            ("\"use_dora\": false", "\"use_dora\": true", "use_dora: true is not supported"),
            ("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 2}", "rank_pattern"),
            ("[\"classifier\", \"score\"]", "null", "modules_to_save: [], expected [\"score\"]"),
            ("[\"classifier\", \"score\"]", "[\"score\", \"lm_head\"]", "modules_to_save"),
            ("[\"v_proj\", \"q_proj\"]", "\"all-linear\"", "target_modules: \"all-linear\" is no list"),
            ("\"r\": 4, ", "", "missing field `r`"),
        ] {
            assert!(PEFT.contains(from), "{from}");
            let error = load(&PEFT.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
