//! A tiny data set with a decoder and an LE, made by the program, and labelling it as a user does.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
epochs = 1

[le]
history = 10

[le.items]
epochs = 0

[le.fit]
epochs = 1
batch_tokens = 512
lora = { rank = 4 }

[le.label]
candidates = 8
negatives = 3
augmented_states = true
pack_tokens = 600
"#;

/// The program with `args`.
pub fn lea(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
    command.args(args);
    command
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

/// The folder with everything that labelling needs: `c.toml`, `data`, `decoder`, `le`.
pub struct Workshop(pub tempfile::TempDir);

impl Workshop {
    /// For `users` users.
    pub fn new(users: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.toml"), SETTINGS).unwrap();
        let workshop = Workshop(dir);
        let users = users.to_string();
        workshop.run(&[
            "data",
            "synth",
            "--items",
            "60",
            "--users",
            &users,
            "--mean-length",
            "7",
            "--out",
            "data",
        ]);
        let common = ["--config", "c.toml", "--data", "data"];
        let with = |first: &[&str], more: &[&str]| workshop.run(&[first, &common, more].concat());
        with(&["pretrain"], &["--out", "decoder"]);
        with(&["items"], &["--decoder", "decoder", "--out", "items"]);
        with(&["fit"], &["--decoder", "decoder", "--item-tokens", "items", "--out", "le"]);
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program in the folder, to success.
    pub fn run(&self, args: &[&str]) -> String {
        succeed(&lea(args).current_dir(self.0.path()).output().unwrap())
    }

    /// Runs the program in the folder, to an error.
    pub fn refused(&self, args: &[&str]) -> String {
        refusal(&lea(args).current_dir(self.0.path()).output().unwrap())
    }

    /// The arguments of `lea label` into `out`.
    pub fn label<'a>(&self, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let common = ["label", "--config", "c.toml", "--data", "data", "--decoder", "decoder", "--le", "le"];
        [&common[..], &["--out", out], more].concat()
    }

    /// The arguments of `lea labels verify` of `dir`.
    pub fn verify<'a>(&self, dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let common = ["--config", "c.toml", "--data", "data", "--decoder", "decoder", "--le", "le"];
        [&["labels", "verify", dir], &common[..], more].concat()
    }
}

/// The bytes of all files of a labels folder but those that tell how long it took.
pub fn labels(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("labels-") || name == "manifest.json" || name == "split.json" {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}
