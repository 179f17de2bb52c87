//! The program at a size that takes a second: settings of a whole run, and calls that must succeed.

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
