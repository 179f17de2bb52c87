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

/// Runs `args` with `--resume` by a program that `lose` has lose its device after a while, again and again until a run ends
/// before; how often the device was lost. Every loss must say how to go on.
pub fn lose_until_done(workshop: &Workshop, args: &[&str], lose: impl Fn(&mut Command)) -> usize {
    let args = [args, &["--resume", "--checkpoint-every", "0"]].concat();
    for lost in 0..100 {
        let mut command = lea(&args);
        lose(&mut command);
        let output = command.current_dir(workshop.path("")).output().unwrap();
        if output.status.success() {
            return lost;
        }
        let told = refusal(&output);
        assert!(told.contains("was lost") && told.contains("with --resume to go on"), "{told}");
        assert!(!told.contains("panicked"), "{told}");
    }
    panic!("{args:?}: no run comes to its end");
}

/// Labels on a device with room, and again with little by `tighten`: packs shrink in judging and labelling, and the labels
/// have the same bytes. `on` names the device, `prepare` gives the program what it needs for it. What the second run told.
pub fn expect_smaller_packs(
    workshop: &Workshop,
    on: &[&str],
    prepare: impl Fn(&mut Command),
    tighten: impl Fn(&mut Command),
) -> String {
    let run = |out: &str, more: &dyn Fn(&mut Command)| {
        // Other candidates than the LE was judged with: it is judged again, in packs too.
        let mut command = lea(&workshop.label(out, &[on, &["--candidates", "20"]].concat()));
        prepare(&mut command);
        more(&mut command);
        let output = command.current_dir(workshop.path("")).output().unwrap();
        succeed(&output);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    run("roomy", &|_| {});
    let told = run("tight", &tighten);
    let shrunk = told.matches("going on with packs of ").count();
    assert!(told.contains("a pack of ") && shrunk > 1, "judging and labelling shrink packs: {told}");
    assert!(labels(&workshop.path("tight")) == labels(&workshop.path("roomy")), "other bytes");
    told
}
