//! `adapter_config.json`: LoRA adapters and a score head as PEFT describes them.

use super::peft_names::{Layers, Names, Patterns, Problem, modules, named};
use crate::decoder::{AdapterShape, LoraConfig};
use crate::{Error, Result, files};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Name of the file.
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The module that is saved whole beside the adapters.
const HEAD: &str = "score";
/// Keys without bearing on what trained adapters do. Any other that says something is refused.
const HARMLESS: [&str; 8] = [
    "auto_mapping",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
];
/// Ways to begin that leave the decoder's own weights as they are.
const BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];
/// What to do about a setting that cannot be followed.
const REMEDY: &str = "save an adapter without this, or fit the LE again";

#[derive(Debug, Deserialize)]
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
    #[serde(default)]
    exclude_modules: Value,
    #[serde(default)]
    layers_to_transform: Value,
    #[serde(default)]
    layers_pattern: Value,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    init_lora_weights: Value,
    modules_to_save: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What PEFT says of an adapter.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    path: PathBuf,
    file: File,
}

/// Writes `dir/adapter_config.json` for adapters `lora` on the decoder in the folder `base_model`.
pub(super) fn save(lora: &LoraConfig, base_model: &Path, dir: &Path) -> Result<()> {
    // PEFT takes α for an integer wherever it is one.
    let alpha = |alpha: f64| {
        let whole = alpha.fract() == 0.0 && alpha.abs() < 1e15;
        if whole { json!(alpha as i64) } else { json!(alpha) }
    };
    let alphas = lora.alpha_pattern.iter().map(|(name, &value)| (name.clone(), alpha(value)));
    let value = json!({
        "alpha_pattern": alphas.collect::<Map<String, Value>>(),
        "base_model_name_or_path": base_model.to_string_lossy(),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": alpha(lora.alpha),
        "lora_dropout": lora.dropout,
        "modules_to_save": [HEAD],
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": lora.rank_pattern,
        "target_modules": lora.targets,
        "task_type": "SEQ_CLS",
        "use_rslora": lora.use_rslora,
    });
    files::write_atomic(&dir.join(ADAPTER_CONFIG), |out| writeln!(out, "{value:#}"))
}

impl AdapterConfig {
    /// Reads `dir/adapter_config.json`.
    ///
    /// # Errors
    /// What is no LoRA adapter with a score head, and every setting whose effect would be lost.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(ADAPTER_CONFIG);
        let file: File = serde_json::from_str(&files::read_text(&path)?)
            .map_err(|e| Error::invalid(&path, format!("line {}", e.line()), e.to_string(), REMEDY))?;
        file.check().map_err(|(key, problem)| Error::invalid(&path, key, problem, REMEDY))?;
        Ok(AdapterConfig { path, file })
    }

    /// The decoder's folder or name.
    pub fn base_model(&self) -> &str {
        self.file.base_model_name_or_path.as_deref().unwrap_or_default()
    }

    /// The adapters that it means on a decoder of `layers` layers.
    ///
    /// # Errors
    /// Names of what is no projection, patterns that cannot be read, ranks and α that make no sense.
    pub fn lora(&self, layers: usize) -> Result<LoraConfig> {
        let found = self.file.adapters(layers);
        let adapters = found.map_err(|(key, problem)| Error::invalid(&self.path, key, problem, REMEDY))?;
        let file = &self.file;
        let lora = LoraConfig {
            rank: file.r,
            alpha: file.lora_alpha,
            dropout: file.lora_dropout,
            use_rslora: file.use_rslora,
            ..LoraConfig::default()
        };
        let lora = named(lora, &adapters, layers);
        match lora.adapters(layers) {
            Ok(_) => Ok(lora),
            Err(e) => Err(Error::invalid(&self.path, "adapters", e.to_string(), REMEDY)),
        }
    }
}

