//! An LE's folder gives back the same LE on the same decoder, and refuses everything else.

use lea::autograd::Param;
use lea::data::{SynthConfig, synthesise};
use lea::decoder::{Decoder, DecoderConfig, DecoderIdentity, LoraConfig};
use lea::device::{DType, Device};
use lea::le::{Environment, LeConfig, LeRecord, LoadedLe, Prompt, decoder_folder, peft};
use lea::tensor::Tensor;
use lea::tensor::file::{self, TensorFile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CPU: Device = Device::Cpu;
const ITEMS: usize = 5;
const HEAD: &str = "base_model.model.score.weight";
const ADAPTERS: &str = "adapter_model.safetensors";
const V1_B: &str = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight";
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 20, "tie_word_embeddings": true}"#;

fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    Tensor::from_slice(&CPU, &values, shape).unwrap()
}

/// A decoder folder and an LE's folder on it.
struct Folders {
    _root: tempfile::TempDir,
    decoder: PathBuf,
    le: PathBuf,
    env: Environment,
    record: LeRecord,
}

fn decoder(dir: &Path, seed: u64) {
    let config = DecoderConfig::parse(CONFIG, Path::new("config.json")).unwrap();
    Decoder::random(config, seed, &CPU, DType::F32, false).unwrap().save(dir).unwrap();
}

fn folders() -> Folders {
    let root = tempfile::tempdir().unwrap();
    let (decoder_dir, le) = (root.path().join("decoder"), root.path().join("le"));
    decoder(&decoder_dir, 1);
    let mut settings = LeConfig { history: 7, ..LeConfig::default() };
    settings.prompt.stem = "then".into();
    settings.fit.lora = LoraConfig { rank: 3, alpha: 4.5, ..LoraConfig::default() };
    let mut decoder = Decoder::load(&decoder_dir, &CPU, DType::F32).unwrap();
    decoder.add_lora(&settings.fit.lora, 9).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    decoder.lora_params().iter().for_each(|p| p.set(random(&mut rng, p.value().shape())));
    let env = Environment {
        decoder,
        items: Param::trainable("items", random(&mut rng, &[ITEMS, 8])),
        head: Param::trainable("head", random(&mut rng, &[8])),
        prompt: Prompt { root: vec![0, 4], stem: vec![19], closing: vec![] },
        history: 7,
    };
    let record = LeRecord {
        decoder: DecoderIdentity::of(&decoder_dir).unwrap(),
        items_hash: "items".into(),
        data_hash: "data".into(),
        split_hash: "split".into(),
        seed: u64::MAX,
        settings,
        training: json!({"pairs": 0.1 + 0.2, "epochs": [1, 2]}),
    };
    peft::save(&env, &record, &decoder_dir, &le).unwrap();
    Folders { _root: root, decoder: decoder_dir, le, env, record }
}

impl Folders {
    fn load(&self) -> lea::Result<LoadedLe> {
        peft::load(&self.le, &self.decoder, &CPU, DType::F32)
    }

