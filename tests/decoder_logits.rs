//! Logits against those of `transformers`; tests/fixtures/make_logits.py makes the expected values.

mod skip;

use lea::decoder::{Decoder, DecoderConfig, GenerateConfig, Resident, Rows, Tokenizer, generate};
use lea::device::{DType, Device};
use lea::tensor::file::TensorFile;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The stories260K model among the shared data, where a checkout has them.
fn stories() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared", "../../shared"].map(|p| here.join(p));
    let shared = std::env::var_os("LEA_SHARED").map(PathBuf::from);
    let found = shared.into_iter().chain(places).map(|p| p.join("data/llm-stories260k"));
    let found = found.into_iter().find(|p| p.join("config.json").exists());
    if found.is_none() {
        skip::skipped(format_args!("no data/llm-stories260k in ../shared, ../../shared or $LEA_SHARED"));
    }
    found
}

fn logits(decoder: &Decoder, texts: &[&[u32]]) -> Vec<f64> {
    let lengths: Vec<usize> = texts.iter().map(|ids| ids.len()).collect();
    let x = decoder.embed_tokens(&texts.concat()).unwrap();
    let hidden = decoder.forward(&x, &Rows::causal(&decoder.device(), &lengths).unwrap()).unwrap();
    let logits = decoder.logits(&decoder.final_norm(&hidden).unwrap()).unwrap();
    logits.value().to_f64_vec().unwrap()
}

/// Largest difference; NaN and a wrong length count as infinite.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let apart = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    found.iter().zip(expected).map(apart).fold(0.0, f64::max)
}

#[test]
fn logits_of_random_models_equal_those_of_transformers() {
    let inside = |dir: &str| std::fs::read_dir(fixtures().join(dir)).unwrap().map(|e| e.unwrap().path());
    let mut folders: Vec<PathBuf> = inside("llama").chain(inside("family")).collect();
    folders.sort();
    assert!(folders.len() >= 15);
    for folder in folders {
        let expected = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
        let shape = expected.shape("logits").unwrap().to_vec();
        let ids = expected.read_ids("ids", &shape[..2]).unwrap();
        let texts: Vec<&[u32]> = ids.chunks(shape[1]).collect();
        let want = expected.read("logits", &shape, &Device::Cpu, DType::F64).unwrap().to_f64_vec().unwrap();
        // The reference itself is in f64 but for its rotary angles, which `transformers` keeps in f32.
        for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F32, 3e-5)] {
            let decoder = Decoder::load(&folder, &Device::Cpu, dtype).unwrap();
            let error = distance(&logits(&decoder, &texts), &want);
            assert!(error <= tolerance, "{} in {dtype}: {error}", folder.display());
        }
    }
}

#[test]
fn stories260k_reads_and_goes_on_as_in_transformers() {
    let Some(folder) = stories() else { return };
    let decoder = Decoder::load(&folder, &Device::Cpu, DType::F32).unwrap();
    let tokenizer = Tokenizer::load(&folder, &decoder.config).unwrap();
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("stories260k.json")).unwrap()).unwrap();
    let numbers = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let ids_of = |v: &serde_json::Value| numbers(v).into_iter().map(|x| x as u32).collect::<Vec<_>>();
    assert!(cases.as_array().unwrap().len() >= 3);
    for case in cases.as_array().unwrap() {
        let mut ids = tokenizer.encode_prompt(case["prompt"].as_str().unwrap()).unwrap();
        assert_eq!(ids, ids_of(&case["ids"]));
        let all = logits(&decoder, &[&ids]);
        let vocab = decoder.config.vocab_size;
        let error = distance(&all[(ids.len() - 1) * vocab..], &numbers(&case["last_logits"]));
        assert!(error < 2e-4, "{error}");
        let greedy = ids_of(&case["greedy"]);
        let config = GenerateConfig { max_tokens: greedy.len(), ..Default::default() };
        let found = generate(&decoder, &tokenizer, &ids, &config, |_| Ok(()));
        assert_eq!(found.unwrap(), greedy);
        ids.extend(greedy);
        assert_eq!(tokenizer.decode(&ids).unwrap(), case["text"].as_str().unwrap());
    }
}

#[test]
fn a_saved_model_of_any_family_loads_with_the_same_bits() {
    let families = std::fs::read_dir(fixtures().join("family")).unwrap().map(|e| e.unwrap().path());
    for folder in families.chain([fixtures().join("llama/untied")]) {
        let decoder = Decoder::load(&folder, &Device::Cpu, DType::F32).unwrap();
        let dir = tempfile::tempdir().unwrap();
        decoder.save(dir.path()).unwrap();
        let again = Decoder::load(dir.path(), &Device::Cpu, DType::F32).unwrap();
        assert_eq!(decoder.config, again.config);
        assert_eq!(DecoderConfig::load(dir.path()).unwrap(), decoder.config);
        let ids: &[u32] = &[1, 5, 9, 33, 2, 30, 7, 7];
        assert_eq!(logits(&decoder, &[ids]), logits(&again, &[ids]));
    }
}

#[test]
fn cached_passes_give_the_bits_of_one_pass() {
    for folder in ["llama/grouped_tied", "family/mistral_window", "family/qwen3_mixed_window_bias"] {
        cached_passes_give_the_bits_of_one_pass_of(folder);
    }
}

fn cached_passes_give_the_bits_of_one_pass_of(folder: &str) {
    let decoder = Decoder::load(&fixtures().join(folder), &Device::Cpu, DType::F32).unwrap();
    let ids: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % 37).collect();
    let rows = Rows::causal(&Device::Cpu, &[40]).unwrap();
    let whole = decoder.forward(&decoder.embed_tokens(&ids).unwrap(), &rows).unwrap();
    let whole = whole.value().to_vec::<f32>().unwrap();
    let mut cache = decoder.new_cache().unwrap();
    let mut parts = Vec::new();
    for (start, end) in [(0, 7), (7, 8), (8, 30), (30, 40)] {
        let rows = Rows::continuing(&Device::Cpu, start, end - start).unwrap();
        let x = decoder.embed_tokens(&ids[start..end]).unwrap();
        let part = decoder.forward_cached(&x, &rows, Resident::Extend(&mut cache)).unwrap();
        parts.extend(part.value().to_vec::<f32>().unwrap());
        assert_eq!(cache.rows(), end);
    }
    assert!(parts == whole);
}
