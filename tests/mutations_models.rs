//! Readers of model files under many mutations each: no panic, memory bounded by the file's size, a message each time.

mod mutate;

use lea::autograd::Param;
use lea::decoder::weights::Weights;
use lea::decoder::{Decoder, DecoderConfig, DecoderIdentity, LoraConfig, Tokenizer};
use lea::device::{DType, Device};
use lea::le::{Environment, LeConfig, LeRecord, Prompt, peft};
use lea::tensor::Tensor;
use lea::tensor::file::{self, TensorFile};
use mutate::Kind;
use mutate::trial::{self, Bound, Outcome};
use std::collections::BTreeMap;
use std::path::Path;

const COUNT: u64 = 10_000;
const CPU: Device = Device::Cpu;
const CONFIG: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 8,
    "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 20, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
    "use_sliding_window": true, "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"],
    "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 10000.0}, "bos_token_id": 1, "eos_token_id": [2, 3],
    "torch_dtype": "float32", "transformers_version": "4.45.0", "use_cache": true}"#;

/// Both happened often: the mutations reached the inside of the reader, and it did refuse.
fn is_telling(outcome: Outcome) {
    assert!(outcome.refused > 1000 && outcome.read > 20, "{outcome:?}");
}

fn config() -> DecoderConfig {
    DecoderConfig::parse(CONFIG, Path::new("config.json")).unwrap()
}

fn decoder() -> Decoder {
    Decoder::random(config(), 1, &CPU, DType::F32, false).unwrap()
}

/// A folder in memory where there is one: a write to a disk takes longer than a reading.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Gives mutations of `dir/name` to `read`.
fn mutate_file(
    (dir, name, kind): (&Path, &str, Kind),
    bound: Bound,
    mut read: impl FnMut() -> lea::Result<()>,
) -> Outcome {
    let path = dir.join(name);
    let good = std::fs::read(&path).unwrap();
    read().unwrap_or_else(|e| panic!("{name} as it was: {e}"));
    trial::run(name, kind, &good, COUNT, bound, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        read()
    })
}

#[test]
fn safetensors() {
    let dir = folder();
    let path = dir.path().join("x.safetensors");
    let floats = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
        Tensor::from_slice(&CPU, &values, shape).unwrap()
    };
    let half = [half::f16::ONE; 6];
    let tensors = vec![
        ("a".to_string(), floats(&[3, 4])),
        ("b".to_string(), floats(&[5])),
        ("h".to_string(), Tensor::from_slice(&CPU, &half, &[2, 3]).unwrap()),
        ("ids".to_string(), Tensor::from_ids(&CPU, &[1, 2, 3]).unwrap()),
    ];
    file::write(&path, &tensors, &BTreeMap::from([("format".to_string(), "pt".to_string())])).unwrap();
    let bound = Bound { factor: 24, constant: 8 << 10 };
    is_telling(mutate_file((dir.path(), "x.safetensors", Kind::Safetensors), bound, || {
        let file = TensorFile::open(&path)?;
        for name in file.names() {
            let shape = file.shape(&name).unwrap().to_vec();
            // A type that is not read is refused with the tensor's name, and what is read has the shape's elements.
            let elements: usize = match file.read(&name, &shape, &CPU, DType::F32) {
                Ok(tensor) => tensor.len(),
                Err(e) if e.to_string().contains("the type is U32") => file.read_ids(&name, &shape)?.len(),
                Err(e) => return Err(e),
            };
            assert_eq!(elements, shape.iter().product::<usize>());
        }
        Ok(())
    }));
}

#[test]
fn configurations() {
    let path = Path::new("config.json");
    let bound = Bound { factor: 64, constant: 160 << 10 };
    let outcome = trial::run("config.json", Kind::Json, CONFIG.as_bytes(), COUNT, bound, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let config = DecoderConfig::parse(&text, path)?;
        // What was read can be written and read again.
        assert_eq!(DecoderConfig::parse(&config.to_json(), path)?, config);
        Ok(())
    });
    is_telling(outcome);
}

#[test]
fn a_model_folder_with_another_configuration() {
    let dir = folder();
    decoder().save(dir.path()).unwrap();
    std::fs::write(dir.path().join("config.json"), CONFIG).unwrap();
    let weights = std::fs::metadata(dir.path().join("model.safetensors")).unwrap().len() as usize;
    let bound = Bound { factor: 64, constant: 12 * weights + (160 << 10) };
    is_telling(mutate_file((dir.path(), "config.json", Kind::Json), bound, || {
        Decoder::load(dir.path(), &CPU, DType::F32).map(drop)
    }));
}

