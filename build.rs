//! Records the revision of the source, which `run.json` names. Probes nothing else of the machine.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LEA_GIT_REVISION");
    // Without these a rebuild after a commit, or after an edit on top of it, would keep the old answer.
    for path in [".git/HEAD", ".git/index", "src", "Cargo.toml", "build.rs"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let given = std::env::var("LEA_GIT_REVISION").ok();
    if let Some(revision) = given.or_else(revision) {
        println!("cargo:rustc-env=LEA_GIT_REVISION={revision}");
    }
}

/// Hash of the commit, with `-dirty` where files were changed since.
fn revision() -> Option<String> {
    // A source folder without `.git` may lie inside somebody else's repository: its revision would say nothing.
    if !Path::new(".git").exists() {
        return None;
    }
    let describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(describe).output().ok()?;
    let revision = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !revision.is_empty()).then_some(revision)
}
