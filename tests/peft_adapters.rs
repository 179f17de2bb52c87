//! Adapters to and from `peft`: the same rewards both ways. tests/fixtures/make_peft.py makes the fixtures;
//! tests/fixtures/check_peft.py repeats the check live where Python has `peft`.

mod skip;

use lea::autograd::{Param, no_grad};
use lea::decoder::{Decoder, DecoderIdentity, LoraConfig, Rows};
use lea::device::{DType, Device};
use lea::le::{Environment, LeConfig, LeRecord, Prompt, peft};
use lea::tensor::Tensor;
use lea::tensor::file::TensorFile;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::process::Command;

const CPU: Device = Device::Cpu;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    folders
}

/// An LE without items: what scores plain text.
fn environment(decoder: Decoder, head: Tensor) -> Environment {
    let items = Tensor::zeros(&CPU, decoder.dtype(), &[1, decoder.config.hidden_size]).unwrap();
    Environment {
        decoder,
        items: Param::frozen("item_tokens", items),
        head: Param::frozen("score", head),
        prompt: Prompt::default(),
        history: 50,
    }
}

fn rewards(env: &Environment, prompts: &[Vec<u32>]) -> Vec<f64> {
    let reward = |ids: &Vec<u32>| {
        let rows = Rows::causal(&CPU, &[ids.len()]).unwrap().reading(&[ids.len() as u32 - 1]).unwrap();
        let hidden = env.decoder.forward(&env.embed(ids).unwrap(), &rows).unwrap();
        env.rewards(&hidden).unwrap().value().item().unwrap()
    };
    no_grad(|| prompts.iter().map(reward).collect())
}

fn apart(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let apart = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    found.iter().zip(expected).map(apart).fold(0.0, f64::max)
}

/// Reads every PEFT folder in `dir` and compares its rewards with those beside it.
fn read_all(dir: &Path) {
    let all = folders(dir);
    assert!(all.len() >= 5, "{} folders", all.len());
    for folder in all {
        let expected = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
        let shape = expected.shape("ids").unwrap().to_vec();
        let ids = expected.read_ids("ids", &shape).unwrap();
        let prompts: Vec<Vec<u32>> = ids.chunks(shape[1]).map(<[u32]>::to_vec).collect();
        let want = expected.read("rewards", &shape[..1], &CPU, DType::F64).unwrap().to_f64_vec().unwrap();
        let base = fixtures().join(expected.metadata("decoder").unwrap());
        for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F32, 3e-5)] {
            let base = Decoder::load(&base, &CPU, dtype).unwrap();
            let adapted = peft::read_adapter(&folder, &base).unwrap();
            let env = environment(adapted.decoder, adapted.head.clone());
            for env in [&env, &env.merged().unwrap()] {
                let error = apart(&rewards(env, &prompts), &want);
                assert!(error <= tolerance, "{} in {dtype}: {error}", folder.display());
            }
            let bare = environment(base, adapted.head);
            assert!(apart(&rewards(&bare, &prompts), &want) > 1e-2, "{}: idle adapters", folder.display());
        }
    }
}

#[test]
fn adapters_of_peft_give_the_rewards_that_peft_gives() {
    read_all(&fixtures().join("peft"));
}

#[test]
fn an_adapter_for_another_decoder_or_without_its_head_is_refused() {
    let base = |name: &str| Decoder::load(&fixtures().join("family").join(name), &CPU, DType::F32).unwrap();
    let error = |dir: &Path, base: &Decoder| match peft::read_adapter(dir, base) {
        Ok(_) => panic!("{} was read", dir.display()),
        Err(e) => e.to_string(),
    };
    let some_layers = fixtures().join("peft/some_layers");
    let found = error(&some_layers, &base("qwen2"));
    assert!(found.contains("tensor base_model.model.model.layers."), "{found}");
    let dir = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(some_layers.join(name), dir.path().join(name)).unwrap();
    }
    let right = base("qwen3_mixed_window_bias");
    peft::read_adapter(dir.path(), &right).unwrap();
    std::fs::rename(dir.path().join("adapter_model.safetensors"), dir.path().join("adapter_model.bin"))
        .unwrap();
    let found = error(dir.path(), &right);
    assert!(found.contains("safe_serialization=True"), "{found}");
}

