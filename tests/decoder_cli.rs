//! `lea generate` and `lea pretrain` as a user runs them.

use lea::decoder::{Decoder, DecoderConfig};
use lea::device::{DType, Device};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn lea(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lea")).args(arguments).output().unwrap()
}

fn failure(arguments: &[&str]) -> String {
    let output = lea(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(text.lines().last().unwrap().starts_with("error: "), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Two hundred items whose texts follow one grammar.
fn catalogue(dir: &Path) -> PathBuf {
    let colours = ["red", "blue", "green", "grey"];
    let item = |i: usize| format!("{i}\t{} hose, size {}\n", colours[i % 4], i / 4);
    let items: String = std::iter::once("item_id\ttitle\n".into()).chain((0..200).map(item)).collect();
    std::fs::write(dir.join("items.tsv"), items).unwrap();
    let event = |i: usize| format!("{}\t{}\t{}\n", i / 5, i % 200, i % 5);
    let events = std::iter::once("user_id\titem_id\tposition\n".into()).chain((0..200).map(event));
    std::fs::write(dir.join("interactions.tsv"), events.collect::<String>()).unwrap();
    dir.to_path_buf()
}

#[test]
fn a_pretrained_decoder_continues_text_and_its_folder_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (catalogue(dir.path()), dir.path().join("decoder"));
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    let settings = dir.path().join("run.toml");
    // The flags below stand over the epochs here; the other keys count.
    let toml = "[pretrain]\nhidden = 16\nlayers = 1\nheads = 2\nkv_heads = 1\nffn = 32\nepochs = 90\n";
    std::fs::write(&settings, toml).unwrap();
    let mut command = vec!["pretrain", "--data", data, "--out", out, "--epochs", "2", "--vocab", "300"];
    command.extend(["--batch-tokens", "128", "--config", settings.to_str().unwrap()]);
    let output = lea(&command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in ["config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "run.json"] {
        assert!(Path::new(out).join(file).exists(), "{file}");
    }
    let record = std::fs::read_to_string(Path::new(out).join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(
        (&record["configuration"]["hidden"], &record["configuration"]["epochs"]),
        (&16.into(), &2.into())
    );
    let say = |seed: &str| {
        let sampled = ["--temperature", "1", "--seed", seed, "--max-tokens", "12"];
        let output = lea(&[&["generate", "--decoder", out, "red hose"][..], &sampled].concat());
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(say("1").starts_with("red hose"));
    assert_eq!(say("1"), say("1"));
    assert_ne!(say("1"), say("2"));
    assert!(failure(&command).contains("exists and is not empty"));
}

#[test]
fn mistakes_end_in_one_message_with_a_remedy() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama/untied");
    let fixture = fixture.to_str().unwrap();
    assert!(failure(&["generate", "--decoder", "/no/such/folder", "x"]).contains("/no/such/folder"));
    assert!(failure(&["generate", "--decoder", fixture, "x"]).contains("tokenizer.json"));
    let dir = tempfile::tempdir().unwrap();
    let data = catalogue(dir.path());
    let (data, out) = (data.to_str().unwrap(), dir.path().join("decoder"));
    let heads = failure(&["pretrain", "--data", data, "--out", out.to_str().unwrap(), "--heads", "3"]);
    assert!(heads.contains("3 heads do not divide"), "{heads}");
    assert!(!out.exists(), "nothing is written before the settings are checked");
}

#[test]
fn one_changed_byte_of_a_large_decoder_is_seen_when_a_step_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("items.tsv"), "item_id\ttitle\n0\tred hose\n1\tblue pump\n").unwrap();
    let events = "user_id\titem_id\tposition\na\t0\t0\na\t1\t1\nb\t1\t0\nb\t0\t1\nc\t0\t0\nc\t1\t1\n";
    std::fs::write(path("interactions.tsv"), events).unwrap();
    let toml = "[pretrain]\nhidden = 16\nlayers = 1\nheads = 2\nkv_heads = 1\nffn = 32\nvocab = 258\nepochs = 1\n\
                [le.items]\nepochs = 0\n";
    std::fs::write(path("c.toml"), toml).unwrap();
    let cache = path("cache");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
        command.args(arguments).current_dir(dir.path()).env("XDG_CACHE_HOME", &cache);
        let output = command.output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    };
    let (made, told) = run(&["pretrain", "--data", ".", "--config", "c.toml", "--out", "large"]);
    assert!(made, "{told}");
    let small = Decoder::load(&path("large"), &Device::Cpu, DType::F32).unwrap().config;
    let config = DecoderConfig { hidden_size: 256, intermediate_size: 24_000, head_dim: 128, ..small };
    let large = Decoder::random(config, 1, &Device::Cpu, DType::F32, false).unwrap();
    large.save(&path("large")).unwrap();

    let items =
        ["items", "--config", "c.toml", "--data", ".", "--decoder", "large", "--out", "items", "--resume"];
    for _ in 0..2 {
        let (resumed, told) = run(&items);
        assert!(resumed, "{told}");
    }
    let weights = path("large/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    assert!(bytes.len() > 64 << 20);
    let place = bytes.len() / 3;
    bytes[place] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let (resumed, told) = run(&items);
    assert!(!resumed && told.contains("decoder"), "{told}");
    // It has not changed for long, and is known from here on.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let identity =
        || run(&["inspect", "large"]).1.lines().find(|l| l.contains("identity")).map(str::to_string);
    assert!(identity().is_some() && identity() == identity());
    assert_eq!(std::fs::read_dir(cache.join("lea")).unwrap().count(), 1);
}
