//! Records the revision of the source, which `run.json` names, and embeds the kernels' PTX. Probes nothing else of the
//! machine, and needs no compiler but Rust's.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LEA_GIT_REVISION");
    // Without these a rebuild after a commit, or after an edit on top of it, would keep the old answer.
    for path in [".git/HEAD", ".git/index", "src", "kernels", "Cargo.toml", "build.rs"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let given = std::env::var("LEA_GIT_REVISION").ok();
    if let Some(revision) = given.or_else(revision) {
        println!("cargo:rustc-env=LEA_GIT_REVISION={revision}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("ptx.rs");
    std::fs::write(&out, embed_ptx()).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
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

/// The table of all files under `kernels/ptx`. Tells of each that is older than its source, and of sources without one.
fn embed_ptx() -> String {
    let mut table = String::from("/// PTX of every kernel file.\npub static PTX: &[Ptx] = &[\n");
    let mut with_ptx = BTreeSet::new();
    for path in files("kernels/ptx", "ptx") {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let (name, arch) = stem.split_once(".sm_").expect("NAME.sm_ARCHITECTURE.ptx");
        let source = Path::new("kernels").join(format!("{name}.cu"));
        let hash = source_hash(&source);
        let text = read(&path);
        let made_from = text.lines().next().and_then(|line| line.strip_prefix("// made from "));
        let made_from = made_from.unwrap_or_default();
        if made_from != hash {
            println!("cargo:warning={} is newer than its PTX: run scripts/ptx", source.display());
        }
        let only = arch.ends_with('a');
        let capability = arch.trim_end_matches('a');
        let absolute = std::fs::canonicalize(&path).expect("it was just read");
        writeln!(
            table,
            "    Ptx {{ name: {name:?}, capability: {capability}, only: {only}, text: include_str!({absolute:?}), \
             made_from: {made_from:?}, source: {hash:?} }},"
        )
        .expect("a string takes all");
        with_ptx.insert(name.to_string());
    }
    for source in files("kernels", "cu") {
        let name = source.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !with_ptx.contains(name) {
            println!("cargo:warning={} has no PTX yet: run scripts/ptx", source.display());
        }
    }
    table + "];\n"
}

/// SHA-256 of a file and of the headers that it includes, in the order of their names: what scripts/ptx computes too.
fn source_hash(source: &Path) -> String {
    let mut headers = BTreeSet::new();
    include(source, &mut headers);
    let mut hasher = Sha256::new();
    for path in std::iter::once(&source.to_path_buf()).chain(&headers) {
        hasher.update(read(path));
    }
    hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

fn include(file: &Path, headers: &mut BTreeSet<PathBuf>) {
    for line in read(file).lines() {
        let Some(name) = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) else {
            continue;
        };
        let name = name.strip_prefix("common/").unwrap_or(name);
        let path = Path::new("kernels/common").join(name);
        if name.ends_with(".cuh") && headers.insert(path.clone()) {
            include(&path, headers);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of one kind in a folder, by name.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder that reads").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}
