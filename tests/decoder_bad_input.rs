//! What a user's model folder can get wrong: each is one error with place and remedy, never a panic and never a
//! model that was read by half.

use lea::decoder::{Decoder, DecoderConfig, Resident, Rows, Tokenizer};
use lea::device::{DType, Device};
use lea::tensor::Tensor;
use lea::tensor::file::{self, TensorFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama").join(name)
}

/// A copy of the fixture to spoil.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn error(dir: &Path) -> String {
    match Decoder::load(dir, &Device::Cpu, DType::F32) {
        Ok(_) => panic!("the spoilt folder {} was loaded", dir.display()),
        Err(e) => e.to_string(),
    }
}

/// The tensors of a fixture after `change`, written as one file.
fn with_tensors(name: &str, change: impl Fn(&mut Vec<(String, Tensor)>)) -> tempfile::TempDir {
    let dir = copy(name);
    let path = dir.path().join("model.safetensors");
    let read = TensorFile::open(&path).unwrap();
    let tensor = |name: String| {
        let shape = read.shape(&name).unwrap().to_vec();
        let tensor = read.read(&name, &shape, &Device::Cpu, DType::F32).unwrap();
        (name, tensor)
    };
    let mut tensors = read.names().into_iter().map(tensor).collect();
    change(&mut tensors);
    file::write(&path, &tensors, &BTreeMap::new()).unwrap();
    dir
}

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn truncated_weights_are_told_apart_from_foreign_files() {
    let dir = copy("untied");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for (content, message) in [
        (&bytes[..bytes.len() - 1], "shorter or longer than its header says"),
        (&bytes[..100], "ends inside its header"),
        (&bytes[..3], "shorter than 8 bytes"),
        (&[][..], "shorter than 8 bytes"),
        (&b"PK\x03\x04 this is a zip archive of pickles"[..], "no safetensors file"),
        (&b"\x10\x00\x00\x00\x00\x00\x00\x00this is no json."[..], "no safetensors file"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = error(dir.path());
        assert!(error.contains("model.safetensors") && error.contains(message), "{error}");
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let dir = with_tensors("untied", |tensors| tensors.retain(|(name, _)| name != "lm_head.weight"));
    let error = error(dir.path());
    assert!(
        error.contains("tensor lm_head.weight: the tensor is missing, expected shape [67, 40]"),
        "{error}"
    );
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let name = "model.layers.1.self_attn.k_proj.weight";
    let dir = with_tensors("untied", |tensors| {
        let tensor = &mut tensors.iter_mut().find(|(n, _)| n == name).unwrap().1;
        *tensor = tensor.reshape(&[20, 80]).unwrap();
    });
    let error = error(dir.path());
    assert!(error.contains(&format!("tensor {name}: the shape is [20, 80], expected [40, 40]")), "{error}");
}

#[test]
fn a_tensor_that_the_configuration_has_no_place_for_is_an_error() {
    let dir = copy("untied");
    edit(dir.path(), "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    let error = error(dir.path());
    assert!(error.contains("tensor model.layers.1.") && error.contains("no place for it"), "{error}");
}

#[test]
fn a_missing_shard_is_named() {
    let dir = copy("sharded");
    let shard = "model-00002-of-00003.safetensors";
    assert!(dir.path().join(shard).exists());
    std::fs::remove_file(dir.path().join(shard)).unwrap();
    assert!(error(dir.path()).contains(shard));
}

#[test]
fn broken_or_foreign_configurations_are_errors() {
    for (from, to, message) in [
        ("{", "", "config.json: config:"),
        ("\"llama\"", "\"mamba\"", "the model type is \"mamba\", supported are \"llama\""),
        ("\"hidden_size\": 40", "\"hidden_size\": 1e99", "config.json"),
        ("\"hidden_size\": 40", "\"hidden_size\": 4000000000", "hidden_size"),
        ("\"hidden_size\": 40", "\"hidden_size\": 44", "the shape is [67, 40], expected [67, 44]"),
        ("\"vocab_size\": 67", "\"vocab_size\": 16000000", "expected [16000000, 40]"),
        ("\"silu\"", "\"relu\"", "hidden_act"),
    ] {
        let dir = copy("untied");
        edit(dir.path(), "config.json", from, to);
        let error = error(dir.path());
        assert!(error.contains(message), "{to}: {error}");
    }
    let dir = copy("untied");
    std::fs::write(dir.path().join("config.json"), b"{\"model_type\": \"\xff\"}").unwrap();
    assert!(error(dir.path()).contains("not UTF-8"));
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    assert!(error(dir.path()).contains("config.json"));
    assert!(error(Path::new("/no/such/folder")).contains("/no/such/folder"));
}

#[test]
fn a_broken_tokenizer_is_an_error_with_its_path() {
    let dir = copy("untied");
    let config = DecoderConfig::load(dir.path()).unwrap();
    let load = || Tokenizer::load(dir.path(), &config).err().unwrap().to_string();
    assert!(load().contains("tokenizer.json"), "a missing file");
    for content in
        [&b""[..], b"{", b"{}", b"[1, 2]", b"{\"version\": \"1.0\", \"model\": {\"type\": \"X\"}}", b"\xff"]
    {
        std::fs::write(dir.path().join("tokenizer.json"), content).unwrap();
        assert!(load().contains("tokenizer.json"), "{}", load());
    }
}

#[test]
fn ids_and_depths_beyond_the_decoder_are_errors() {
    let decoder = Decoder::load(&fixture("untied"), &Device::Cpu, DType::F32).unwrap();
    assert!(decoder.embed_tokens(&[1, 67]).unwrap_err().to_string().contains("67"));
    let ids = vec![1; 65];
    let rows = Rows::causal(&Device::Cpu, &[65]).unwrap();
    let error = decoder.forward(&decoder.embed_tokens(&ids).unwrap(), &rows).unwrap_err().to_string();
    assert!(error.contains("65 tokens deep, the decoder's context is 64"), "{error}");
    assert!(Rows::causal(&Device::Cpu, &[3]).unwrap().reading(&[3]).is_err());
}

#[test]
fn an_index_over_other_rows_is_an_error() {
    let decoder = Decoder::load(&fixture("untied"), &Device::Cpu, DType::F32).unwrap();
    let mut cache = decoder.new_cache().unwrap();
    let x = decoder.embed_tokens(&[1, 2, 3]).unwrap();
    let rows = Rows::continuing(&Device::Cpu, 5, 3).unwrap();
    let found = decoder.forward_cached(&x, &rows, Resident::Extend(&mut cache));
    assert!(found.unwrap_err().to_string().contains("8 keys, there are 0 resident and 3 own rows"));
    assert_eq!(cache.rows(), 0);
}
