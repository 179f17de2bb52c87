//! `config.json` of published models, key by key as their publishers have them.

use lea::decoder::{DecoderConfig, Family, RopeScaling};
use std::path::Path;

fn read(text: &str) -> DecoderConfig {
    let config = DecoderConfig::parse(text, Path::new("config.json")).unwrap();
    let again = DecoderConfig::parse(&config.to_json(), Path::new("written.json")).unwrap();
    assert_eq!(again, config);
    config
}

const LLAMA_2_7B: &str = r#"{"_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0", "use_cache": true, "vocab_size": 32000}"#;

const LLAMA_3_2_1B: &str = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
    "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
    "use_cache": true, "vocab_size": 128256}"#;

const SMOLLM2_135M: &str = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576,
    "initializer_range": 0.041666666666666664, "intermediate_size": 1536, "is_llama_config": true,
    "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 9,
    "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers.js_config":
    {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}}, "transformers_version": "4.42.3",
    "use_cache": true, "vocab_size": 49152}"#;

const MISTRAL_7B: &str = r#"{"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0",
    "use_cache": true, "vocab_size": 32000}"#;

const QWEN2_5_05B: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896,
    "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768,
    "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
    "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936}"#;

const QWEN3_06B: &str = r#"{"architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
    "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16,
    "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
    "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}"#;

#[test]
fn published_configurations_are_read_with_the_published_number_of_weights() {
    for (text, family, weights) in [
        (LLAMA_2_7B, Family::Llama, 6_738_415_616),
        (LLAMA_3_2_1B, Family::Llama, 1_235_814_400),
        (SMOLLM2_135M, Family::Llama, 134_515_008),
        (MISTRAL_7B, Family::Mistral, 7_241_732_096),
        (QWEN2_5_05B, Family::Qwen2, 494_032_768),
        (QWEN3_06B, Family::Qwen3, 596_049_920),
    ] {
        let config = read(text);
        assert_eq!((config.family, config.parameters()), (family, weights), "{text}");
    }
}

#[test]
fn what_publishers_say_of_windows_and_rotation_is_kept() {
    let llama3 = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original_context: 8192.0 };
    assert_eq!((read(LLAMA_3_2_1B).rope_scaling, read(LLAMA_3_2_1B).rope_theta), (llama3, 500_000.0));
    assert_eq!(read(LLAMA_2_7B).rope_theta, 10_000.0);
    assert_eq!(read(SMOLLM2_135M).rope_theta, 100_000.0);
    assert_eq!(read(MISTRAL_7B).window(31), Some(4096));
    // Version 0.3 has no window, a larger vocabulary and θ of a million.
    let third = MISTRAL_7B.replace("\"sliding_window\": 4096", "\"sliding_window\": null");
    assert_eq!(read(&third).sliding_window, None);
    assert_eq!(read(QWEN2_5_05B).sliding_window, None);
    assert_eq!(read(QWEN3_06B).head_dim, 128);
}
