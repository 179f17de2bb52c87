//! The programs in examples/ read what the program wrote.

mod skip;
mod tiny_run;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tiny_run::{SETTINGS, succeed};

/// The interpreter that can run `needs`, or `None` with the reason on standard error.
fn python(needs: &str) -> Option<String> {
    let python = std::env::var("LEA_PYTHON").unwrap_or_else(|_| "python3".into());
    match Command::new(&python).args(["-c", needs]).output() {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            skip::skipped(format_args!("{python} cannot run `{needs}`; name one that can with LEA_PYTHON"));
            None
        }
    }
}

/// Labels of a tiny run in a folder that goes with the value.
fn labels() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), SETTINGS).unwrap();
    let synth = ["data", "synth", "--items", "60", "--users", "90", "--mean-length", "7", "--out", "data"];
    succeed(dir.path(), &synth);
    succeed(dir.path(), &["run", "--config", "c.toml", "--data", "data", "--out", "out"]);
    dir
}

/// What the example `name` prints of the labels in `dir`.
fn run(python: &str, name: &str, dir: &Path, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(dir.join("out/labels")).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn numpy_reads_every_tensor_of_a_labels_folder() {
    let Some(python) = python("import numpy, safetensors") else { return };
    let dir = labels();
    let steps = json(&dir.path().join("out/labels/manifest.json"))["steps"].as_u64().unwrap();
    assert!(steps > 300);
    let printed = run(&python, "read_labels.py", dir.path(), &[]);
    let found: BTreeMap<&str, String> = printed
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name, rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let vector = |kind: &str| format!("{kind} ({steps},)");
    let matrix = |kind: &str, width: usize| format!("{kind} ({steps}, {width})");
    let expected = [
        ("user", vector("uint32")),
        ("t", vector("uint32")),
        ("action", vector("uint32")),
        ("augmented_action", vector("uint32")),
        ("negatives", matrix("uint32", 3)),
        ("reward", vector("float32")),
        ("augmented_reward", vector("float32")),
        ("negative_rewards", matrix("float32", 3)),
        ("state", matrix("float32", 16)),
    ];
    assert_eq!(found, BTreeMap::from(expected), "{printed}");
}

#[test]
fn a_recommender_in_pytorch_learns_from_labels() {
    // Ids are unsigned, which older releases of PyTorch do not know.
    let Some(python) = python("import torch, safetensors; torch.uint32") else { return };
    let dir = labels();
    let printed = run(&python, "train_on_labels.py", dir.path(), &["--epochs", "12"]);
    let lines: Vec<&str> = printed.lines().collect();
    let losses: Vec<f64> = lines[..lines.len() - 1]
        .iter()
        .enumerate()
        .map(|(i, line)| line.strip_prefix(&format!("epoch {}: loss ", i + 1)).unwrap().parse().unwrap())
        .collect();
    assert_eq!(losses.len(), 12);
    // At first it knows nothing: log 60 of the action taken, and a tenth of that of the augmented one.
    let ignorant = 60f64.ln() * 1.1;
    assert!((losses[0] - ignorant).abs() < 0.5 && losses[11] < losses[0] - 0.05, "{printed}");
    let split = json(&dir.path().join("out/labels/split.json"));
    let users = split["test"].as_array().unwrap().len();
    let rate = lines[lines.len() - 1].strip_prefix(&format!("HR@10 of {users} test users: ")).unwrap();
    let rate: f64 = rate.parse().unwrap();
    assert!((0.0..=1.0).contains(&rate), "{printed}");
}