/// An LE with adapters of the kinds that settings can name, on the decoder of `fixture`, in `dir`.
fn write_ours(dir: &Path, fixture: &str, lora: LoraConfig, seed: u64) -> (Environment, Vec<Vec<u32>>) {
    let mut decoder = Decoder::load(&fixtures().join(fixture), &CPU, DType::F32).unwrap();
    decoder.save(&dir.join("decoder")).unwrap();
    decoder.add_lora(&lora, seed).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut random = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-0.5f32..0.5)).collect();
        Tensor::from_slice(&CPU, &values, shape).unwrap()
    };
    decoder.lora_params().iter().for_each(|p| p.set(random(p.value().shape())));
    let head = random(&[decoder.config.hidden_size]);
    let env = environment(decoder, head);
    let mut settings = LeConfig { history: 50, ..LeConfig::default() };
    settings.fit.lora = lora;
    let record = LeRecord {
        decoder: DecoderIdentity::of(&dir.join("decoder")).unwrap(),
        items_hash: "items".into(),
        data_hash: "data".into(),
        split_hash: "split".into(),
        seed,
        settings,
        training: serde_json::Value::Null,
    };
    peft::save(&env, &record, &dir.join("decoder"), &dir.join("le")).unwrap();
    let prompts: Vec<Vec<u32>> =
        (0..3u32).map(|user| (0..11u32).map(|t| (t * (user + 3) + 5 * user) % 37).collect()).collect();
    std::fs::write(dir.join("ids.json"), serde_json::to_vec(&prompts).unwrap()).unwrap();
    (env, prompts)
}

/// The interpreter that has `peft`, or `None` with the reason on standard error.
fn python() -> Option<String> {
    let python = std::env::var("LEA_PYTHON").unwrap_or_else(|_| "python3".into());
    match Command::new(&python).args(["-c", "import peft, transformers"]).output() {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            skip::skipped(format_args!(
                "{python} has no peft and transformers; name one that has with LEA_PYTHON"
            ));
            None
        }
    }
}

#[test]
fn live_peft_reads_ours_and_we_read_what_it_makes_now() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let plain = LoraConfig { rank: 3, alpha: 4.5, ..LoraConfig::default() };
    let patterned = LoraConfig {
        targets: names(&["q_proj", "o_proj", "model.layers.1.mlp.up_proj"]),
        rank: 2,
        use_rslora: true,
        rank_pattern: [("layers.0.self_attn.q_proj".to_string(), 4)].into(),
        alpha_pattern: [("up_proj".to_string(), 7.0), ("o_proj".to_string(), 2.5)].into(),
        ..LoraConfig::default()
    };
    let all = names(&["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]);
    let cases = [
        ("family/linear_rope_old", plain),
        ("family/qwen2_late_window_old", patterned),
        ("family/qwen3_mixed_window_bias", LoraConfig { targets: all, rank: 1, ..LoraConfig::default() }),
    ];
    let mut written = Vec::new();
    for (i, (fixture, lora)) in cases.into_iter().enumerate() {
        let folder = dir.path().join("ours").join(i.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        written.push((folder.clone(), write_ours(&folder, fixture, lora, 40 + i as u64)));
    }
    let script = fixtures().join("check_peft.py");
    let output = Command::new(python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(script)
        .arg(dir.path())
        .arg("77")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (folder, (env, prompts)) in written {
        let theirs = std::fs::read(folder.join("rewards.json")).unwrap();
        let theirs: Vec<f64> = serde_json::from_slice(&theirs).unwrap();
        let error = apart(&rewards(&env, &prompts), &theirs);
        assert!(error < 3e-5 && theirs.iter().any(|r| r.abs() > 0.1), "{}: {error}", folder.display());
    }
    read_all(&dir.path().join("theirs"));
}
