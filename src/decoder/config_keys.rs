//! Keys of a `config.json` that this program does not act on, and may pass over.
//!
//! A list of what is known to be harmless, not of what is known to matter: a key that nobody here has heard of may
//! change what the decoder computes.

use super::config_fields::shown;
use serde_json::{Map, Value};

/// Bookkeeping, training and generation: no bearing on a forward pass.
const HARMLESS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "architectures",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "padding_side",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_model_max_length",
    "tokenizer_padding_side",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    // It lets code of the folder run, which `auto_map` would name: that is refused.
    "trust_remote_code",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_implementation",
    "license",
    "model_name",
];

/// Switches that are harmless while they are off.
const HARMLESS_OFF: &[&str] = &[
    "add_cross_attention",
    "is_encoder_decoder",
    "rope_interleaved",
    "use_mrope",
    "use_sliding_window",
    "output_router_logits",
];

/// Switches that say what is so anyway while they are on; off, every row would see all others.
const HARMLESS_ON: &[&str] = &["is_causal"];

/// Key and problem of the first of `keys` that may change what the decoder computes.
pub(super) fn check(keys: &Map<String, Value>) -> Result<(), (String, String)> {
    for (key, value) in keys {
        let says_nothing = match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let off = *value == Value::Bool(false) && HARMLESS_OFF.contains(&&key[..]);
        let on = *value == Value::Bool(true) && HARMLESS_ON.contains(&&key[..]);
        let whole = key == "partial_rotary_factor" && value.as_f64() == Some(1.0);
        let harmless =
            says_nothing || off || on || whole || key.starts_with('_') || HARMLESS.contains(&&key[..]);
        if !harmless {
            let problem = format!("{} is not supported: it may change what is computed", shown(value));
            return Err((key.clone(), problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nobody_knows_is_refused_unless_it_says_nothing() {
        let check = |text: &str| check(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        check(r#"{"new_thing": null, "use_mrope": false, "_name_or_path": "x", "top_k": 5}"#).unwrap();
        // As exporters and trainers write them.
        check(
            r#"{"gradient_checkpointing": false, "trust_remote_code": false, "add_bos_token": true, "is_causal": true}"#,
        )
        .unwrap();
        for (text, key) in [
            (r#"{"new_thing": false}"#, "new_thing"),
            (r#"{"use_mrope": true}"#, "use_mrope"),
            (r#"{"quantization_config": {"bits": 4}}"#, "quantization_config"),
            (r#"{"partial_rotary_factor": 0.5}"#, "partial_rotary_factor"),
            (r#"{"logit_scale": 0.06}"#, "logit_scale"),
            (r#"{"is_causal": false}"#, "is_causal"),
            (r#"{"trust_remote_code": true, "auto_map": {"AutoModel": "m.M"}}"#, "auto_map"),
        ] {
            assert_eq!(check(text).unwrap_err().0, key);
        }
    }
}