    fn refusal(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    /// Changes the tensors of one of the LE's files.
    fn rewrite(&self, name: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
        let path = self.le.join(name);
        let file = TensorFile::open(&path).unwrap();
        let read = |name: String| {
            let tensor = file.read(&name, file.shape(&name).unwrap(), &CPU, DType::F32).unwrap();
            (name, tensor)
        };
        let mut tensors: BTreeMap<String, Tensor> = file.names().into_iter().map(read).collect();
        let keys = ["items_hash", "decoder_hash"].into_iter();
        let metadata = keys.filter_map(|key| Some((key.to_string(), file.metadata(key)?.to_string())));
        let metadata = metadata.collect();
        change(&mut tensors);
        file::write(&path, &tensors.into_iter().collect::<Vec<_>>(), &metadata).unwrap();
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_saved_le_loads_with_the_same_bits() {
    let folders = folders();
    let LoadedLe { env, record, hash } = folders.load().unwrap();
    assert_eq!(record, folders.record);
    assert_eq!((&env.prompt, env.history), (&folders.env.prompt, 7));
    assert_eq!(bits(&env.items.value()), bits(&folders.env.items.value()));
    assert_eq!(bits(&env.head.value()), bits(&folders.env.head.value()));
    let merged = |env: &Environment| env.merged().unwrap().decoder.params();
    for (found, expected) in merged(&env).iter().zip(merged(&folders.env)) {
        assert_eq!(bits(&found.value()), bits(&expected.value()), "{}", expected.name());
    }
    assert_eq!(decoder_folder(&folders.le).unwrap(), folders.decoder);
    peft::save(&env, &record, Path::new("elsewhere"), &folders.le).unwrap();
    assert_eq!(folders.load().unwrap().hash, hash, "saved again, it is the same LE");
}

#[test]
fn tensors_are_named_and_shaped_as_peft_does() {
    let folders = folders();
    let file = TensorFile::open(&folders.le.join(ADAPTERS)).unwrap();
    let shapes: Vec<(String, Vec<usize>)> =
        file.names().into_iter().map(|name| (name.clone(), file.shape(&name).unwrap().to_vec())).collect();
    let mut expected = vec![(HEAD.to_string(), vec![1, 8])];
    for layer in 0..2 {
        for (module, out) in [("q_proj", 8), ("v_proj", 4)] {
            let module = format!("base_model.model.model.layers.{layer}.self_attn.{module}");
            expected.push((format!("{module}.lora_A.weight"), vec![3, 8]));
            expected.push((format!("{module}.lora_B.weight"), vec![out, 3]));
        }
    }
    expected.sort();
    assert_eq!(shapes, expected);
    assert_eq!(file.metadata("format"), Some("pt"));
}

#[test]
fn a_missing_unknown_or_misshapen_tensor_is_an_error_that_names_it() {
    let folders = folders();
    let (adapters, tokens) = (ADAPTERS, "item_tokens.safetensors");
    type Change = fn(&mut BTreeMap<String, Tensor>);
    let zeros = |shape: &[usize]| Tensor::zeros(&CPU, DType::F32, shape).unwrap();
    let unknown = V1_B.replace("v_proj", "k_proj");
    let cases: [(&str, Change, String); 5] = [
        (adapters, |t| drop(t.remove(HEAD)), format!("tensor {HEAD}: the score head is missing")),
        (adapters, |t| drop(t.remove(V1_B)), format!("tensor {V1_B}: the tensor is missing")),
        (tokens, |t| drop(t.remove("item_tokens")), "tensor item_tokens: the tensor is missing".into()),
        (tokens, |t| drop(t.insert("more".into(), t["item_tokens"].clone())), "tensor more".into()),
        (
            adapters,
            |t| drop(t.insert(V1_B.replace("v_proj", "k_proj"), t[V1_B].clone())),
            format!("tensor {unknown}: the adapters have no place for it"),
        ),
    ];
    for (file, change, message) in cases {
        let good = std::fs::read(folders.le.join(file)).unwrap();
        folders.rewrite(file, change);
        let error = folders.refusal();
        assert!(error.contains(file) && error.contains(&message), "{error}");
        std::fs::write(folders.le.join(file), good).unwrap();
    }
    let shapes: [(&str, &str, &[usize], &str); 3] = [
        (adapters, HEAD, &[8], "the shape is [8], expected [1, 8]"),
        (adapters, V1_B, &[8, 3], "the shape is [8, 3], expected [4, 3]"),
        (tokens, "item_tokens", &[4, 8], "the shape is [4, 8], expected [5, 8]"),
    ];
    for (file, name, shape, message) in shapes {
        let good = std::fs::read(folders.le.join(file)).unwrap();
        folders.rewrite(file, |t| drop(t.insert(name.into(), zeros(shape))));
        let error = folders.refusal();
        assert!(error.contains(name) && error.contains(message), "{error}");
        std::fs::write(folders.le.join(file), good).unwrap();
    }
    folders.load().unwrap();
}

#[test]
fn a_changed_or_truncated_file_is_refused() {
    let folders = folders();
    for name in [ADAPTERS, "item_tokens.safetensors"] {
        let path = folders.le.join(name);
        let good = std::fs::read(&path).unwrap();
        for length in [0, 7, 100, good.len() - 4] {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(folders.refusal().contains(&format!("{name}: header")), "{length}");
        }
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = folders.refusal();
        assert!(error.contains(&format!("{name}: content: its SHA-256")), "{error}");
        std::fs::write(&path, good).unwrap();
    }
    let path = folders.le.join("adapter_config.json");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("4.5", "9.0")).unwrap();
    let error = folders.refusal();
    assert!(
        error.contains("adapter_config.json: adapters: the adapters are") && error.contains("9.0"),
        "{error}"
    );
}

#[test]
fn another_decoder_is_refused_wherever_it_lies() {
    let folders = folders();
    let moved = folders.le.with_file_name("moved");
    std::fs::rename(&folders.decoder, &moved).unwrap();
    peft::load(&folders.le, &moved, &CPU, DType::F32).unwrap();
    decoder(&folders.decoder, 2);
    let error = folders.refusal();
    assert!(error.contains("le.json: decoder: the LE was trained on another decoder"), "{error}");
    assert!(error.contains("model.safetensors has"), "{error}");
    std::fs::copy(moved.join("model.safetensors"), folders.decoder.join("model.safetensors")).unwrap();
    folders.load().unwrap();
    let config = folders.decoder.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace("10000.0", "20000.0");
    std::fs::write(config, text).unwrap();
    assert!(folders.refusal().contains("config.json has"));
}

#[test]
fn a_folder_without_its_record_is_unfinished_and_a_broken_record_is_refused() {
    let folders = folders();
    let path = folders.le.join("le.json");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(folders.refusal().contains("holds no le.json: no LE was written to its end"));
    for (from, to, message) in [
        ("lea-le-1", "lea-le-2", "format: \"lea-le-2\""),
        ("\"item_tokens.safetensors\"", "\"../x\"", "files: {"),
        ("\"history\": 7", "\"history\": 0", "history must be at least 1"),
        ("\"history\"", "\"hist\"", "le.json: line"),
        ("      19", "      20", "prompt_tokens: token 20 is not below the decoder's 20"),
        ("\"items\": 5", "\"items\": 18446744073709551615", "tensor item_tokens: the shape is [5, 8]"),
        ("\"items_hash\": \"items\"", "\"items_hash\": \"x\"", "made for another catalogue or other texts"),
    ] {
        assert!(good.contains(from), "{from}: {good}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = folders.refusal();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_le_fits_data_with_its_items_and_texts_only() {
    let mut data = synthesise(&SynthConfig { users: 20, ..SynthConfig::default() }).unwrap().dataset;
    let record = LeRecord { items_hash: data.items_hash(), ..folders().record };
    data.users.pop();
    record.check_items(&data).unwrap();
    data.items[0].text.push('!');
    assert!(record.check_items(&data).unwrap_err().to_string().contains("the items or texts of"));
}

#[test]
fn an_le_that_diverged_is_not_saved_and_the_earlier_one_stays() {
    let folders = folders();
    let hash = folders.load().unwrap().hash;
    let mut values = folders.env.head.value().to_vec::<f32>().unwrap();
    values[2] = f32::NAN;
    folders.env.head.set(Tensor::from_slice(&CPU, &values, &[8]).unwrap());
    let error =
        peft::save(&folders.env, &folders.record, &folders.decoder, &folders.le).unwrap_err().to_string();
    assert!(
        error.contains(HEAD) && error.contains("element 2") && error.contains("learning rate"),
        "{error}"
    );
    assert_eq!(folders.load().unwrap().hash, hash);
}