#[test]
fn indices_of_shards() {
    let dir = folder();
    for (shard, names) in [("one.safetensors", ["a", "b"]), ("two.safetensors", ["c", "d"])] {
        let of = |name: &str| (name.to_string(), Tensor::from_slice(&CPU, &[1f32, 2.0], &[2]).unwrap());
        file::write(&dir.path().join(shard), &names.map(of), &BTreeMap::new()).unwrap();
    }
    let index = r#"{"metadata": {"total_size": 32}, "weight_map": {"a": "one.safetensors", "b": "one.safetensors",
        "c": "two.safetensors", "d": "two.safetensors"}}"#;
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let bound = Bound { factor: 64, constant: 16 << 10 };
    is_telling(mutate_file((dir.path(), "model.safetensors.index.json", Kind::Json), bound, || {
        let weights = Weights::open(dir.path())?;
        let names: Vec<String> = weights.names().map(String::from).collect();
        names.iter().try_for_each(|name| weights.read(name, &[2], &CPU, DType::F32).map(drop))
    }));
}

#[test]
fn tokenizers() {
    let dir = folder();
    let texts = ["red hose, 3 inch", "blue hose, 4 inch", "red pump"];
    Tokenizer::train(texts, 268).unwrap().save(dir.path()).unwrap();
    let config = DecoderConfig { vocab_size: 300, ..config() };
    // The library compiles the expressions that split words, whatever the file's size.
    let bound = Bound { factor: 64, constant: 2 << 20 };
    let read = || {
        let tokenizer = Tokenizer::load(dir.path(), &config)?;
        let ids = tokenizer.encode_prompt("a red pump, <s> größer")?;
        assert!(ids.iter().all(|&id| id < 300));
        tokenizer.decode(&ids).map(drop)
    };
    is_telling(mutate_file((dir.path(), "tokenizer.json", Kind::Json), bound, read));
    Tokenizer::train(texts, 268).unwrap().save(dir.path()).unwrap();
    let outcome = mutate_file((dir.path(), "tokenizer_config.json", Kind::Json), bound, read);
    assert!(outcome.refused > 500 && outcome.read > 20, "{outcome:?}");
}

/// An LE with adapters, in `dir/le` on the decoder in `dir/decoder`.
fn write_le(dir: &Path) -> Decoder {
    let base = decoder();
    base.save(&dir.join("decoder")).unwrap();
    let mut adapted = base.clone();
    let mut settings = LeConfig { history: 7, ..LeConfig::default() };
    settings.fit.lora = LoraConfig { rank: 3, alpha: 4.0, ..LoraConfig::default() };
    adapted.add_lora(&settings.fit.lora, 2).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(&CPU, DType::F32, shape).unwrap();
    let env = Environment {
        decoder: adapted,
        items: Param::frozen("items", zeros(&[5, 8])),
        head: Param::frozen("head", zeros(&[8])),
        prompt: Prompt { root: vec![1, 4], stem: vec![], closing: vec![19] },
        history: 7,
    };
    let record = LeRecord {
        decoder: DecoderIdentity::of(&dir.join("decoder")).unwrap(),
        items_hash: "items".into(),
        data_hash: "data".into(),
        split_hash: "split".into(),
        seed: 1,
        settings,
        training: serde_json::json!({"epochs": [1, 2]}),
    };
    peft::save(&env, &record, &dir.join("decoder"), &dir.join("le")).unwrap();
    base
}

#[test]
fn descriptions_of_adapters() {
    let dir = folder();
    let base = write_le(dir.path());
    let le = dir.path().join("le");
    // As peft writes it, with settings of every kind.
    let text = r#"{"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0,
        "bias": "none", "target_modules": ["q_proj", "self_attn.v_proj"], "exclude_modules": ".*mlp.*",
        "rank_pattern": {"(q|v)_proj": 3}, "alpha_pattern": {"layers.1.self_attn.q_proj": 5}, "use_rslora": true,
        "modules_to_save": ["classifier", "score"], "layers_to_transform": [0, 1], "layers_pattern": "layers",
        "init_lora_weights": true, "use_dora": false, "loftq_config": {}, "revision": null}"#;
    std::fs::write(le.join("adapter_config.json"), text).unwrap();
    let bound = Bound { factor: 64, constant: 4 << 20 };
    is_telling(mutate_file((&le, "adapter_config.json", Kind::Json), bound, || {
        peft::read_adapter(&le, &base).map(drop)
    }));
}

#[test]
fn adapters() {
    let dir = folder();
    let base = write_le(dir.path());
    let le = dir.path().join("le");
    let bound = Bound { factor: 24, constant: 64 << 10 };
    is_telling(mutate_file((&le, "adapter_model.safetensors", Kind::Safetensors), bound, || {
        peft::read_adapter(&le, &base).map(drop)
    }));
}

#[test]
fn records_of_an_le_and_its_item_tokens() {
    let dir = folder();
    let base = write_le(dir.path());
    let (le, identity) = (dir.path().join("le"), DecoderIdentity::of(&dir.path().join("decoder")).unwrap());
    let bound = Bound { factor: 64, constant: 256 << 10 };
    let read = || peft::load_on(&le, &base, &identity).map(drop);
    is_telling(mutate_file((&le, "le.json", Kind::Json), bound, read));
    write_le(dir.path());
    // Each is refused by its hash, if by nothing before.
    let outcome = mutate_file((&le, "item_tokens.safetensors", Kind::Safetensors), bound, read);
    assert!(outcome.refused > 9000, "{outcome:?}");
}