impl File {
    fn check(&self) -> Result<(), (String, String)> {
        let only = |key: &str, found: &str, expected: &str| match found == expected {
            true => Ok(()),
            false => Err((key.to_string(), format!("{found:?}, supported is {expected:?}"))),
        };
        only("peft_type", &self.peft_type, "LORA")?;
        only("task_type", self.task_type.as_deref().unwrap_or("SEQ_CLS"), "SEQ_CLS")?;
        only("bias", self.bias.as_deref().unwrap_or("none"), "none")?;
        for (key, value) in &self.rest {
            if !HARMLESS.contains(&&key[..]) && !says_nothing(value) {
                return Err((key.clone(), format!("{value} is not supported")));
            }
        }
        if let Some(way) = self.init_lora_weights.as_str().filter(|way| !BEGINNINGS.contains(way)) {
            let problem = format!("{way:?} changes the decoder's own weights, which is not supported");
            return Err(("init_lora_weights".into(), problem));
        }
        let saved = self.modules_to_save.as_deref().unwrap_or_default();
        // PEFT adds the other usual name of a head on its own; no Llama has a module of that name.
        if !saved.iter().any(|m| m == HEAD) || saved.iter().any(|m| m != HEAD && m != "classifier") {
            return Err(("modules_to_save".into(), format!("{saved:?}, expected [\"{HEAD}\"]")));
        }
        Ok(())
    }

