//! Long steps of the program at a tiny size, started, stopped and gone on with as a user does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const SETTINGS: &str = r#"
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
epochs = 3
batch_tokens = 512

[le]
history = 10

[le.items]
epochs = 2
batch_tokens = 256

[le.fit]
epochs = 2
batch_tokens = 512
lora = { rank = 4 }

[le.label]
candidates = 8
negatives = 3

[rec]
width = 16
epochs = 3
negatives = 3
batch_steps = 128

[plan]
encoders = ["gru4rec"]
variants = ["base", "lea"]
supervised = false
seeds = [5]
"#;

/// The long steps but for labelling.
pub const STEPS: [&str; 6] = ["run", "pretrain", "items", "fit", "train", "demo"];

/// A folder with settings, data, and every step run to its end without a disturbance. Each run has a folder of its own
/// to run in, and writes to `out` there: so that no path that it records differs.
pub struct Workshop {
    dir: PathBuf,
    /// How long each step took.
    times: BTreeMap<&'static str, Duration>,
}

/// Made once for all tests: each of them has folders of its own there.
pub static WORKSHOP: LazyLock<Workshop> = LazyLock::new(Workshop::new);

impl Workshop {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resume");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        let mut workshop = Workshop { dir, times: BTreeMap::new() };
        std::fs::write(workshop.path("c.toml"), SETTINGS).unwrap();
        for (name, users) in [("data", "100"), ("others", "30")] {
            let synth = ["data", "synth", "--items", "60", "--mean-length", "7"];
            let output = Command::new(env!("CARGO_BIN_EXE_lea"))
                .args(synth)
                .args(["--users", users, "--out", name])
                .current_dir(workshop.path(""))
                .output();
            succeed(&output.unwrap());
        }
        for step in STEPS {
            let start = Instant::now();
            succeed(&workshop.command(step, step, &[]).output().unwrap());
            workshop.times.insert(step, start.elapsed());
        }
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the run `name` writes.
    pub fn out(&self, name: &str) -> PathBuf {
        self.path(name).join("out")
    }

    pub fn time(&self, step: &str) -> Duration {
        self.times[step]
    }

    /// `step` in the folder of the run `name`.
    pub fn command(&self, step: &str, name: &str, more: &[&str]) -> Command {
        std::fs::create_dir_all(self.path(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
        command.current_dir(self.path(name)).args(arguments(step)).args(more);
        command
    }

    /// Goes on with the run `name` to its end: the same files with the same bytes as undisturbed.
    pub fn complete(&self, step: &str, name: &str) -> String {
        let told = succeed(&self.command(step, name, &["--resume"]).output().unwrap());
        let (whole, resumed) = (results(&self.out(step)), results(&self.out(name)));
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&whole), names(&resumed), "{step}");
        for (file, bytes) in &whole {
            assert!(*bytes == resumed[file], "{step}: {file} has other bytes");
        }
        told
    }

    /// Starts a run that writes a checkpoint at every step.
    pub fn start(&self, step: &str, name: &str) -> Child {
        let mut command = self.command(step, name, &["--resume", "--checkpoint-every", "0"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts a run and stops it, as by Ctrl-Z, once it has written a checkpoint.
    pub fn stopped(&self, step: &str, name: &str) -> Child {
        let child = self.start(step, name);
        let patience = Instant::now();
        while !self.has_checkpoint(name) {
            assert!(patience.elapsed() < Duration::from_secs(60), "{step}: no checkpoint was written");
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(&child, "STOP");
        child
    }

    pub fn has_checkpoint(&self, name: &str) -> bool {
        let names = std::fs::read_dir(self.out(name)).into_iter().flatten().flatten();
        names.map(|e| e.file_name()).any(|n| {
            let name = n.to_string_lossy();
            name.starts_with("checkpoint-") && name.ends_with(".safetensors")
        })
    }
}

fn arguments(step: &str) -> Vec<&str> {
    if step == "demo" {
        return vec![step, "--quick", "--out", "out"];
    }
    let common = [step, "--config", "../c.toml", "--data", "../data", "--out", "out"];
    let more: &[&str] = match step {
        "items" => &["--decoder", "../run/out/decoder"],
        "fit" => &["--decoder", "../run/out/decoder", "--item-tokens", "../items/out"],
        "train" => &["--labels", "../run/out/labels", "--variant", "lea", "--epochs", "6"],
        _ => &[],
    };
    [&common, more].concat()
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "{name}");
}

pub fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn refusal(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    errors
}

/// Names of all files below `dir`.
pub fn files_below(dir: &Path) -> Vec<String> {
    let (mut files, mut folders) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path.strip_prefix(dir).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    files
}

/// Every file below `dir` with its bytes, but those that tell how long something took; logs without those figures.
pub fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let timed = ["run.json", "report.json", "report.html", "resume.json"];
    let mut files = BTreeMap::new();
    for name in files_below(dir).into_iter().filter(|name| !timed.contains(&&name[..])) {
        let bytes = std::fs::read(dir.join(&name)).unwrap();
        let bytes = match name.ends_with(".jsonl") {
            true => without_times(&String::from_utf8(bytes).unwrap()).into_bytes(),
            false => bytes,
        };
        files.insert(name, bytes);
    }
    files
}

fn without_times(log: &str) -> String {
    let line = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(record) = value.get_mut("record").and_then(|record| record.as_object_mut()) {
            record.remove("seconds");
        }
        if let Some(record) = value.as_object_mut() {
            record.remove("seconds");
        }
        format!("{value}\n")
    };
    log.lines().map(line).collect()
}
