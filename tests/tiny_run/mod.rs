//! The program at a size that takes a second: settings of a whole run, calls that must succeed, and the whole method on a
//! device beside the CPU.
#![allow(dead_code, reason = "each test file uses a part")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

pub const SETTINGS: &str = r#"
seed = 3

[pretrain]
hidden = 16
layers = 1
heads = 2
kv_heads = 1
ffn = 32
vocab = 280
context = 96
text_tokens = 32
epochs = 1
batch_tokens = 1024

[le]
history = 10

[le.items]
epochs = 1

[le.fit]
epochs = 2
batch_tokens = 512
lora = { rank = 4 }

[le.label]
candidates = 8
negatives = 3
users_per_file = 40

[rec]
width = 16
epochs = 2
negatives = 3

[plan]
variants = ["base", "lea"]
seeds = [5]
"#;

/// Runs the program in `folder`.
pub fn lea(folder: impl AsRef<Path>, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lea"))
        .current_dir(folder)
        .args(args)
        .output()
        .expect("the program starts")
}

/// Runs it; what it printed, and what it told on the side.
pub fn succeed(folder: impl AsRef<Path>, args: &[&str]) -> (String, String) {
    let output = lea(folder, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "lea {}: {told}", args.join(" "));
    (printed, told)
}

/// Data of 60 items and 120 users in `data`.
fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(
        folder.path(),
        &["data", "synth", "--items", "60", "--users", "120", "--seed", "2", "--out", "data"],
    );
    folder
}

pub fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// NDCG@10 of every row of a run's metrics.
fn ndcg(run: &Path) -> Vec<f64> {
    let metrics = json(run.join("metrics.json"));
    let of = |row: &Value| row["mean"]["ndcg@10"].as_f64().expect("a number");
    let found: Vec<f64> = metrics["rows"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(found.len(), 9, "{metrics}");
    found
}

/// Runs the whole method with `settings` on the CPU and, by `on_device`, twice on a device: it must reach the CPU's metrics
/// and repeat to the byte. What the first run on the device told, and its record.
pub fn expect_the_metrics_of_the_cpu(
    settings: &str,
    on_device: impl Fn(&Path, &[&str]) -> Output + Sync,
) -> (String, Value) {
    let folder = data();
    std::fs::write(folder.path().join("c.toml"), settings).unwrap();
    let at = |name: &str| folder.path().join(name);
    let args = |out| ["run", "--config", "c.toml", "--data", "data", "--out", out];
    let run = |out| {
        let output = on_device(folder.path(), &args(out));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        told
    };
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(|| run("device"));
        run("again");
        succeed(folder.path(), &args("cpu"));
        told.join().unwrap()
    });
    for (cpu, device) in ndcg(&at("cpu")).iter().zip(ndcg(&at("device"))) {
        // Roundings differ, so a near tie may fall the other way: a few of 62 ranked lists at most.
        assert!((cpu - device).abs() < 0.03, "{cpu} on the CPU and {device} on the device");
    }
    for file in ["labels/labels-00000-of-00003.safetensors", "metrics.json", "le/adapter_model.safetensors"] {
        let [one, two] = ["device", "again"].map(|out| std::fs::read(at(out).join(file)).unwrap());
        assert!(one == two, "{file} differs between two runs on one device");
    }
    (told, json(at("device").join("run.json")))
}