    fn adapters(&self, layers: usize) -> Result<Vec<AdapterShape>, Problem> {
        const TARGETS: &str = "target_modules";
        let targets = Names::parse(TARGETS, &self.target_modules)?;
        let excluded = match &self.exclude_modules {
            nothing if says_nothing(nothing) || nothing == "" => Names::List(Vec::new()),
            value => Names::parse("exclude_modules", value)?,
        };
        let kept = Layers::parse(&self.layers_to_transform, &self.layers_pattern)?;
        if !kept.keep_all() && !matches!(targets, Names::List(_)) {
            return Err(("layers_to_transform", "it needs a list of target_modules".into()));
        }
        let empty = Map::new();
        let rank = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let ranks = Patterns::parse("rank_pattern", self.rank_pattern.as_ref().unwrap_or(&empty), rank)?;
        let alphas =
            Patterns::parse("alpha_pattern", self.alpha_pattern.as_ref().unwrap_or(&empty), Value::as_f64)?;
        for other in ["model.embed_tokens", "lm_head"] {
            let all = matches!(targets, Names::AllLinear);
            if !all && targets.matches(TARGETS, other)? && !excluded.matches("exclude_modules", other)? {
                return Err((
                    TARGETS,
                    format!("an adapter of {other} is not supported, only those of layers"),
                ));
            }
        }
        let mut adapters = Vec::new();
        for (layer, module) in modules(layers) {
            let listed = |list: &[String]| list.contains(&module);
            let exact = matches!(&targets, Names::List(list) if listed(list));
            let target = targets.matches(TARGETS, &module)? && (exact || kept.keep(layer, &module)?);
            if target && !excluded.matches("exclude_modules", &module)? {
                let rank = ranks.of("rank_pattern", &module)?.unwrap_or(self.r);
                let alpha = alphas.of("alpha_pattern", &module)?.unwrap_or(self.lora_alpha);
                adapters.push(AdapterShape { module, rank, alpha });
            }
        }
        match adapters.is_empty() {
            true => Err((TARGETS, format!("{} names no projection of the decoder", self.target_modules))),
            false => Ok(adapters),
        }
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
    Ok(PathBuf::from(AdapterConfig::load(dir)?.base_model()))
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

    fn load(text: &str) -> Result<LoraConfig> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(ADAPTER_CONFIG), text).unwrap();
        AdapterConfig::load(dir.path())?.lora(3)
    }

    #[test]
    fn what_peft_writes_is_read_and_what_is_written_reads_back() {
        let lora = load(PEFT).unwrap();
        let targets = vec!["q_proj".into(), "v_proj".into()];
        let expected =
            LoraConfig { targets, rank: 4, dropout: 0.05, use_rslora: true, ..LoraConfig::default() };
        assert_eq!(lora, expected);
        let paths = LoraConfig {
            targets: vec!["model.layers.1.mlp.up_proj".into(), "model.layers.2.self_attn.q_proj".into()],
            rank_pattern: [("up_proj".to_string(), 7)].into(),
            alpha_pattern: [("q_proj".to_string(), 2.5)].into(),
            ..expected.clone()
        };
        for lora in [expected, paths] {
            let dir = tempfile::tempdir().unwrap();
            save(&lora, Path::new("some/llama"), dir.path()).unwrap();
            assert_eq!(AdapterConfig::load(dir.path()).unwrap().lora(3).unwrap(), lora);
            assert_eq!(decoder_folder(dir.path()).unwrap(), Path::new("some/llama"));
        }
    }

    #[test]
    fn layers_exclusions_and_patterns_count_as_in_peft() {
        let both = "\"layers_to_transform\": null";
        let paths = |text: String| -> Vec<String> {
            let adapters = load(&text).unwrap().adapters(3).unwrap().into_iter();
            adapters
                .map(|a| format!("{} {} {}", a.module.replace("model.layers.", ""), a.rank, a.alpha))
                .collect()
        };
        let some = paths(PEFT.replace(both, "\"layers_to_transform\": [1]"));
        assert_eq!(some, ["1.self_attn.q_proj 4 16", "1.self_attn.v_proj 4 16"]);
        let pattern = PEFT.replace("\"layers_pattern\": null", "\"layers_pattern\": \"h\"");
        assert!(load(&pattern.replace(both, "\"layers_to_transform\": 1")).is_err());
        let whole = PEFT.replace("[\"v_proj\", \"q_proj\"]", "\"all-linear\"");
        assert_eq!(paths(whole.clone()).len(), 21);
        let excluded =
            whole.replace("\"exclude_modules\": null", "\"exclude_modules\": \".*(mlp|[kvo]_proj).*\"");
        let ranked =
            excluded.replace("\"rank_pattern\": {}", "\"rank_pattern\": {\"layers.2.*\": 2, \"q_proj\": 3}");
        assert_eq!(
            paths(ranked),
            ["0.self_attn.q_proj 3 16", "1.self_attn.q_proj 3 16", "2.self_attn.q_proj 2 16"]
        );
    }

    #[test]
    fn settings_whose_effect_would_be_lost_are_refused_by_name() {
        for (from, to, message) in [
            ("\"LORA\"", "\"IA3\"", "peft_type: \"IA3\", supported is \"LORA\""),
            ("\"SEQ_CLS\"", "\"CAUSAL_LM\"", "task_type: \"CAUSAL_LM\""),
            ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias: \"all\""),
            ("\"use_dora\": false", "\"use_dora\": true", "use_dora: true is not supported"),
            ("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": -2}", "rank_pattern: -2 of"),
            ("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 9000}", "adapters: lora: rank 9000"),
            ("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", "the decoder's own weights"),
            ("\"r\": 4", "\"new_thing\": 1, \"r\": 4", "new_thing: 1 is not supported"),
            ("[\"classifier\", \"score\"]", "null", "modules_to_save: [], expected [\"score\"]"),
            ("[\"classifier\", \"score\"]", "[\"score\", \"lm_head\"]", "modules_to_save"),
            ("[\"v_proj\", \"q_proj\"]", "[\"c_attn\"]", "target_modules: [\"c_attn\"] names no projection"),
            (
                "[\"v_proj\", \"q_proj\"]",
                "[\"q_proj\", \"embed_tokens\"]",
                "of model.embed_tokens is not supported",
            ),
            ("[\"v_proj\", \"q_proj\"]", "\"(\"", "target_modules: the pattern \"(\" cannot be read"),
            ("\"r\": 4, ", "", "missing field `r`"),
        ] {
            assert!(PEFT.contains(from), "{from}");
            let error = load(&PEFT.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
